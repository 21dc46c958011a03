"""A module as a program: the torch operators that it calls on a batch, in the order of the calls.

`recorded` watches the operators go by and hands the module tensors without values, so that nothing
can depend on them unseen. It takes what most networks consist of, in a fraction of a second;
`torch.export`, which takes more than that to load, gets the others.
"""

import contextlib
import operator
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import map_arg
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map

from dsnn import spheres
from verification.capture_reads import Watch

PLAIN = frozenset(
    {"add", "addmm", "alias", "avg_pool2d", "clone", "convolution", "detach", "leaky_relu",
     "max_pool2d_with_indices", "mul", "neg", "relu", "sub", "tanh", "view"}
)  # fmt: skip
"""Operators on data that have the same rules in an exported program, or ones that mean the same."""
PER_ENTRY = ("apply_", "map_", "map2_")
"""Methods of tensors that call a function of Python for every entry. They are no operators, skip
tensors without values, and end the process where an export has no memory for the entries."""


class Uncapturable(Exception):
    """No graph describes this module on one example, for the reason given in one line."""

    def __init__(self, reason: str):
        self.reason = " ".join(reason.split())
        super().__init__(self.reason)


@dataclass(frozen=True)
class Program:
    """Calls of operators without side effects: `calls` in order, with what they return as
    `meta["val"]`, of the batch `input` and of the stored `tensors`; and the `results`."""

    calls: list[fx.Node]
    input: fx.Node
    tensors: dict[fx.Node, Tensor]
    results: list[Any]


def traced(module: nn.Module, x: Tensor) -> Program:
    """What `module` calls on the batch x. Raises Uncapturable, and whatever torch does."""
    run = calls(module, x.clone())
    program = recorded(module, x, run)
    same = _on_data(run) == _on_data(calls(module, x.clone(), gradients=True))
    if program is not None and same:
        return program
    again, told = (calls(module, x.clone(), told=told) for told in (False, True))
    if run == again != told:
        raise Uncapturable("it does something else when it is told that it is being exported")
    # In the first run many a module makes constants that it keeps: they are no difference.
    if again != told or _on_data(run) != _on_data(again):
        raise Uncapturable("what it calls changes from call to call")
    if not same:
        raise Uncapturable("what it computes depends on whether gradients are taken")
    return exported(module, x)


def name(overload: torch._ops.OpOverload) -> str:
    """The name of an operator without its overload; of torch's own without the namespace, so that
    nobody else's is taken for one of them."""
    space, bare = overload._schema.name.split("::", 1)
    return bare if space in ("aten", "prims") else overload._schema.name


class _PerEntry(TorchFunctionMode):
    """Which methods are called that call a function of Python for every entry."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if (called := getattr(func, "__name__", "")) in PER_ENTRY:
            self.found.append(called)
        return func(*args, **(kwargs or {}))


# By watching. ------------------------------------------------------------------------------


class _Refused(Exception):
    """Something that is left to `torch.export`."""


def recorded(module: nn.Module, x: Tensor, run: list[tuple[Any, ...]]) -> Program | None:
    """The program of a module that computes by `PLAIN` operators, writes to no tensor, reads no
    number out of one, has no part in two places and keeps the batch in front; None of others. Nor
    of one that calls others than those of its `run` on tensors with values (`calls`)."""
    try:
        recorder = _Recorder(module, x)
        program = recorder.program(module)
        return program if run == recorder.calls else None
    except Uncapturable:
        raise
    except Exception:  # whatever is wrong with the module, export says it
        return None


class _Calls(Watch):
    """The operators that are called, and with what: of a tensor, what it is. That is `known` by id,
    or the place of the call that returned it."""

    def __init__(self, known: Mapping[int, Any]):
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []
        self.known: dict[int, Any] = dict(known)
        self.kept: list[Any] = []  # so that no id is given twice

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.keep(func, args, kwargs or {})
        return self.returned(func(*args, **(kwargs or {})))

    def keep(self, func: Any, args: Any, kwargs: dict[str, Any]) -> None:
        self.calls.append((func, *map(self._label, tree_leaves((tuple(args), kwargs)))))

    def _label(self, leaf: Any) -> Any:
        return self.known.get(id(leaf), "?") if isinstance(leaf, Tensor) else repr(leaf)

    def returned(self, result: Any) -> Any:
        self.kept.append(result)
        for k, leaf in enumerate(tree_leaves(result)):
            self.known[id(leaf)] = len(self.calls), k
        return result


def calls(
    module: nn.Module, x: Tensor, *, told: bool = False, gradients: bool = False
) -> list[tuple[Any, ...]]:
    """What the module calls on x, when it is `told` that it is being exported, or not, and with
    `gradients` enabled, or not. Raises Uncapturable where it calls Python for every entry, and
    whatever torch does."""
    named = (*module.named_parameters(), *module.named_buffers())
    flags, compiler = ("_is_compiling_flag", "_is_exporting_flag"), torch.compiler
    before = {flag: getattr(compiler, flag) for flag in flags}
    try:
        for flag in flags if told else ():
            setattr(compiler, flag, True)
        known = {id(x): "", **{id(tensor): key for key, tensor in named}}
        following = torch.set_grad_enabled(gradients)
        with following, spheres.unchecked(), _PerEntry() as entries, _Calls(known) as run:
            module(x)
    finally:
        for flag, value in before.items():
            setattr(compiler, flag, value)
    if entries.found:
        raise Uncapturable(f"it calls Python for every entry: {entries.found[0]}")
    return run.calls


def _on_data(calls: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Those of the calls of a run that depend on its batch; all constants in them are alike."""
    places: dict[int, int] = {}  # of these calls among all of them, and among these
    found: list[tuple[Any, ...]] = []

    def depends(label: Any) -> bool:
        return label == "" or (type(label) is tuple and label[0] in places)

    def alike(label: Any) -> Any:
        if type(label) is tuple:
            return (places[label[0]], label[1]) if depends(label) else "?"
        return label

    for place, (func, *labels) in enumerate(calls, 1):
        if any(map(depends, labels)):
            found.append((func, *map(alike, labels)))
            places[place] = len(places)
    return found


