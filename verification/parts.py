"""What an audit needs of a module and of its parts: shapes, graphs, something to execute, starts.

Two kinds: a module in this process, and one that only the sandbox has seen, of which nothing but
graphs came back. Parts are named as in `named_modules`, containers without a forward left out; ""
is the module itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from dsnn.errors import UserError
from dsnn.weights import canonical_sha256
from verification import graph_file, witness
from verification.capture import Uncapturable, input_shapes
from verification.capture_parts import captured
from verification.graph import Graph
from verification.interpret import Interpreter
from verification.sandbox import Captured

Shape = tuple[int, ...]


class Parts(ABC):
    """The parts `names` of a module with the state dict `state`. `modules` are those of them that
    live in this process."""

    names: tuple[str, ...]
    state: Mapping[str, Tensor]
    modules: Mapping[str, nn.Module]

    @abstractmethod
    def shape(self, name: str) -> Shape | Uncapturable:
        """The shape of one example that the part is given, or why it has none."""

    @abstractmethod
    def graph(self, name: str) -> Graph | Uncapturable:
        """What the part computes, or why no graph says it."""

    @abstractmethod
    def executed(self, name: str) -> Graph | Uncapturable:
        """The same with its sums as they are executed, as `capture` has it."""

    @abstractmethod
    def module(self, name: str) -> nn.Module:
        """Something that computes the part for batches of examples, to search for witnesses on.
        Raises ValueError where there is none."""

    @abstractmethod
    def starts(self, name: str) -> Tensor | None:
        """A batch of inputs that a search for witnesses starts from; None for random ones."""

    @abstractmethod
    def replay(self, name: str, x: Tensor, y: Tensor) -> float:
        """What single examples x and y prove about the part, as `witness.replay`."""

    @abstractmethod
    def expect(self, names: Iterable[str]) -> None:
        """Says which graphs will be asked for: one trace may give them all."""

    def dtype(self, name: str) -> torch.dtype:
        """That of the first weight of the part; float32 where it has none."""
        prefix = f"{name}." if name else ""
        floats = (t.dtype for n, t in self.state.items() if n.startswith(prefix))
        return next((dtype for dtype in floats if dtype.is_floating_point), torch.float32)


class Live(Parts):
    """A module in this process, for batches of examples of `shape`.

    `starts` makes, from the shape of a part, inputs to search from; without it they are those that
    the part receives when the module is given random examples, smooth ones where they are images.
    """

    def __init__(
        self, module: nn.Module, shape: Shape, starts: Callable[[Shape], Tensor] | None = None
    ):
        self.root, self.given, self.make = module, shape, starts
        self.modules = {n: m for n, m in module.named_modules() if not n or is_map(m)}
        self.names, self.state = tuple(self.modules), stored(module)
        self._shapes: Mapping[str, Shape | Uncapturable] = {}
        self._expected: tuple[str, ...] = ("",)
        self._graphs: dict[tuple[str, bool], Graph | Uncapturable] = {}

    def expect(self, names: Iterable[str]) -> None:
        self._expected = ("", *names)

    def shape(self, name: str) -> Shape | Uncapturable:
        if not name:
            return self.given
        if not self._shapes:
            try:
                self._shapes = input_shapes(self.root, self.given)
            except Uncapturable as reason:
                self._shapes = dict.fromkeys(self.names, reason)
        return self._shapes[name]

    def graph(self, name: str) -> Graph | Uncapturable:
        return self._captured(name, executed=False)

    def executed(self, name: str) -> Graph | Uncapturable:
        return self._captured(name, executed=True)

    def _captured(self, name: str, *, executed: bool) -> Graph | Uncapturable:
        """From the capture of all that are expected, when one of them is asked for first."""
        if (name, executed) not in self._graphs:
            names = self._expected if name in self._expected else (name,)
            shapes = {each: self.shape(each) for each in names}
            found = captured(self.root, shapes, names, executed=executed)
            self._graphs |= {(each, executed): graph for each, graph in found.items()}
        return self._graphs[name, executed]

    def module(self, name: str) -> nn.Module:
        return self.modules[name]

    def replay(self, name: str, x: Tensor, y: Tensor) -> float:
        return witness.replay(self.modules[name], x, y)

    def starts(self, name: str) -> Tensor | None:
        shape = self.shape(name)
        if self.make is not None:
            return None if isinstance(shape, Uncapturable) else self.make(shape)
        if not name:
            return None
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(8, *self.given, generator=generator)
        if len(self.given) == 3 and min(self.given[1:]) >= 8:
            coarse = torch.randn(8, self.given[0], 4, 4, generator=generator)
            x = torch.nn.functional.interpolate(coarse, self.given[1:], mode="bilinear")
        return witness.inputs_of(self.root, name, x.to(self.dtype("")))


class Seen(Parts):
    """A module that the sandbox has captured. Graphs are there for the parts that were asked for;
    they are what is executed."""

    def __init__(self, captured: Captured):
        self.captured = captured
        self.names, self.state, self.modules = captured.names, captured.state, {}

    def expect(self, names: Iterable[str]) -> None:
        pass  # the sandbox was told

    def shape(self, name: str) -> Shape | Uncapturable:
        return self.captured.shapes[name]

    def graph(self, name: str) -> Graph | Uncapturable:
        return self.captured.graphs.get(name, Uncapturable("the sandbox was not asked for it"))

    def executed(self, name: str) -> Graph | Uncapturable:
        return Uncapturable(
            "what the sandbox reports of a factory does not say in which order it sums: "
            "audit the module from Python, verification.audit(..., arithmetic='float32')"
        )

    def module(self, name: str) -> nn.Module:
        graph = self.graph(name)
        if isinstance(graph, Uncapturable):
            raise ValueError(graph.reason)
        return Interpreter(graph)

    def replay(self, name: str, x: Tensor, y: Tensor) -> float:
        """On the graph and by the checker: the interpreter rounds products of constants before it
        computes, which the error bound of a module knows nothing of."""
        graph = self.graph(name)
        assert isinstance(graph, Graph)
        return graph_file.replay(graph, x, y)

    def starts(self, name: str) -> Tensor | None:
        return None


def stored(module: nn.Module) -> dict[str, Tensor]:
    """The tensors of the state dict; what else modules put there (`get_extra_state`) is no weight.
    Raises UserError on tensors that cannot be hashed."""
    state = {n: t for n, t in module.state_dict().items() if isinstance(t, Tensor)}
    for name, tensor in state.items():
        if is_lazy(tensor):
            raise UserError(f"{name} has no shape yet: call the module once, then audit it")
        if not _has_bytes(tensor):
            kind = f"{tensor.dtype}, {tensor.layout}, on {tensor.device}"
            raise UserError(f"{name} cannot be read ({kind}): audit a dense copy in float32")
    return state


def _has_bytes(tensor: Tensor) -> bool:
    """Whether tensors of this kind have entries to hash: sparse ones and those of the device meta
    have none, and not all dtypes do."""
    try:
        canonical_sha256({"": tensor.new_empty(0)})
    except (RuntimeError, TypeError):
        return False
    return True


def is_map(module: nn.Module) -> bool:
    """Whether a module maps inputs to outputs: containers without a forward do not."""
    return not isinstance(module, nn.ModuleList | nn.ModuleDict)
