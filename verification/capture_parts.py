"""The graphs of a module and of its parts, from one trace of the whole.

Tracing is what a capture spends its time on, so the parts are cut out of the graph of the module:
hooks copy the tensor that a part is called with and the one that it returns, the trace returns
these copies too, and so they name two values of the program; where modules begin and end in it
says nothing of what they return. The part is what computes the second value from the first, if
every path from the module's input to the second passes the first (`flow`).

A part for which this does not hold, or that is not called exactly once with one tensor and nothing
else, is captured alone. So is one that does not give, by itself, what was cut out: it may rely on
what the module around it has done.
"""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from verification import capture_program
from verification.capture import (
    Uncapturable,
    capture,
    compare,
    example,
    one_line_errors,
    precision,
    reproduces,
    still,
)
from verification.capture_builder import Value
from verification.capture_cleanup import cleaned
from verification.capture_program import Translation
from verification.capture_trace import traced
from verification.flow import Flow
from verification.graph import Graph, Node

Shapes = Mapping[str, tuple[int, ...] | Uncapturable]

ROOT = "root"
"""The name of the module within the one that is traced."""


def captured(
    module: nn.Module, shapes: Shapes, names: Iterable[str], *, executed: bool = False
) -> dict[str, Graph | Uncapturable]:
    """By name of a part ("" is the module), what `capture` has of it, or why it has nothing.

    `shapes` are those of `capture.input_shapes`, "" among them. Nodes may be called otherwise than
    in the capture of the part alone, and are called alike whether `executed` or not.
    """
    found: dict[str, Graph | Uncapturable] = {}
    wanted = list(dict.fromkeys(names))
    known = {name: shape for name in wanted if not isinstance(shape := shapes[name], Uncapturable)}
    if len(known) > 1:
        with contextlib.suppress(Uncapturable):
            found |= _shared(module, {"": shapes[""], **known}, executed)
    for name in wanted:
        if name not in found:
            try:
                shape = shapes[name]
                if isinstance(shape, Uncapturable):
                    raise shape
                with one_line_errors():  # scripted modules have no get_submodule
                    part = module.get_submodule(name)
                found[name] = capture(part, shape, executed=executed)
            except Uncapturable as reason:
                found[name] = reason
    return {name: found[name] for name in wanted}


def _shared(module: nn.Module, shapes: Mapping[str, Any], executed: bool) -> dict[str, Graph]:
    """The module and those of its parts `shapes` that can be cut out. Raises Uncapturable when the
    module cannot be captured so."""
    with one_line_errors():
        root, names = still(module).requires_grad_(False), [name for name in shapes if name]
        one, two = (_Trace(root, names, (batch, *shapes[""]), executed) for batch in (1, 2))
        found = {"": _checked(one, two, "", module, shapes[""])}
    for name in (set(one.seen) & set(two.seen)) - {""}:
        with contextlib.suppress(Uncapturable), one_line_errors():
            part = module.get_submodule(name)
            found[name] = _checked(one, two, name, part, shapes[name])
    return found


def _checked(
    one: "_Trace", two: "_Trace", name: str, part: nn.Module, shape: tuple[int, ...]
) -> Graph:
    """The part as both traces have it. Raises Uncapturable, and ValueError where it is no part."""
    graph = one.graph(name, shape)
    compare(graph, two.graph(name, shape))
    reproduces(graph, still(part), shape)
    return graph


