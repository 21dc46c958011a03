"""Constants of single operators: the exact supremum, from a module to the checker."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from property_modules import Buffered, Function
from test_sorting import checked, jacobian
from torch import Tensor, nn

from verification import witness
from verification.capture import capture
from verification.lipschitz import derive
from verification.running_error import evaluate

W = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(0))


def along_one(n: int) -> list[Tensor]:
    """Points where one entry outgrows the others, more and more."""
    return [t * torch.eye(n)[0] for t in (1.0, 5.0, 20.0, 40.0)]


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_log_softmax_has_the_root_of_its_entries(n: int) -> None:
    """Not sqrt(2) for every n, nor the 1 + sqrt(n) of its two terms."""
    graph = capture(nn.LogSoftmax(1), (n,))
    points = [*torch.randn(30, n, generator=torch.Generator().manual_seed(0)), *along_one(n)]
    norms = [float(torch.linalg.matrix_norm(jacobian(graph, x), 2)) for x in points]
    upper = derive(graph).upper
    exact = math.sqrt(n) if n > 1 else 0.0
    assert max(norms) <= upper * (1 + 1e-12)
    assert max(norms) >= exact * (1 - 1e-12)
    assert exact * (1 - 1e-15) <= upper <= exact * (1 + 1e-15)


def test_a_smaller_constant_of_log_softmax_is_refuted(tmp_path: Path) -> None:
    linear = nn.Linear(6, 6, bias=False)
    nn.init.eye_(linear.weight)
    module = nn.Sequential(linear, nn.LogSoftmax(1))
    claims = ("lipschitz<=2.4495", "lipschitz<=1.4143")
    assert checked(tmp_path, module, (6,), *claims) == ["proved", "refuted"]


def test_logsumexp_is_1_lipschitz(tmp_path: Path) -> None:
    graph = capture(Function(lambda x: x.logsumexp(1)), (5,))
    norms = [float(jacobian(graph, x).norm()) for x in along_one(5)]
    assert 1 - 1e-12 <= max(norms) <= derive(graph).upper == 1
    module = Function(lambda x: x.logsumexp((1, 3)))
    claims = ("lipschitz<=1", "lipschitz<=0.25")
    assert checked(tmp_path, module, (3, 2, 4), *claims) == ["proved", "refuted"]


@pytest.mark.parametrize("n", [1, 2, 5, 30])
def test_partial_sums_have_their_exact_norm(n: int, tmp_path: Path) -> None:
    exact = 1 / (2 * math.sin(math.pi / (4 * n + 2)))
    upper = derive(capture(Function(lambda x: x.cumsum(1)), (n, 2))).upper
    assert exact * (1 - 1e-14) <= upper <= exact * (1 + 1e-9)
    if n == 5:
        claims = (f"lipschitz<={exact + 1e-6}", f"lipschitz<={exact - 1e-2}", "volume-preserving")
        module = Function(lambda x: x.cumsum(1))
        assert checked(tmp_path, module, (n,), *claims) == ["proved", "refuted", "proved"]


EINSUMS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "a matrix": lambda x, w: torch.einsum("bjik,ikl->blj", x, w),
    "in groups": lambda x, w: torch.einsum("ijk,bijl->bkil", w, x[..., :3]),
    "outwards": lambda x, w: torch.einsum("bij,klm->bijklm", x[..., 0], w),
}


@pytest.mark.parametrize("name", EINSUMS)
def test_a_sum_of_products_is_its_matrix(name: str, tmp_path: Path) -> None:
    function, shape = EINSUMS[name], (3, 2, 4)
    weight = W.permute(1, 2, 0) if name == "a matrix" else W
    shape = (5, 2, 4) if name == "a matrix" else shape
    module = Buffered(function, weight.contiguous())
    graph = capture(module, shape)
    basis = torch.eye(math.prod(shape), dtype=torch.float64).reshape(-1, *shape)
    matrix = module.double()(basis).flatten(1)
    exact = float(torch.linalg.matrix_norm(matrix, 2))
    module.float()
    assert exact * (1 - 1e-13) <= derive(graph).upper <= exact * (1 + 1e-9)
    claims = (f"lipschitz<={exact + 1e-6}", f"lipschitz<={exact * 0.99}")
    assert checked(tmp_path, module, shape, *claims) == ["proved", "refuted"]


@pytest.mark.parametrize("size", [1e-3, 1.0, 300.0])
def test_logarithms_are_replayed_within_their_error(size: float) -> None:
    """Against ball arithmetic, which shares nothing but the graph."""
    from verification.balls_graph import enclose
    from verification.interpret import Interpreter

    for module in (nn.LogSoftmax(1), Function(lambda x: x.logsumexp(1, keepdim=True))):
        graph = capture(nn.Sequential(nn.Linear(5, 6), module).eval(), (5,))
        x = size * torch.randn(4, 5, generator=torch.Generator().manual_seed(1))
        found = evaluate(Interpreter(graph), x.double())
        for example, value, error in zip(x, found.value, found.error, strict=True):
            exact = enclose(graph, example.double()).value
            off = ((value - exact.mid[0]).abs() - exact.rad[0]).clamp_min(0).norm()
            assert float(off) <= float(error) <= 1e-9 * (1 + size)


def test_a_witness_of_a_classifier_that_ends_in_a_logarithm() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3), nn.LogSoftmax(-1)).eval()
    graph = capture(net, (4,))
    pair = witness.search(net, (4,), graph=graph, budget_seconds=0.5)
    assert pair is not None
    assert 0 < pair.ratio <= derive(graph).upper < math.inf
