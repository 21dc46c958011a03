"""Wrong verdicts that readers of the code found, none of them to come back: each of these claims
is false, or about a function without a value at some inputs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from property_modules import Buffered, Function
from torch import Tensor, nn

from dsnn.errors import UserError
from verification import audit
from verification.auditor import Audit
from verification.capture import capture
from verification.claims import parse
from verification.local import local_constant
from verification.parts import Live
from verification.pixel_input import PixelInput
from verification.running_error import UnboundedOperation, evaluate
from verification.store import Store
from verification.targets import Target

TABLE = torch.tensor([[0.0], [3.0], [1.0], [2.0]])
CODES = torch.tensor([[0.0, 1.0, 2.0, 0.0], [5.0, 0.0, 0.0, 1.0], [0.0, 0.0, 4.0, 4.0]])


def _quantised(x: Tensor, codes: Tensor) -> Tensor:
    """To the nearest code, with the straight-through sum."""
    distance = (x[:, None] - codes).square().sum(-1)
    return x + (codes[distance.min(1)[1]] - x).detach()


POSITIONS: dict[str, tuple[Callable[..., Tensor], tuple[Tensor, ...]]] = {
    "max": (lambda x: x + x.max(1, keepdim=True)[1].float(), ()),
    "min": (lambda x: x + x.min(1, keepdim=True).indices.float(), ()),
    "max pooling": (
        lambda x: x[:, :2] + F.max_pool1d(x[:, None], 2, return_indices=True)[1][:, 0].float(),
        (),
    ),
    "adaptive max pooling": (
        lambda x: F.adaptive_max_pool1d(x[:, None], 2, return_indices=True)[1][:, 0] + 0 * x[:, :2],
        (),
    ),
    "a table": (lambda x, table: 0.5 * x + table[x.max(1).indices], (TABLE,)),
    "quantised": (_quantised, (CODES,)),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_positions_of_extremes_are_no_constants(name: str):
    function, constants = POSITIONS[name]
    module = Buffered(function, *constants)
    for verdict in audit(module, ["lipschitz<=1", "contractive"], (4,), budget=0.5).verdicts:
        assert verdict.outcome != "proved"
        assert verdict.upper == float("inf")


class _Gated(nn.Module):
    """A gate that starts at 0, before something that is not a number everywhere."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.gate, self.function = nn.Parameter(torch.zeros(())), function

    def forward(self, x: Tensor) -> Tensor:
        return x + self.gate * self.function(x)


@pytest.mark.parametrize("function", [torch.log, lambda x: x / x.norm(dim=1, keepdim=True)])
def test_0_times_what_may_be_no_number_is_not_0(function: Callable[[Tensor], Tensor]):
    assert audit(_Gated(function), "lipschitz<=1", (4,), budget=0.5).verdicts[0].outcome != "proved"
    finite = audit(_Gated(torch.tanh), "lipschitz<=1", (4,), budget=0.5).verdicts[0]
    assert finite.outcome == "proved"


@pytest.mark.parametrize(
    "function", [torch.log, lambda x: x / x, lambda x: F.layer_norm(x, (4,), eps=0.0)]
)
def test_nor_is_it_next_to_what_contracts(function: Callable[[Tensor], Tensor]):
    def halved(x: Tensor, gate: Tensor) -> Tensor:
        return x / 2 + gate * function(x)

    (verdict,) = audit(Buffered(halved, torch.zeros(())), "lipschitz<=1", (4,), budget=0.5).verdicts
    assert verdict.outcome != "proved"


def test_a_bias_of_a_product_counts():
    """(x x + 1) summed is not |x|²."""

    def scaled(x: Tensor) -> Tensor:
        return x * (x * x + 1).sum(-1, keepdim=True) / (x * x).sum(-1, keepdim=True)

    verdict = audit(Buffered(scaled), "norm-preserving", (3,), budget=0.5).verdicts[0]
    assert verdict.outcome == "refuted"