@dataclass
class _Calls:
    """Copies of what a part was called with and of what it returned; None for anything but one
    tensor."""

    inputs: list[Tensor | None] = field(default_factory=list)
    outputs: list[Tensor | None] = field(default_factory=list)

    def before(self, part: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        alone = len(args) == 1 and not kwargs and isinstance(args[0], Tensor)
        alone = alone and args[0].is_contiguous() and args[0].dtype == precision(part)
        self.inputs.append(args[0].clone() if alone else None)

    def after(self, _: nn.Module, __: Any, output: Any) -> None:
        self.outputs.append(output.clone() if isinstance(output, Tensor) else None)

    @property
    def pair(self) -> tuple[Tensor, Tensor] | None:
        """The one input and the one output, if they are that."""
        if len(self.inputs) != 1 or len(self.outputs) != 1:
            return None
        (x,), (y,) = self.inputs, self.outputs
        return None if x is None or y is None else (x, y)


class _Watched(nn.Module):
    """A module that returns, after its output, input and output of those of the parts `names` that
    are called once, and hands their names to `saw`."""

    def __init__(
        self, root: nn.Module, names: Iterable[str], saw: Callable[[tuple[str, ...]], object]
    ):
        super().__init__()
        self.root, self.names, self.saw = root, tuple(names), saw

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        with self._hooked() as calls:
            output = self.root(x)
        if not isinstance(output, Tensor):
            raise Uncapturable("it does not return one tensor")
        pairs = {name: pair for name, call in calls.items() if (pair := call.pair) is not None}
        self.saw(tuple(pairs))
        return output, *(tensor for pair in pairs.values() for tensor in pair)

    @contextlib.contextmanager
    def _hooked(self) -> Iterator[dict[str, _Calls]]:
        """The first hook before and the last one after a part, whose own hooks are part of it."""
        calls, hooks = {name: _Calls() for name in self.names}, []
        try:
            for name, call in calls.items():
                part = self.root.get_submodule(name)
                before = part.register_forward_pre_hook(call.before, prepend=True, with_kwargs=True)
                hooks += [before, part.register_forward_hook(call.after)]
            yield calls
        finally:
            for hook in hooks:
                hook.remove()


class _Trace:
    """The program of a module for a batch of the shape `full`, as a graph; `seen` are, by name of
    a part, the values that are its input and its output."""

    def __init__(self, root: nn.Module, names: list[str], full: tuple[int, ...], executed: bool):
        self.root, self.batch, self.executed = root, full[0], executed
        calls: list[tuple[str, ...]] = []  # traces may run the module more than once
        watched = _Watched(root, names, calls.append)
        program = traced(watched, example(watched, full))
        translation = Translation(watched, full, executed)
        output, *others = translation.results(program)
        if len(set(calls)) != 1:
            raise Uncapturable("its parts are not called alike each time")
        pairs = zip(others[::2], others[1::2], strict=True)
        self.seen = {"": (None, output), **dict(zip(calls[0], pairs, strict=True))}
        self.nodes = tuple(translation.build.nodes.values())
        self.tensors = {n: i for i, n in capture_program.names(watched).items()}
        self.flow = Flow(Graph(self.nodes, self.nodes[-1].name))

    def graph(self, name: str, shape: tuple[int, ...]) -> Graph:
        """What a capture of the part `name` alone gives, but for the names of its nodes. Raises
        Uncapturable, and ValueError where something else than its input has a part in its output.
        """
        start, end = self.seen[name]
        if not isinstance(end, Value):
            raise Uncapturable("its output does not depend on its input")
        if start is None:
            graph = Graph(self.nodes, end.name)
        elif not isinstance(start, Value) or start.full != (self.batch, *shape):
            raise Uncapturable("its input is no batch of examples")
        else:
            self.flow.path(start.name, end.name)
            graph = self.flow.part(start.name, end.name)
        part = self.root.get_submodule(name)
        known = capture_program.names(part)
        nodes = tuple(self._within(node, name, known) for node in graph)
        return cleaned(Graph(nodes, graph.output), flat=not self.executed)

    def _within(self, node: Node, name: str, known: Mapping[tuple[Any, ...], str]) -> Node:
        """The node with modules and tensors called as the part calls them."""
        constants = {
            use: replace(c, name=known.get(self.tensors[c.name], "") if c.name else "")
            for use, c in node.constants.items()
        }
        return replace(node, constants=constants, module=_inside(node, name))


def _inside(node: Node, name: str) -> str:
    """The path of the node's module within the part. Raises Uncapturable on one outside of it."""
    path = f"{ROOT}.{name}" if name else ROOT
    if node.module in ("", path):
        return ""
    if not node.module.startswith(f"{path}."):
        raise Uncapturable(f"{node.module} is outside of it")
    return node.module.removeprefix(f"{path}.")
