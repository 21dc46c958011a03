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
_BY_NUMBER = frozenset(
    {
        "_embedding_bag", "_embedding_bag_forward_only", "_index_put_impl_", "_linalg_check_errors",
        "div", "div_", "embedding", "floor_divide", "floor_divide_", "fmod", "fmod_", "gather",
        "index", "index_add", "index_add_", "index_copy", "index_copy_",
        "index_fill", "index_fill_", "index_put", "index_put_", "index_reduce", "index_reduce_",
        "index_select", "masked_scatter", "masked_scatter_", "max_unpool2d", "max_unpool3d",
        "multi_margin_loss", "multilabel_margin_loss_forward", "nll_loss2d_forward",
        "nll_loss_forward", "put", "put_", "remainder", "remainder_", "scatter", "scatter_",
        "scatter_add", "scatter_add_", "scatter_reduce", "scatter_reduce_", "take",
    }
)  # fmt: skip
"""What raises an error or not, as integers or truths among its arguments say, which a module may
catch: singular matrices, a divisor 0, positions out of range."""
_BY_RANGE = ("bernoulli", "binomial", "cholesky", "multinomial", "normal", "poisson")
"""The same, as any numbers among its arguments say."""
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
        given = _tensors((args, kwargs))
        name = func._schema.name.split("::", 1)[1]
        known = [tensor for tensor in given if self.data.has(tensor)]
        if not known or name in _FILLING or name.startswith("new_"):
            return func(*args, **kwargs)
        tagged = any(tag in func.tags for tag in _TAGS)
        if _may_fail(name, known) or (tagged and not _by_position(name, given[1:])):
            self.found.append(name)
        try:
            result = func(*args, **kwargs)
        except Exception:  # as numbers say, perhaps, and the module may catch it
            self.found.append(name)
            raise
        self.data.add(_tensors(result))
        if func._schema.is_mutable:
            self.data.add(given)
        return result


def _may_fail(name: str, data: list[Tensor]) -> bool:
    """Whether an operator raises an error for some numbers of these tensors."""
    whole = any(not tensor.is_floating_point() for tensor in data)
    return name in _BY_RANGE or (name in _BY_NUMBER and whole)


def _by_position(name: str, indices: list[Tensor]) -> bool:
    """Whether an index has positions, and no masks: then the shape is that of the indices."""
    return name == "index" and not any(i.dtype in (torch.bool, torch.uint8) for i in indices)