def test_products_that_underflow_are_not_0():
    """The Jacobian is [[1, 1], [-1, 1]]: 1e360 times 1e-360 of a rotation."""
    turn = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=torch.float64)
    ones = torch.ones(2, 2, dtype=torch.float64)

    def turned(x: Tensor, ones: Tensor, turn: Tensor) -> Tensor:
        both = 1e-100 * (x @ ones.T + 1e-260 * (x @ turn.T)) - 1e-100 * (x @ ones.T)
        return x + 1e180 * (1e180 * both)

    def factored(x: Tensor, ones: Tensor, turn: Tensor) -> Tensor:
        return x + 1e300 * (x @ (turn * 1e-200 * 1e-100).T)

    claims = ["gradient-field", "orthogonal", "volume-preserving", "symplectic"]
    for function in (turned, factored):
        for verdict in audit(Buffered(function, ones, turn), claims, (2,), budget=0.5).verdicts:
            assert verdict.outcome != "proved", (function.__name__, verdict.claim)


class Far(nn.Module):
    """relu(x - 5), by way of 1e300 and 1e-100, in dimension n; `whole`: x + that - relu(x - 5)."""

    def __init__(self, n: int, *, whole: bool):
        super().__init__()
        self.whole = whole
        self.register_buffer("large", torch.eye(n, dtype=torch.float64) * 1e150)
        self.register_buffer("back", torch.eye(n, dtype=torch.float64) * 1e100)

    def forward(self, x: Tensor) -> Tensor:
        r, large = torch.relu(x - 5), self.get_buffer("large")
        small = 1e-200 * (1e-200 * F.linear(F.linear(r, large), large))
        again = F.linear(small, self.get_buffer("back"))
        return x + again - r if self.whole else again


def test_coefficients_that_underflow_refute_nothing_and_certify_nothing():
    """1e-400 is not 0."""
    kept = Far(4, whole=True)
    x = torch.linspace(-9, 9, 12, dtype=torch.float64).reshape(3, 4)
    assert float((kept(x) - x).abs().max()) < 1e-12
    for claim in ("mass-preserving", "gradient-field", "orthogonal"):
        assert audit(kept, claim, (4,), budget=0.5).verdicts[0].outcome != "refuted"
    graph = capture(Far(1, whole=False), (1,))
    assert local_constant(graph, torch.tensor([10.0], dtype=torch.float64), 1.0) > 0.99


def test_what_is_stored_of_one_dtype_is_not_said_of_another(tmp_path: Path):
    """A float32 module has a larger tolerance, though the graph may be the same."""

    class Turn(nn.Module):
        def __init__(self, dtype: torch.dtype):
            super().__init__()
            self.first = nn.Parameter(torch.zeros(1, dtype=dtype))
            c, s = torch.tensor(0.3).cos(), torch.tensor(0.3).sin()
            self.register_buffer("w", torch.tensor([[c, s], [-s, c]], dtype=torch.float32))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.get_buffer("w").to(x.dtype)

    found = []
    for dtype in (torch.float64, torch.float32, torch.float64):
        subject = Target("m", Live(Turn(dtype), (2,)))
        report = Audit(subject, store=Store(tmp_path), budget=1.0).run([parse("orthogonal")])
        found.append(report.verdicts[0].outcome)
    assert found == ["refuted", "proved", "refuted"]


def test_somebody_elses_operator_of_a_known_name_is_not_that_one():
    @torch.library.custom_op("dsnn_tests::tanh", mutates_args=())
    def rounded(input: Tensor) -> Tensor:
        return torch.round(torch.tanh(input) * 2048) / 2048

    rounded.register_fake(torch.empty_like)
    assert audit(Buffered(rounded), "lipschitz<=1", (3,), budget=0.5).verdicts[0].upper > 1e300


def test_what_is_traced_is_what_was_handed_over():
    class First(nn.Module):
        """Its first batch is treated otherwise."""

        def __init__(self):
            super().__init__()
            self.calls = 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return 3 * torch.sin(x) if self.calls == 1 else torch.sin(x)

    assert audit(First(), "lipschitz<=1", (3,), budget=0.5).verdicts[0].outcome != "proved"


