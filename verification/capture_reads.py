"""Which numbers a module reads out of its data while it runs.

What a module does with such a number (a branch, numpy) no trace shows. A trace fails there, unless
the module knows that it is being traced and does something else: then only a run shows it.
"""

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

_READERS = frozenset(
    {
        "__array__", "__dlpack__", "__format__", "__reduce_ex__", "__repr__", "data_ptr", "numpy",
        "storage", "tolist", "untyped_storage",
    }
)  # fmt: skip
"""Methods of tensors that give their entries to others than torch."""
_TAGS = (torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape)
_FAILING = {
    "_linalg_check_errors": 0, "embedding": 1, "gather": 1, "index": 1, "index_select": 1,
    "take": 1,
}  # fmt: skip
"""What raises an error or not, as numbers say, which a module may catch: singular matrices, and
positions out of range. By name, which tensors these are: all from this one on."""
_FILLING = ("empty_like", "full_like", "ones_like", "rand_like", "randn_like", "zeros_like")
"""With what starts with new_: they take nothing of a tensor but its shape."""


@contextlib.contextmanager
def reads(x: Tensor) -> Iterator[list[str]]:
    """What is called meanwhile that reads numbers out of x, or of what is computed from it."""
    found: list[str] = []
    data = _Data(x)
    with _Methods(data, found), _Operators(data, found):
        yield found


class _Data:
    """The memory that depends on the data."""

    def __init__(self, x: Tensor):
        self.known = {x.untyped_storage()._cdata: x}

    def add(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            self.known[tensor.untyped_storage()._cdata] = tensor  # kept, so that it is not reused

    def has(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self.known


def _tensors(arguments: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)]


class _Methods(TorchFunctionMode):
    def __init__(self, data: _Data, found: list[str]):
        super().__init__()
        self.data, self.found = data, found

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        if name in _READERS and any(map(self.data.has, _tensors((args, kwargs)))):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


class Watch(TorchDispatchMode):
    """A mode that sees every operator that is called."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to keep the compiler away from here torch would load it, in a second."""
        return False


class _Operators(Watch):
    def __init__(self, data: _Data, found: list[str]):
        super().__init__()
        self.data, self.found = data, found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        given = _tensors((args, kwargs))
        name = func._schema.name.split("::", 1)[1]
        if not any(map(self.data.has, given)) or name in _FILLING or name.startswith("new_"):
            return result
        fails = name in _FAILING and any(map(self.data.has, given[_FAILING[name] :]))
        tagged = any(tag in func.tags for tag in _TAGS)
        if fails or (tagged and not _by_position(name, given[1:])):
            self.found.append(name)
        self.data.add(_tensors(result))
        if func._schema.is_mutable:
            self.data.add(given)
        return result


def _by_position(name: str, indices: list[Tensor]) -> bool:
    """Whether an index has positions, and no masks: then the shape is that of the indices."""
    return name == "index" and not any(i.dtype in (torch.bool, torch.uint8) for i in indices)