class _Recorder(_Calls):
    """The module sees tensors without values; what it calls is executed on those they stand for."""

    def __init__(self, module: nn.Module, x: Tensor):
        super().__init__({})
        self.graph, self.batch, self.path = fx.Graph(), len(x), [""]
        self.nodes: dict[int, fx.Node] = {}  # by id of the tensors that the module sees
        self.storages: dict[int, int] = {}  # by the same, where their entries would be
        self.refused = False
        self.values: dict[fx.Node, Any] = {}
        self.input = self._placeholder("x", x)
        self.data = {self.input}
        named = (*module.named_parameters(), *module.named_buffers())
        self.stored = {key: self._placeholder("stored", tensor.detach()) for key, tensor in named}
        self.known = {id(node.meta["val"]): key for key, node in self.stored.items()}
        self.known[id(self.input.meta["val"])] = ""

    def program(self, module: nn.Module) -> Program:
        unreal = {key: node.meta["val"] for key, node in self.stored.items()}
        with torch.no_grad(), _entered(module, self.path), self:
            output = torch.func.functional_call(module, unreal, (self.input.meta["val"],))
        if self.refused:
            raise Uncapturable("it goes on where something in it cannot be followed")
        returned = [output] if isinstance(output, Tensor) else list(output)
        calls = [node for node in self.graph.nodes if node.op == "call_function"]
        tensors = {node: self.values[node] for node in self.stored.values()}
        return Program(calls, self.input, tensors, [self._node(result) for result in returned])

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        self.keep(func, args, kwargs or {})
        try:
            return self.returned(self._recorded(func, args, kwargs or {}))
        except Exception:  # which the module may catch
            self.refused = True
            raise

    def _recorded(self, func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        called = tree_map(self._node, (tuple(args), kwargs))
        positional, named = map_arg(called, self.values.__getitem__)
        value = func(*positional, **named)
        node = self._call(func, called[0], called[1], value)
        if func._schema.is_mutable or (node in self.data and name(func) not in PLAIN):
            raise _Refused
        if isinstance(value, Tensor):
            return node.meta["val"]
        parts = (self._call(operator.getitem, (node, k), {}, v) for k, v in enumerate(value))
        return type(value)(part.meta["val"] for part in parts)

    def _call(self, target: Any, args: Any, kwargs: Any, value: Any) -> fx.Node:
        """A node for the call of an operator, which returned `value`."""
        label = target.__name__ if target is operator.getitem else name(target)
        node = self.graph.create_node("call_function", target, args, kwargs, name=label)
        results = [value] if isinstance(value, Tensor) else list(value)
        if not self.data.isdisjoint(node.all_input_nodes):
            self.data.add(node)
            if any(len(result) != self.batch for result in results):
                raise _Refused
        return self._known(node, value)

    def _placeholder(self, label: str, tensor: Tensor) -> fx.Node:
        return self._known(self.graph.placeholder(label), tensor)

    def _known(self, node: fx.Node, value: Any) -> fx.Node:
        unreal = tree_map(_unreal, value)
        node.meta = {"val": unreal, "nn_module_stack": {"": (self.path[-1], None)}}
        self.values[node] = value
        if isinstance(unreal, Tensor):
            self.nodes[id(unreal)] = node
            self.storages[id(unreal)] = unreal.untyped_storage()._cdata
        return node

    def _node(self, value: Any) -> Any:
        """The node of a tensor, and anything else as it is. Raises KeyError for a tensor that
        came from elsewhere, _Refused for one that got other entries unseen (`x.data = y`)."""
        if not isinstance(value, Tensor):
            return value
        if value.untyped_storage()._cdata != self.storages[id(value)]:
            raise _Refused
        return self.nodes[id(value)]


def _unreal(value: Tensor) -> Tensor:
    """Without values: whatever would read one raises."""
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="meta")


