"""What capture does not understand it says: an unknown node, or a reason in one line."""

import math
import random
import sys
import threading
import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from property_modules import Buffered
from torch import Tensor, nn

from verification.capture import Uncapturable, capture, input_shapes, one_line_errors
from verification.interpret import Interpreter

UNKNOWN: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "exp": (torch.exp, "aten.exp"),
    "sqrt": (lambda x: x.abs().sqrt(), "aten.sqrt"),
    "attention": (lambda x: F.scaled_dot_product_attention(x, x, x), "scaled_dot_product"),
    "log_softmax over the batch": (lambda x: x.log_softmax(0), "across the batch"),
    "sorting across the batch": (lambda x: x.flatten(0, 1).sort(0)[0], "across the batch"),
    "the order of a sort": (lambda x: x.sort(1)[1] * 1.0, "sort"),
    "positions from a sort": (lambda x: x.gather(1, x.sort(1)[1]), "depend on the input"),
    "the largest in no order": (lambda x: x.topk(2, 1, sorted=False)[0], "in no order"),
    "positions of the largest": (lambda x: x.gather(1, x.topk(2, 1)[1]), "depend on the input"),
    "cumulative product": (lambda x: x.cumprod(1), "cumprod"),
    "cumulative sum over the batch": (lambda x: x.cumsum(0), "across the batch"),
    "a sum of products of data": (lambda x: torch.einsum("bijk,bljk->bil", x, x), "bijk,bljk"),
    "a sum over one letter alone": (
        lambda x: torch.einsum("bijk,l->bijl", x, torch.ones(2)),
        "bijk,l",
    ),
    "a letter twice": (lambda x: torch.einsum("bijj,k->bik", x, torch.ones(2)), "bijj"),
    "a broadcast letter": (
        lambda x: torch.einsum("bijk,im->bmjk", x, torch.ones(1, 2)),
        "repeats entries",
    ),
    "choice by value": (lambda x: torch.where(x > 0, x, 2 * x), "aten.where"),
    "half precision": (lambda x: x.half().float(), "float16"),
    "integers": (lambda x: x.long() * 0.5, "int64"),
    "rounding": (torch.round, "aten.round"),
    "a jump": (lambda x: F.threshold(x, 0.5, 0.0), "a jump at the threshold"),
    "a softplus that jumps": (lambda x: F.softplus(x, threshold=1), "jump"),
    "hardshrink": (F.hardshrink, "hardshrink"),
    "dropout": (lambda x: F.dropout(x, 0.5, True), "random mask"),
    "random slopes": (lambda x: F.rrelu(x, training=True), "random slope"),
    "noise of its shape": (lambda x: x + torch.rand_like(x), "rand_like"),
    "bits of another type": (lambda x: x.double().view(torch.int64).view(torch.float64), "int64"),
    "twice as many bits": (lambda x: x.view(torch.float64), "another type"),
    "positions from data": (lambda x: x.gather(1, x.argmax(1, keepdim=True)), "argmax"),
    "the power 0.5": (lambda x: x.abs() ** 0.5, "the power 0.5"),
    "dilated pooling": (lambda x: F.max_pool2d(x, 2, dilation=2), "dilated"),
    "norm of order 1": (lambda x: x.norm(p=1, dim=1), "order 1"),
    "singular values": (lambda x: torch.linalg.norm(x, 2, dim=(1, 2)), "singular value"),
    "a constant that is not finite": (lambda x: x * float("inf"), "finite"),
    "division by zero": (lambda x: x / 0, "zero"),
    "softmax over the batch": (lambda x: x.softmax(0), "across the batch"),
    "batch statistics": (lambda x: F.batch_norm(x, None, None, training=True), "of the batch"),
}


@pytest.mark.parametrize("name", UNKNOWN)
def test_an_operator_without_equivalent_is_an_unknown_node_that_names_it(name: str):
    function, operator = UNKNOWN[name]
    graph = capture(Buffered(lambda x: 2 * function(x)), (4, 6, 6))
    named = [n.attributes["operator"] for n in graph if n.kind == "unknown"]
    assert any(operator in text for text in named), named
    assert all("\n" not in text for text in named)
    with pytest.raises(ValueError, match="nothing is known"):
        Interpreter(graph)


@pytest.mark.parametrize("back", [torch.float32, torch.float64])
def test_half_precision_has_less_range_than_bfloat16(back: torch.dtype):
    one = torch.ones(4, dtype=torch.bfloat16)
    assert not torch.isfinite(torch.full((4,), 7e4, dtype=torch.bfloat16).half()).any()
    graph = capture(Buffered(lambda x, w: (w * x).half().to(back), one), (4,))
    assert any(node.kind == "unknown" for node in graph)


