"""Local constants: never below what the graph does in the ball, and worth having."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from property_modules import Buffered
from random_modules import Sorted
from torch import Tensor, nn

from verification import audit, local
from verification.capture import capture
from verification.graph import Graph
from verification.interpret import Interpreter
from verification.lipschitz import derive
from verification.local import certified_radius_local, local_constant
from verification.radius import certified_radius


class Step(nn.Module):
    """x - h Wᵀσ(Wx + b)."""

    def __init__(self, n: int, m: int, activation: nn.Module):
        super().__init__()
        self.inner, self.activation = nn.Linear(n, m), activation

    def forward(self, x: Tensor) -> Tensor:
        weight = self.inner.weight
        assert isinstance(weight, Tensor)
        return x - 0.4 * F.linear(self.activation(self.inner(x)), weight.T)


MODULES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "relu": (lambda: nn.Sequential(nn.Linear(4, 12), nn.ReLU(), nn.Linear(12, 3)), (4,)),
    "deep": (
        lambda: nn.Sequential(
            nn.Linear(4, 9), nn.LeakyReLU(0.2), nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 3)
        ),
        (4,),
    ),
    "step": (lambda: nn.Sequential(Step(4, 7, nn.ReLU()), Step(4, 5, nn.LeakyReLU(-0.5))), (4,)),
    "smooth": (lambda: nn.Sequential(nn.Linear(4, 9), nn.Tanh(), nn.Linear(9, 3)), (4,)),
    "image": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 3, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(12, 3), nn.Softmax(1),
        ),
        (1, 4, 4),
    ),
    "sorted": (lambda: nn.Sequential(nn.Linear(4, 6), Sorted(3), nn.Linear(6, 3)), (4,)),
    "constant": (lambda: nn.Sequential(nn.Linear(4, 3), nn.Hardtanh(), nn.PReLU(3)), (4,)),
}  # fmt: skip


def made(name: str) -> tuple[Graph, Tensor]:
    torch.manual_seed(2)
    make, shape = MODULES[name]
    return capture(make().eval(), shape), torch.randn(shape)


def ratio(graph: Graph, x0: Tensor, r: float) -> float:
    """The largest ratio of pairs in the ball, and derivative at points of it, but for rounding."""
    run = Interpreter(graph)
    generator = torch.Generator().manual_seed(0)
    x, y = (_around(x0, r, generator) for _ in range(2))
    moved = (run(x) - run(y)).flatten(1).norm(dim=1) / (x - y).flatten(1).norm(dim=1)
    slopes = [torch.linalg.matrix_norm(_jacobian(run, point), ord=2) for point in x[:40]]
    return float(torch.stack([moved.max(), *slopes]).max()) * (1 - 1e-9)


def _around(x0: Tensor, r: float, generator: torch.Generator) -> Tensor:
    n = x0.numel()
    d = torch.randn(300, *x0.shape, generator=generator, dtype=torch.float64)
    lengths = torch.rand(300, generator=generator, dtype=torch.float64) ** (1 / n)
    return x0.double() + d * (lengths / d.flatten(1).norm(dim=1)).reshape(-1, *[1] * x0.ndim) * r


def _jacobian(run: Interpreter, x: Tensor) -> Tensor:
    found = torch.autograd.functional.jacobian(lambda z: run(z[None])[0], x)
    assert isinstance(found, Tensor)
    return found.reshape(-1, x.numel())


@pytest.mark.parametrize("r", [0.0, 0.05, 0.5, 5.0])
@pytest.mark.parametrize("name", MODULES)
def test_no_ratio_in_the_ball_is_above_the_constant(name: str, r: float):
    graph, x0 = made(name)
    found = local_constant(graph, x0, r)
    assert ratio(graph, x0, max(r, 1e-6)) <= local_constant(graph, x0, max(r, 1e-6))
    assert found <= derive(graph).upper


@pytest.mark.parametrize("name", ["relu", "deep", "step"])
def test_it_grows_from_the_derivative_to_the_global_constant(name: str):
    graph, x0 = made(name)
    sizes = [local_constant(graph, x0, r) for r in (1e-6, 0.03, 0.3, 1e3)]
    exact = float(torch.linalg.matrix_norm(_jacobian(Interpreter(graph), x0.double()), ord=2))
    assert sizes[0] == pytest.approx(exact, rel=1e-6)
    assert sizes == sorted(sizes)
    assert sizes[0] < 0.9 * sizes[-1]


def test_a_ball_that_is_taken_for_its_centre_is_caught(monkeypatch: pytest.MonkeyPatch):
    graph, x0 = made("relu")
    monkeypatch.setattr(local, "_reach", lambda x, r: torch.zeros_like(x.matrix.mid[:1]))
    assert ratio(graph, x0, 5.0) > local_constant(graph, x0, 5.0)


def test_a_graph_too_large_has_its_global_constant(monkeypatch: pytest.MonkeyPatch):
    graph, x0 = made("relu")
    monkeypatch.setattr(local, "ENTRIES", 8)
    assert local_constant(graph, x0, 1e-3) == derive(graph).upper
    with pytest.raises(ValueError, match="radius"):
        local_constant(graph, x0, -1.0)


@pytest.fixture(scope="module")
def trained() -> tuple[nn.Module, Tensor, Tensor]:
    """Two noisy spirals, told apart by a small net."""
    torch.manual_seed(0)
    labels = torch.arange(200) % 2
    t = 3 * torch.rand(200) + 0.5
    x = torch.stack([t * torch.cos(2 * t + 3.14 * labels), t * torch.sin(2 * t + 3.14 * labels)], 1)
    net = nn.Sequential(nn.Linear(2, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU(), nn.Linear(24, 2))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(400):
        optimiser.zero_grad()
        F.cross_entropy(net(x), labels).backward()
        optimiser.step()
    return net.eval().requires_grad_(False), x, labels


def attacked(run: nn.Module, x0: Tensor, label: int, r: float) -> bool:
    """Whether projected gradient ascent within r changes the class, from several starts."""
    x = _around(x0, r, torch.Generator().manual_seed(1))[:20].requires_grad_(True)
    for _ in range(60):
        scores = run(x)
        (gradient,) = torch.autograd.grad((scores[:, 1 - label] - scores[:, label]).sum(), x)
        d = x.detach() + 0.1 * r * F.normalize(gradient) - x0
        d = d * (r / d.norm(dim=1, keepdim=True).clamp_min(r))
        x = (x0 + d).requires_grad_(True)
    scores = run(x.detach())
    return bool((scores[:, 1 - label] >= scores[:, label]).any())


def test_more_is_certified_than_by_the_global_constant(
    trained: tuple[nn.Module, Tensor, Tensor],
):
    net, points, labels = trained
    graph = capture(net, (2,))
    run, everywhere, gains = Interpreter(graph), derive(graph).upper, []
    chosen = range(0, 200, 16)
    for k in chosen:
        x0, label = points[k], int(labels[k])
        scores = run(x0.double()[None])[0]
        margin = float(scores[label] - scores[1 - label])
        r = certified_radius_local(graph, x0, label)
        if margin <= 0:
            assert r == 0
            continue
        assert not attacked(run, x0.double(), label, r)
        gains.append(r / certified_radius(margin, 1e-12, everywhere))
        assert attacked(run, x0.double(), label, 40 * r)  # the attack can succeed
    assert len(gains) >= 10
    assert min(gains) >= 1
    assert sorted(gains)[len(gains) // 2] > 2


def test_a_matrix_that_underflows_is_not_0():
    """1e140 times 1e-330: of slope 1e50 beyond 1e10, where no example is that the graph is
    compared on."""

    def steep(x: Tensor, large: Tensor) -> Tensor:
        return x + F.softshrink((1e240 * x) @ (large * 1e-165 * 1e-165), 1e60)

    module = Buffered(steep, 1e140 * torch.eye(2, dtype=torch.float64))
    x = torch.tensor([1e11, 0.0], dtype=torch.float64)
    assert float(module(x[None]).sum()) > 1e60
    assert local_constant(capture(module, (2,)), x, 1.0) > 1e49
    assert audit(module, "mass-preserving", (2,), budget=0.5).verdicts[0].outcome != "proved"


def test_the_documented_example_runs(capsys: pytest.CaptureFixture[str]):
    page = Path(__file__).parents[1] / "docs" / "bounds.md"
    (code,) = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    torch.manual_seed(0)
    exec(code, {})
    constant, radius = map(float, capsys.readouterr().out.split())
    assert constant > 0
    assert radius >= 0