@contextlib.contextmanager
def _entered(module: nn.Module, path: list[str]) -> Iterator[None]:
    """Keeps, at the end of `path`, the path of the part that is being called."""
    parts = list(module.named_modules(remove_duplicate=False))
    if len({id(part) for _, part in parts}) < len(parts):
        raise _Refused
    hooks = []
    try:
        for where, part in parts:

            def enter(*_: Any, where: str = where) -> None:
                path.append(where)

            def leave(*_: Any) -> None:
                path.pop()

            hooks.append(part.register_forward_pre_hook(enter, prepend=True))
            hooks.append(part.register_forward_hook(leave))
        yield
    finally:
        for hook in hooks:
            hook.remove()


# By torch.export. --------------------------------------------------------------------------


def exported(module: nn.Module, x: Tensor) -> Program:
    """The module exported; traced by `torch.fx` before, where torch refuses it as it is. Raises
    Uncapturable, and whatever torch does."""
    try:
        program = torch.export.export(module, (x,), strict=False)
    except Exception as error:
        try:
            program = torch.export.export(_flat(module, x), (x,), strict=False)
        except Exception:
            raise error from None
    if any(_has_effects(node) for node in program.graph.nodes):
        program = program.run_decompositions({})
    changed = program.graph_signature.buffers_to_mutate.values()
    if changed:
        raise Uncapturable(f"it changes {', '.join(changed)} when called")
    return _without_signature(program)


def _flat(module: nn.Module, x: Tensor) -> nn.Module:
    """The module traced by `make_fx`, which lets it do with its weights what export does not. The
    input is a tensor without values, so nothing can depend on them unseen."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    unreal = FakeTensorMode(allow_non_fake_inputs=True).from_tensor(x)
    return make_fx(module, tracing_mode="real", pre_dispatch=True)(unreal)


def _has_effects(node: fx.Node) -> bool:
    """Whether the operator may write to its arguments, or holds a program of its own."""
    if isinstance(node.target, torch._ops.OpOverload):
        return node.target._schema.is_mutable
    return node.op == "call_function" and node.target is not operator.getitem


def _without_signature(program: torch.export.ExportedProgram) -> Program:
    """What goes in and out by node. Raises Uncapturable on anything but calls and one input."""
    stored = {**program.constants, **program.state_dict}
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    inputs, tensors, calls = [], {}, []
    for node in program.graph.nodes:
        if node.op == "placeholder":
            if specs[node.name].kind.name == "USER_INPUT":
                inputs.append(node)
            else:
                tensors[node] = stored[str(specs[node.name].target)].detach()
        elif node.op == "call_function":
            calls.append(node)
        elif node.op != "output":
            raise Uncapturable(f"it contains a {node.op} of {node.target}")
    if len(inputs) != 1:
        raise Uncapturable(f"it takes {len(inputs)} inputs, expected one tensor")
    kinds = [spec.kind.name for spec in program.graph_signature.output_specs]
    returned: Any = program.graph.output_node().args[0]
    pairs = zip(kinds, returned, strict=True)
    results = [result for kind, result in pairs if kind == "USER_OUTPUT"]
    return Program(calls, inputs[0], tensors, results)
