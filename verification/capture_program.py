"""The program of a module as a graph."""

import operator
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

import verification.capture_elementwise
import verification.capture_linear
import verification.capture_movement
import verification.capture_pooling  # noqa: F401  (all four register their rules)
from verification.capture_builder import Builder, Unrecognised, Value
from verification.capture_cleanup import cleaned
from verification.capture_constants import Folded, evaluated, fold, moved, number, stored
from verification.capture_movement import MOVEMENTS, SAME
from verification.capture_rules import RULES, Call
from verification.capture_trace import Program, Uncapturable, name, traced
from verification.graph import Graph

_UNDEFINED = ("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided")
_LIKE = ("expand_as", "reshape_as", "to", "type_as", "view_as")
"""What makes a tensor one of the shape or the type of another, and reads nothing else of that."""


def translated(module: nn.Module, x: Tensor, *, executed: bool = False) -> Graph:
    """What `module`, in eval mode, computes of each example of the batch x, of which the values do
    not matter. Raises Uncapturable, and whatever torch and the module do.

    With `executed` it is the same function, its sums as the module executes them: nodes have the
    names of those of the other graph. What hides more than ordinary rounding is unknown."""
    program = traced(module, x)  # first: its runs may give weights other memory, known by which
    translation = Translation(module, tuple(x.shape), executed)
    results = translation.results(program)
    if len(results) != 1 or not isinstance(results[0], Value | Folded):
        raise Uncapturable(f"it returns {len(results)} results, expected one tensor")
    (result,) = results
    if isinstance(result, Folded):
        raise Uncapturable("its output does not depend on its input")
    return cleaned(Graph(tuple(translation.build.nodes.values()), result.name), flat=not executed)


def names(module: nn.Module) -> dict[tuple[Any, ...], str]:
    """By identity of the memory of a parameter or buffer, its name."""
    tensors = [*module.named_buffers(), *module.named_parameters()]
    return {_identity(tensor): name for name, tensor in reversed(tensors)}


def _identity(tensor: Tensor) -> tuple[Any, ...]:
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype


class Translation:
    """One pass over the program of a module, for a batch of the shape `full`."""

    def __init__(self, module: nn.Module, full: tuple[int, ...], executed: bool):
        self.full, self.names = full, names(module)
        self.build = Builder(full[0], executed=executed)
        self.known: dict[fx.Node, Any] = {}

    def results(self, program: Program) -> list[Any]:
        """What the program returns, its nodes being those of `build`."""
        self.known[program.input] = self._input(program.input)
        for node, tensor in program.tensors.items():
            self.known[node] = stored(tensor, self.names.get(_identity(tensor), ""))
        for node in program.calls:
            self.known[node] = self._called(node)
        return _opened(program.results, self.known)

    def _input(self, node: fx.Node) -> Value:
        self.build.base = node.name
        return self.build.emit("input", [], self.full)

    def _called(self, node: fx.Node) -> Any:
        if node.target is operator.getitem:
            return self._item(node)
        operands = _opened((node.args, node.kwargs), self.known)
        overload = node.target
        self.build.base, self.build.module = node.name, _module(node)
        if not isinstance(overload, torch._ops.OpOverload):
            return self._foreign(node, operands)
        op = name(overload)
        given = dict(zip((a.name for a in overload._schema.arguments), operands[0], strict=False))
        given |= operands[1]
        if op in _LIKE and isinstance(given.get("self"), Folded):
            dtype = node.meta["val"].dtype
            given = {key: _unmoved(value, dtype) for key, value in given.items()}
        if not _values(list(given.values())):
            return self._folded(op, overload, given)
        if op.startswith(("_assert", "sym_constrain")):
            return None
        return self._translated(node, op, overload, given)

    def _item(self, node: fx.Node) -> Any:
        container, position = node.args
        assert isinstance(container, fx.Node)
        assert isinstance(position, int)
        parts = self.known[container]
        part = parts[position] if isinstance(parts, tuple) else None
        if part is None and node.users:
            self.build.base, self.build.module = node.name, _module(node)
            operands = _opened((container.args, container.kwargs), self.known)
            return self._unknown(node, str(container), _values(operands))
        return part

    def _foreign(self, node: fx.Node, operands: Any) -> Any:
        """A Python function, or an operator of higher order."""
        values = _values(operands)
        if values:
            return self._unknown(node, str(node.target), values)
        target: Any = node.target
        return number(target(*_executed(operands[0]), **_executed(operands[1])))

    def _folded(self, op: str, overload: Any, given: dict[str, Any]) -> Any:
        if torch.Tag.nondeterministic_seeded in overload.tags or op in _UNDEFINED:
            raise Uncapturable(f"the values of {op} differ from call to call")
        executed = overload(**_executed(given))
        first = next(iter(given.values()), None)
        same = op in SAME or op == "item"
        if isinstance(first, Folded) and (same or (op in MOVEMENTS and "dtype" not in given)):
            return self._moved(op, overload, given, first, executed)
        if isinstance(executed, Tensor):
            return fold(op, list(given.values()), executed)
        if isinstance(executed, tuple | list):
            return tuple(evaluated(e) if isinstance(e, Tensor) else number(e) for e in executed)
        return executed if executed is None else number(executed)

    def _moved(
        self, op: str, overload: Any, given: dict[str, Any], base: Folded, executed: Any
    ) -> Any:
        if op == "item":
            return moved(base, base.value, executed)
        if op not in MOVEMENTS:
            floats = base.value.is_floating_point() and executed.is_floating_point()
            if not floats or _loses(base.value.dtype, executed.dtype):
                return evaluated(executed)
            return moved(base, base.value, executed)
        name = next(iter(given))
        values = overload(**{**_executed(given), name: base.value.contiguous()})
        if isinstance(executed, Tensor):
            return moved(base, values, executed)
        pairs = zip(values, executed, strict=True)
        return tuple(moved(base, value, result) for value, result in pairs)

    def _translated(self, node: fx.Node, op: str, overload: Any, given: dict[str, Any]) -> Any:
        arguments = {a.name: given.get(a.name, a.default_value) for a in overload._schema.arguments}
        values = _values(list(given.values()))
        try:
            first = node.meta["val"]
            first = first[0] if isinstance(first, tuple | list) else first
            if not isinstance(first, Tensor):
                raise Uncapturable(f"it reads a number out of the data: {overload}")
            if op not in RULES:
                raise Unrecognised("")
            _keeps_precision(node, first)
            call = Call(op, arguments, tuple(first.shape), first.dtype, overload)
            return RULES[op](self.build, call)
        except Unrecognised as error:
            reason = f": {error}" if str(error) else ""
            return self._unknown(node, f"{overload}{reason}", values)

    def _unknown(self, node: fx.Node, operator: str, values: list[Value]) -> Any:
        val = node.meta["val"]
        try:
            if isinstance(val, tuple | list):
                return tuple(
                    self.build.emit("unknown", values, tuple(v.shape), {"operator": operator})
                    for v in val
                )
            return self.build.emit("unknown", values, tuple(val.shape), {"operator": operator})
        except (Unrecognised, AttributeError) as error:
            place = f" in {self.build.module}" if self.build.module else ""
            reason = "" if ":" in operator else f": {error}"
            raise Uncapturable(f"{operator}{place}{reason}") from error


