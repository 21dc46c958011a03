"""Which numbers a module reads out of its data while it runs, and what it keeps of it.

What a module does with such a number (a branch, numpy) no trace shows. A trace fails there, unless
the module knows that it is being traced and does something else: then only a run shows it. What a
call keeps for the next one is a constant in a trace, and no trace says of what it was made.
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
def reads(x: Tensor, earlier: "Data | None" = None) -> Iterator["Data"]:
    """What depends on x meanwhile. Its `found` says what is called that reads numbers out of it,
    or uses what depends on the data of an `earlier` call."""
    data = Data(x)
    with _Methods(data, earlier), _Operators(data, earlier):
        yield data


class Data:
    """The memory that depends on the data, and in `found` what was done with it unseen, a line
    each."""

    def __init__(self, x: Tensor):
        self.known = {x.untyped_storage()._cdata: x}
        self.found: list[str] = []

    def add(self, tensors: Iterable[Tensor]) -> None:
        for tensor in tensors:
            self.known[tensor.untyped_storage()._cdata] = tensor  # kept, so that it is not reused

    def has(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self.known

    def read(self, name: str) -> None:
        self.found.append(f"it reads a number out of the data: {name}")

    def use(self, name: str) -> None:
        self.found.append(f"it uses what it kept of an earlier batch: {name}")


def _tensors(arguments: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(arguments) if isinstance(leaf, Tensor)]


class _Methods(TorchFunctionMode):
    def __init__(self, data: Data, earlier: Data | None):
        super().__init__()
        self.data, self.earlier = data, earlier

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        name = getattr(func, "__name__", "")
        given = _tensors((args, kwargs)) if name in _READERS else []
        if any(map(self.data.has, given)):
            self.data.read(name)
        if self.earlier is not None and any(map(self.earlier.has, given)):
            self.data.use(name)
        return func(*args, **(kwargs or {}))


class Watch(TorchDispatchMode):
    """A mode that sees every operator that is called."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """No: to keep the compiler away from here torch would load it, in a second."""
        return False


class _Operators(Watch):
    def __init__(self, data: Data, earlier: Data | None):
        super().__init__()
        self.data, self.earlier = data, earlier

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        given = _tensors((args, kwargs))
        name = func._schema.name.split("::", 1)[1]
        if name in _FILLING or name.startswith("new_"):
            return func(*args, **kwargs)
        if self.earlier is not None and any(map(self.earlier.has, given)):
            self.data.use(name)
        known = [tensor for tensor in given if self.data.has(tensor)]
        if not known:
            return func(*args, **kwargs)
        tagged = any(tag in func.tags for tag in _TAGS)
        if _may_fail(name, known) or (tagged and not _by_position(name, given[1:])):
            self.data.read(name)
        try:
            result = func(*args, **kwargs)
        except Exception:  # as numbers say, perhaps, and the module may catch it
            self.data.read(name)
            raise
        self.data.add(_tensors(result))
        self.data.add(_written(func, args, kwargs))
        return result


def _written(func: Any, args: Any, kwargs: dict[str, Any]) -> list[Tensor]:
    """Those of the arguments that the operator writes to."""
    arguments = func._schema.arguments
    named = dict(zip((a.name for a in arguments), args, strict=False)) | kwargs
    written = [a.name for a in arguments if a.alias_info is not None and a.alias_info.is_write]
    return _tensors([named.get(name) for name in written])


def _may_fail(name: str, data: list[Tensor]) -> bool:
    """Whether an operator raises an error for some numbers of these tensors."""
    whole = any(not tensor.is_floating_point() for tensor in data)
    return name in _BY_RANGE or (name in _BY_NUMBER and whole)


def _by_position(name: str, indices: list[Tensor]) -> bool:
    """Whether an index has positions, and no masks: then the shape is that of the indices."""
    return name == "index" and not any(i.dtype in (torch.bool, torch.uint8) for i in indices)