def test_integers_that_no_float64_is():
    weight = torch.tensor([2**53 + 1, 1])
    verdict = audit(Buffered(lambda x, w: x * w, weight), f"lipschitz<={2**53}", (2,)).verdicts[0]
    assert verdict.outcome != "proved"


def test_an_audit_leaves_a_module_in_training_as_it_was():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 3))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    audit(net, "3:lipschitz<=0.01", (3, 8, 8), budget=0.5)
    assert net.training
    for name, value in net.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize(
    ("module", "shape"),
    [
        (nn.Linear(4, 4).bfloat16(), (4,)),
        (Buffered(lambda x, w: x @ w, torch.randn(4, 4).double() * 1e200), (4,)),
        (Buffered(lambda x, w: w[x.long()].sum(1), torch.randn(4, 4)), (4,)),
    ],
)
def test_odd_modules_get_verdicts(module: nn.Module, shape: tuple[int, ...]):
    report = audit(module, ["lipschitz<=1", "gradient-field"], shape, budget=0.5)
    assert all(verdict.outcome in ("proved", "refuted", "unknown") for verdict in report.verdicts)


def test_a_lazy_module_is_told_what_it_lacks():
    with pytest.raises(UserError, match="call the module once"):
        audit(nn.Sequential(nn.LazyLinear(3)), "lipschitz<=1", (4,))


EMPTY = {
    "no number times 0": lambda x: x + 0 * (torch.relu(x) / torch.relu(x)),
    "two of them that cancel": lambda x: x + x / x - x / x,
    "a shear by one": lambda x: torch.stack([x[:, 0], x[:, 1] + x[:, 0] / x[:, 0]], 1),
    "two equal deviations": lambda x: x + 0 * F.layer_norm(x, (2,), eps=0.0),
}  # fmt: skip


@pytest.mark.parametrize("name", EMPTY)
@pytest.mark.parametrize("claim", ["mass-preserving", "volume-preserving", "equivariant:shift"])
def test_where_there_is_no_value_nothing_is_preserved(name: str, claim: str):
    """Each is no number where an entry is 0 at least, the first on three quarters of the plane."""
    assert not Function(EMPTY[name])(torch.zeros(1, 2)).isfinite().all()
    (verdict,) = audit(Function(EMPTY[name]), claim, (2,), budget=0.2).verdicts
    assert verdict.outcome != "proved"


GATED = {
    "divided by entries": lambda y: y / y,
    "divided by their sum": lambda y: y / y.sum(1, keepdim=True),
}


@pytest.mark.parametrize("name", GATED)
def test_0_times_what_may_be_no_number_keeps_no_norm(name: str):
    """None where all entries are below -10: an open set, in which no random example lies."""

    def gated(x: Tensor) -> Tensor:
        return x + 0 * GATED[name](torch.relu(x + 10))

    assert not Function(gated)(torch.full((1, 2), -11.0)).isfinite().all()
    (verdict,) = audit(Function(gated), "norm-preserving", (2,), budget=0.2).verdicts
    assert verdict.outcome != "proved"


class _Scaled(nn.Module):
    """k x, of which a copy is x."""

    def __init__(self, k: float, *, trained: bool):
        super().__init__()
        self.k = nn.Parameter(torch.tensor(k)) if trained else k

    def __deepcopy__(self, memo: object) -> "_Scaled":
        return _Scaled(1.0, trained=isinstance(self.k, Tensor))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.k


@pytest.mark.parametrize("trained", [False, True])
def test_what_is_said_of_a_copy_is_said_of_no_other(trained: bool):
    claims = ["lipschitz<=1", "norm-preserving"]
    for verdict in audit(_Scaled(3.0, trained=trained), claims, (4,), budget=0.5).verdicts:
        assert verdict.outcome != "proved"
    assert audit(_Scaled(1.0, trained=trained), claims, (4,), budget=0.5).exit_code == 0


