"""From any `nn.Module` to a graph of what it computes on one example.

The module is traced (`capture_trace`), and the program
is then translated operator by operator (`capture_rules` and its siblings). An operator
that has no exact equivalent in the vocabulary becomes an unknown node; a module whose examples are
not treated alike, or that cannot be traced, is `Uncapturable`.

The program is traced and translated for a batch of one and for a batch of two: a graph is returned
only if both give the same, and if it reproduces the module on random examples.
"""

import contextlib
import inspect
import io
import logging
import math
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dsnn import spheres
from verification.capture_program import translated
from verification.capture_reads import reads
from verification.capture_trace import Uncapturable
from verification.copies import deep_copy
from verification.graph import Constant, Graph
from verification.interpret import Interpreter

__all__ = ["Uncapturable", "capture", "input_shapes"]

_TRACING = threading.RLock()


def capture(module: nn.Module, shape: tuple[int, ...], *, executed: bool = False) -> Graph:
    """What `module` in eval mode computes of one example of `shape`, handed to it as a batch.

    Traced on a copy on the CPU, in its own dtype; `executed` as in `translated`. Raises
    Uncapturable.
    """
    with one_line_errors():
        traced = still(module).requires_grad_(False)
        one, two = (
            translated(traced, example(traced, (batch, *shape)), executed=executed)
            for batch in (1, 2)
        )
        compare(one, two)
        reproduces(one, still(module), shape)  # not what tracing may have changed
    return one


def input_shapes(
    module: nn.Module, shape: tuple[int, ...]
) -> dict[str, tuple[int, ...] | Uncapturable]:
    """By name of a submodule, the shape of the one example that it is called with when `module`
    ("" by name) is called with one of `shape`; or why it has none."""
    with one_line_errors():
        watched = still(module)
        seen: dict[str, list[tuple[Any, ...]]] = {}
        for name, part in watched.named_modules():
            calls = seen.setdefault(name, [])

            def hook(part: nn.Module, args: Any, kwargs: Any, calls: list[Any] = calls) -> None:
                calls.append(_positional(part, args, kwargs) if kwargs else args)

            part.register_forward_pre_hook(hook, with_kwargs=True)
        with torch.no_grad():
            watched(example(watched, (2, *shape)))
    return {name: _common_shape(calls) for name, calls in seen.items()}


def _positional(part: nn.Module, args: Any, kwargs: Any) -> tuple[Any, ...]:
    """The arguments of a call as one by position has them, what has no position as one more: a part
    is captured by position, and by keyword it may do something else."""
    bound = inspect.signature(part.forward).bind(*args, **kwargs)
    return (*bound.args, bound.kwargs) if bound.kwargs else bound.args


def still(module: nn.Module) -> nn.Module:
    """A copy on the CPU in eval mode. Raises Uncapturable where `__deepcopy__`
    or its like makes another module of it, as far as numbers tell, and where a tensor may do
    something of its own when it is operated on."""
    copied = deep_copy(module)
    before, after = _numbers(module), _numbers(copied)
    _free(copied, {id(part) for part in module.modules() if part.training})
    for name, value in before.items():
        if isinstance(value, Tensor) and type(value) not in (Tensor, nn.Parameter, nn.Buffer):
            raise Uncapturable(f"{name} is no plain tensor but a {type(value).__name__}")
        if name not in after or not _same(value, after[name]):
            raise Uncapturable(f"a copy of it has another {name}")
    return copied.to("cpu").eval()


def _free(copied: nn.Module, trained: set[int]) -> None:
    """Raises Uncapturable where a function of the copy refers to what it was copied from, by id,
    and that is in training mode: with a function nothing is copied of where it was made."""
    for path, part in copied.named_modules():
        for key, value in vars(part).items():
            for held in _held(value):  # it, or a method of it
                if id(getattr(held, "__self__", held)) in trained:
                    name = f"{path}.{key}".lstrip(".")
                    reason = "is a function of it in training mode: call eval() first"
                    raise Uncapturable(f"{name} {reason}")


def _held(value: Any) -> list[Any]:
    """What a function keeps of where it was made: variables, and defaults of its arguments."""
    if not inspect.isfunction(value):
        return []
    held = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
    for cell in value.__closure__ or ():
        with contextlib.suppress(ValueError):  # nothing is in it yet
            held.append(cell.cell_contents)
    return held


def _numbers(module: nn.Module) -> dict[str, Any]:
    """By name, its tensors and the attributes of it and its parts that are tensors or numbers."""
    found: dict[str, Any] = dict(tensors(module))
    for path, part in module.named_modules():
        for key, value in vars(part).items():
            if isinstance(value, int | float | Tensor):
                found[f"{path}.{key}".lstrip(".")] = value
    return found