def control_flow(x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def asks_for_tracing(x: Tensor) -> Tensor:
    return x if x.is_meta or torch.compiler.is_compiling() else 3 * x


def beyond(x: Tensor, far: bool) -> Tensor:
    return 3 * x if far else x


def asks_for_export(x: Tensor) -> Tensor:
    return beyond(x, not torch.compiler.is_compiling() and bool(x.max() > 50))


def bent(x: Tensor, straight: bool) -> Tensor:
    """Where no example is that the graph is compared on."""
    return torch.sin(x) if straight else torch.sin(x) + 4 * torch.relu(x - 50)


def asks_for_values(x: Tensor) -> Tensor:
    return beyond(x, not x.is_meta and bool(x.max() > 50))


def asks_for_shapes(x: Tensor) -> Tensor:
    return beyond(x, not x.is_meta and len(x[x > 50]) > 0)


def asks_numpy(x: Tensor) -> Tensor:
    try:
        return beyond(x, x.numpy().max() > 50)
    except RuntimeError:
        return x


def wrapped(angle: float) -> float:
    return math.remainder(angle, math.tau)


def asks_python(x: Tensor) -> Tensor:
    return beyond(x, "e+" in f"{x}")


@pytest.mark.parametrize("real", [lambda x: not x.is_meta, lambda x: x.device.type == "cpu"])
def test_what_is_done_with_values_is_what_is_captured(real: Callable[[Tensor], bool]):
    """The kinks are where no example is that the graph is compared on."""
    kinks = capture(Buffered(lambda x: x + torch.relu(x - 50) if real(x) else x), (4,))
    assert "activation" in [node.kind for node in kinks]
    shift = capture(Buffered(lambda x: torch.relu(x - (50 if real(x) else 60))), (4,))
    (bias,) = [node.constants["bias"] for node in shift if "bias" in node.constants]
    assert float(bias.value) * float(bias.factor) == -50
    weights = torch.tensor(50.0), torch.tensor(60.0)
    by_weight = Buffered(lambda x, a, b: torch.relu(x - (a if real(x) else b)), *weights)
    (bias,) = [n.constants["bias"] for n in capture(by_weight, (4,)) if "bias" in n.constants]
    assert float(bias.value) * float(bias.factor) == -50


def state_outside(calls: list[int]) -> Callable[[Tensor], Tensor]:
    def count(x: Tensor) -> Tensor:
        calls.append(1)
        return x * len(calls)

    return count


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


class TwoOutputs(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        return x * self.count


class Remembers(nn.Module):
    """State in plain Python, which an export puts back as it found it."""

    def __init__(self):
        super().__init__()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return x * self.calls * 0.01


class Hands(nn.Module):
    """On to the next batch, how far this one was beyond 50: none of the compared examples is."""

    def __init__(self):
        super().__init__()
        self.kept = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.kept
        self.kept = torch.relu(x - 50)
        return y


class Broken(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("first line\nsecond line")


REFUSED: dict[str, tuple[nn.Module, str]] = {
    "control flow": (Buffered(control_flow), "data-dependent"),
    "a number out of the data": (Buffered(lambda x: x * x.sum().item()), "batch"),
    "numpy": (Buffered(lambda x: torch.from_numpy(x.numpy() * 2)), "numpy"),
    "random constants": (Buffered(lambda x: x + torch.rand(4)), "rand"),
    "uninitialised memory": (Buffered(lambda x: x + torch.empty(4)), "empty"),
    "random numbers of python": (Buffered(lambda x: x * random.random()), "call to call"),
    "the clock": (Buffered(lambda x: x * time.perf_counter()), "call to call"),
    "state outside": (Buffered(state_outside([])), "call to call"),
    "tracing detected": (Buffered(asks_for_tracing), "told"),
    "tracing detected for some values": (Buffered(asks_for_export), "told"),
    "told of a compilation": (
        Buffered(lambda x: bent(x, torch.compiler.is_compiling())), "told"),
    "told of an export": (Buffered(lambda x: bent(x, torch.compiler.is_exporting())), "told"),
    "gradients enabled": (Buffered(lambda x: bent(x, torch.is_grad_enabled())), "gradients"),
    "other constants without gradients": (
        Buffered(lambda x: x * torch.full((4,), 2.0 - torch.is_grad_enabled())), "gradients"),
    "no values detected for some": (Buffered(asks_for_values), "data-dependent"),
    "no values detected for a shape": (Buffered(asks_for_shapes), "data-dependent|batch|number"),
    "numpy where it can be": (nn.Sequential(*[Buffered(asks_numpy)] * 2), "reads a number"),
    "numbers printed": (Buffered(asks_python), "reads a number"),
    "a function of Python for every entry": (
        Buffered(lambda x: 1.0 * x.clone().apply_(wrapped)), "apply_"),
    "the same of a weight": (
        Buffered(lambda x, w: x * w.clone().apply_(wrapped), torch.ones(4)), "apply_"),
    "the same of what an operator gave": (
        Buffered(lambda x: torch.sin(x).apply_(wrapped)), "apply_"),
    "a buffer that changes": (Counter(), "count"),
    "an attribute that changes": (Remembers(), "batch|call to call"),
    "what an earlier batch left": (Hands(), "kept of an earlier batch"),
    "two inputs": (TwoInputs(), "missing|argument"),
    "two outputs": (TwoOutputs(), "2 results"),
    "a constant": (Buffered(lambda x, c: c, torch.ones(2, 4)), "does not depend|batch"),
    "the mean of the batch": (Buffered(lambda x: x - x.mean(0, keepdim=True)), "batch"),
    "the whole batch summed": (Buffered(lambda x: x.sum()), "batch"),
    "the batch reversed": (Buffered(lambda x: x.flip(0)), "batch"),
    "the batch in the middle": (Buffered(lambda x: x.transpose(0, 1) * 2), "batch"),
    "a constant along the batch": (
        Buffered(lambda x: x + torch.arange(x.shape[0])[:, None]), "batch"),
    "a special batch of one": (Buffered(lambda x: x if len(x) == 1 else 2 * x), "batch"),
    "a special batch of three": (Buffered(lambda x: x if len(x) < 3 else 2 * x), "reproduce"),
    "squeezed batch": (Buffered(lambda x: x.squeeze(0).softmax(-1).sum(0)), "batch"),
    "weights that are no numbers": (
        Buffered(lambda x, w: x @ w, torch.full((4, 4), float("nan"))), "not finite"),
    "an exception": (Broken(), "first line"),
    "an exit": (Buffered(lambda x: sys.exit("enough")), "SystemExit: enough"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_module_without_a_graph_is_refused_in_one_line(name: str):
    module, reason = REFUSED[name]
    with pytest.raises(Uncapturable, match=reason) as refusal:
        capture(module, (4,))
    assert refusal.value.reason
    assert "\n" not in str(refusal.value)


def test_softplus_of_float64_jumps_at_its_usual_threshold():
    assert capture(nn.Softplus(), (4,)).nodes[-1].kind == "activation"
    module = nn.Sequential(nn.Linear(4, 4), nn.Softplus()).double()
    assert capture(module, (4,)).nodes[-1].kind == "unknown"


class TwoKeywords(nn.Module):
    def forward(self, x: Tensor | None = None, y: Tensor | None = None) -> Tensor | None:
        return x if y is None else 3 * y


class Parts(nn.Module):
    def __init__(self):
        super().__init__()
        self.once, self.twice = nn.Linear(4, 4), nn.ReLU()
        self.never, self.shared, self.both = nn.Linear(1, 1), nn.Tanh(), TwoInputs()
        self.without_batch, self.keyword, self.second = nn.Tanh(), nn.Tanh(), TwoKeywords()

    def forward(self, x: Tensor) -> Tensor:
        y = self.twice(self.twice(self.once(x)))
        self.shared(y[:, :2])
        self.without_batch(y.flatten())
        y = self.second(y=self.keyword(input=y))
        return self.both(self.shared(y), y)


def test_submodules_have_the_shapes_they_are_called_with():
    shapes = input_shapes(Parts(), (4,))
    assert [shapes[name] for name in ("", "once", "twice", "keyword")] == [(4,)] * 4
    for name, reason in [
        ("never", "never called"),
        ("shared", "several shapes"),
        ("both", "single tensor"),
        ("second", "single tensor"),
        ("without_batch", "batch"),
    ]:
        assert isinstance(shapes[name], Uncapturable)
        assert reason in str(shapes[name])


def test_captures_in_two_threads_leave_stderr_to_its_owner(monkeypatch: pytest.MonkeyPatch):
    """The first to begin ends first: what the second put back was that of the first."""
    before = sys.stderr
    monkeypatch.setattr(sys, "stderr", before)  # put back, whatever happens here
    begun, both, ended = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        with one_line_errors():
            begun.set()
            both.wait(0.5)
        ended.set()

    def second() -> None:
        begun.wait(5)
        with one_line_errors():
            both.set()
            ended.wait(5)

    threads = [threading.Thread(target=each) for each in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sys.stderr is before