class _Steeper(Tensor):
    """A matrix that is steeper where its images are large."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result: Any = super().__torch_function__(func, types, args, kwargs or {})
        return result + 2 * torch.relu(result - 50) if func is F.linear else result

    def __deepcopy__(self, memo: object) -> Tensor:
        return self.as_subclass(Tensor).clone().as_subclass(_Steeper)


def test_a_tensor_with_operators_of_its_own_is_no_weight():
    module = Buffered(F.linear, torch.eye(4).as_subclass(_Steeper))
    pair = module(torch.tensor([[100.0] * 4, [101.0] * 4]))
    assert float((pair[1] - pair[0]).norm()) > 5.9
    verdict = audit(module, "lipschitz<=1", (4,), budget=0.5).verdicts[0]
    assert verdict.outcome != "proved"


def _where_singular(x: Tensor, table: Tensor) -> Tensor:
    try:
        torch.linalg.cholesky(torch.diag_embed(50 - x))
    except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
        return 5 * x
    return 1 * x


def _where_out_of_range(x: Tensor, table: Tensor) -> Tensor:
    try:
        table[x.abs().long()]
    except IndexError:
        return 5 * x
    return 1 * x


def _where_out_of_the_row(x: Tensor, table: Tensor) -> Tensor:
    try:
        torch.zeros_like(x).scatter(1, x.abs().long(), 1.0)
    except RuntimeError:
        return 5 * x
    return 1 * x


def _where_a_divisor_is_0(x: Tensor, table: Tensor) -> Tensor:
    try:
        _ = torch.ones_like(x).long() // (60 - x.abs()).long()
    except RuntimeError:
        return 5 * x
    return 1 * x


def _where_no_example_is(x: Tensor, table: Tensor) -> Tensor:
    """All of them raise the error, of which an export knows nothing."""
    try:
        torch.linalg.cholesky(torch.diag_embed(x - 100))
    except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
        return x + 16 * torch.relu(x - 45)
    return 1 * x


@pytest.mark.parametrize(
    "function",
    [
        _where_singular, _where_out_of_range, _where_out_of_the_row, _where_a_divisor_is_0,
        _where_no_example_is,
    ],
)  # fmt: skip
def test_an_error_that_depends_on_the_data_is_a_branch(function: Callable[..., Tensor]):
    module = Buffered(function, torch.zeros(50))
    assert torch.equal(module(torch.full((1, 4), 60.0)), torch.full((1, 4), 300.0))
    verdict = audit(module, "lipschitz<=1", (4,), budget=0.5).verdicts[0]
    assert verdict.outcome != "proved"
    assert verdict.upper == float("inf")


@pytest.mark.parametrize(
    ("dtype", "above", "threshold", "times"),
    [(torch.float32, 1.0, 0.5, 1.0), (torch.float64, 20.5, 20.0, 1e10)],
)
def test_beyond_its_threshold_softplus_is_the_identity(
    dtype: torch.dtype, above: float, threshold: float, times: float
):
    """It is 0 everywhere, and was refuted by what log(1 + exp(y)) would be there."""

    def nothing(x: Tensor, one: Tensor) -> Tensor:
        y = one * x.abs() + above
        return times * (y - F.softplus(y, 1.0, threshold))

    module = Function(nothing, torch.ones((), dtype=dtype))
    assert not module(9 * torch.randn(64, 4, dtype=dtype)).any()
    (verdict,) = audit(module, "lipschitz<=1e-3", (4,), budget=0.5).verdicts
    assert (verdict.outcome, verdict.lower) == ("unknown", 0.0)


def test_float64_buffers_count_where_softplus_is_evaluated():
    module = nn.Sequential(nn.Linear(4, 4), nn.Softplus())
    evaluate(module, torch.ones(1, 4))
    module.register_buffer("one", torch.ones((), dtype=torch.float64))
    with pytest.raises(UnboundedOperation, match="jumps"):
        evaluate(module, torch.ones(1, 4))


def test_float64_statistics_of_pixels_are_none_of_them():
    """They are brought to the type of the network: radii of smooth networks ended in an error."""
    smooth = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Softplus())
    found = evaluate(PixelInput(smooth, (0.5,), (0.25,)), torch.ones(1, 1, 2, 2))
    assert bool(found.error.isfinite().all())
    with pytest.raises(UnboundedOperation, match="jumps"):
        evaluate(PixelInput(smooth.double(), (0.5,), (0.25,)), torch.ones(1, 1, 2, 2))