def _same(a: Any, b: Any) -> bool:
    """Whether two tensors or numbers are the same, bit by bit."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        alike = a.shape == b.shape and a.dtype == b.dtype
        return alike and torch.equal(_bits(a), _bits(b))
    return type(a) is type(b) and repr(a) == repr(b)


def _common_shape(calls: list[tuple[Any, ...]]) -> tuple[int, ...] | Uncapturable:
    if not calls:
        return Uncapturable("it is never called")
    if any(len(call) != 1 or not isinstance(call[0], Tensor) for call in calls):
        return Uncapturable("it is not called with a single tensor")
    shapes = {tuple(call[0].shape) for call in calls}
    if len(shapes) > 1:
        return Uncapturable(f"it is called with several shapes: {sorted(shapes)}")
    (shape,) = shapes
    if not shape or shape[0] != 2:
        return Uncapturable(f"its input of shape {shape} is not the batch of two that it came from")
    return shape[1:]


@contextlib.contextmanager
def one_line_errors() -> Iterator[None]:
    """Whatever tracing or running somebody's module raises becomes Uncapturable; what torch
    prints and warns meanwhile is dropped. One thread at a time: stderr, warnings and what torch
    says to a module that it traces are the process's."""
    with _TRACING:
        level = logging.root.manager.disable
        logging.disable(logging.CRITICAL)
        try:
            with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
                warnings.simplefilter("ignore")
                yield
        except (Uncapturable, MemoryError):
            raise
        except (Exception, SystemExit) as error:
            first = next(iter(str(error).strip().splitlines()), "")
            raise Uncapturable(f"{type(error).__name__}: {first}"[:300]) from error
        finally:
            logging.disable(level)


def example(module: nn.Module, full: tuple[int, ...]) -> Tensor:
    """A random batch in the dtype of the module."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(full, generator=generator).to(precision(module))


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name."""
    return dict((*module.named_parameters(), *module.named_buffers()))


def _bits(tensor: Tensor) -> Tensor:
    """As bytes, since no NaN is equal to itself."""
    return tensor.detach().contiguous().flatten().view(torch.uint8)


def precision(module: nn.Module) -> torch.dtype:
    """The dtype of the first weight, float32 where there is none."""
    floats = (t.dtype for t in tensors(module).values() if t.is_floating_point())
    return next(floats, torch.float32)


def compare(one: Graph, two: Graph) -> None:
    """Raises Uncapturable unless the graphs are the same but for the names of nodes, and all of
    their constants finite."""
    for node in one:
        for key, constant in node.constants.items():
            if not bool(torch.isfinite(constant.value).all()):
                raise Uncapturable(f"the {key} {constant.name} of {node.name} is not finite")
    if len(one.nodes) != len(two.nodes):
        raise Uncapturable("a batch of two is computed by other operators than a batch of one")
    places = [{node.name: k for k, node in enumerate(g)} for g in (one, two)]
    for a, b in zip(one, two, strict=True):
        wired = [
            [place[n] for n in node.inputs] for place, node in zip(places, (a, b), strict=True)
        ]
        same = wired[0] == wired[1] and a.kind == b.kind and a.shape == b.shape
        same = same and _equal(a.attributes, b.attributes) and _equal(a.constants, b.constants)
        if not same:
            raise Uncapturable(
                f"it treats a batch of two differently from a batch of one, at {a.name} ({a.kind})"
            )
    if places[0][one.output] != places[1][two.output]:
        raise Uncapturable("a batch of two has another output than a batch of one")


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Constant):
        return (a.factor, a.name) == (b.factor, b.name) and _equal(a.value, b.value)
    if isinstance(a, Mapping):
        return a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    return a == b


def reproduces(graph: Graph, module: nn.Module, shape: tuple[int, ...]) -> None:
    """Raises Uncapturable if the graph and the module differ beyond rounding on random examples:
    what a tracer cannot see (numbers from outside torch, state, code that asks whether it is
    being traced or whether gradients are taken) shows here. So does a weight that is changed by a
    call (`weight.data = ...`), however little: what was traced is the weight as it was. So do a
    count of calls, which may decide what later ones do, and a number read out of the data, or kept
    of an earlier batch, which may decide what happens to other examples."""
    if any(node.kind == "unknown" for node in graph):
        return
    x = example(module, (3, *shape))
    before = {name: tensor.clone() for name, tensor in tensors(module).items()}
    with torch.no_grad():
        wide = torch.float32 if x.dtype == torch.float32 else torch.float64
        with spheres.unchecked(), reads(first := x.clone()) as earlier:
            once = module(first)
        kept = {  # some the first call makes, and later ones may write to them
            name: value.clone() if isinstance(value, Tensor) else value
            for name, value in _numbers(module).items()
            if name not in before
        }
        with spheres.unchecked(), reads(second := x.clone(), earlier) as later:
            again = module(second)
        ours, theirs = Interpreter(graph).to(wide)(x.to(wide)), module(x.clone())
    trained = _trained(module, x)
    if found := earlier.found + later.found:
        raise Uncapturable(found[0])
    if not (torch.equal(once, theirs) and torch.equal(again, theirs)):
        raise Uncapturable("its output for one input changes from call to call")
    for name, value in _numbers(module).items():
        known = before if name in before else kept
        if name not in known or not _same(known[name], value):
            raise Uncapturable(f"it changes {name} when called")
    tolerance = math.sqrt(torch.finfo(x.dtype).eps) * (float(ours.abs().max()) + 1e-3)

    def near(other: Tensor) -> bool:
        return ours.shape == other.shape and bool((ours - other).abs().max() <= tolerance)

    if not near(theirs):
        raise Uncapturable("the traced program does not reproduce the module")
    if trained is not None and not near(trained):
        raise Uncapturable("what it computes depends on whether gradients are taken")


def _trained(module: nn.Module, x: Tensor) -> Tensor | None:
    """What it returns where gradients are taken; None where it raises then."""
    with torch.enable_grad(), spheres.unchecked(), contextlib.suppress(Exception):
        return module(x.clone().requires_grad_().clone()).detach()  # it may write to what it gets