def _opened(argument: Any, known: Mapping[fx.Node, Any]) -> Any:
    """The arguments of a node with what its nodes stand for."""
    if isinstance(argument, fx.Node):
        return known[argument]
    if isinstance(argument, tuple | list):
        return [_opened(a, known) for a in argument]
    if isinstance(argument, Mapping):
        return {key: _opened(a, known) for key, a in argument.items()}
    return argument


def _unmoved(argument: Any, dtype: torch.dtype) -> Any:
    """A constant of the shape of data, and anything else as it is."""
    if not isinstance(argument, Value):
        return argument
    return stored(torch.zeros(argument.full, dtype=dtype), "")


def _values(arguments: Any) -> list[Value]:
    if isinstance(arguments, Value):
        return [arguments]
    if isinstance(arguments, dict):
        arguments = list(arguments.values())
    if isinstance(arguments, tuple | list):
        return [value for argument in arguments for value in _values(argument)]
    return []


def _executed(arguments: Any) -> Any:
    if isinstance(arguments, Folded):
        return arguments.executed
    if isinstance(arguments, dict):
        return {key: _executed(argument) for key, argument in arguments.items()}
    if isinstance(arguments, tuple | list):
        return [_executed(argument) for argument in arguments]
    return arguments


def _module(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack")
    return str(list(stack.values())[-1][0]) if stack else ""


def _loses(before: torch.dtype, after: torch.dtype) -> bool:
    """Whether numbers lose digits, or their range: float16 has more digits than bfloat16, and less
    range."""
    a, b = torch.finfo(before), torch.finfo(after)
    return b.eps > a.eps or b.max < a.max or b.smallest_normal > a.smallest_normal


def _keeps_precision(node: fx.Node, result: Tensor) -> None:
    """Raises Unrecognised where real numbers become integers, or floats of fewer digits."""
    if not result.is_floating_point():
        raise Unrecognised(f"a result of type {result.dtype}")
    for operand in node.all_input_nodes:
        val = operand.meta.get("val")
        if not isinstance(val, Tensor) or not val.is_floating_point() or not val.ndim:
            continue
        if _loses(val.dtype, result.dtype):
            raise Unrecognised(f"rounding from {val.dtype} to {result.dtype}")
