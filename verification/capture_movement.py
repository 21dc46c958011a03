"""Capture: operators that move entries, read off by running them on the entries' numbers."""

import math
from typing import Any

import torch
from torch import Tensor

from verification.capture_builder import Builder, Padded, Unrecognised, Value
from verification.capture_constants import Folded
from verification.capture_rules import Call, rule

MOVEMENTS = [
    "view",
    "reshape",
    "_unsafe_view",
    "flatten",
    "unflatten",
    "permute",
    "transpose",
    "t",
    "numpy_T",
    "mT",
    "mH",
    "adjoint",
    "movedim",
    "moveaxis",
    "swapaxes",
    "swapdims",
    "unsqueeze",
    "squeeze",
    "slice",
    "select",
    "narrow",
    "expand",
    "expand_as",
    "repeat",
    "tile",
    "roll",
    "flip",
    "fliplr",
    "flipud",
    "rot90",
    "pixel_shuffle",
    "pixel_unshuffle",
    "channel_shuffle",
    "unfold",
    "im2col",
    "index",
    "index_select",
    "gather",
    "diagonal",
    "split",
    "split_with_sizes",
    "chunk",
    "tensor_split",
    "unbind",
    "unsafe_split",
    "unsafe_chunk",
    "view_as",
    "reshape_as",
    "repeat_interleave",
    "tril",
    "triu",
    "diag_embed",
    "upsample_nearest1d",
    "upsample_nearest2d",
    "reflection_pad1d",
    "reflection_pad2d",
    "replication_pad1d",
    "replication_pad2d",
    "slice_copy",
    "select_copy",
    "view_copy",
    "permute_copy",
    "expand_copy",
    "transpose_copy",
    "unsqueeze_copy",
    "squeeze_copy",
]
"""Of their first argument they only move, copy, drop or zero entries."""


def _name(call: Call) -> str:
    return next(n for n in ("input", "self", "x") if n in call.arguments)


@rule(*MOVEMENTS)
def _move(build: Builder, call: Call) -> Any:
    name = _name(call)
    x = call.data(name)
    rest = {
        key: [_plain(v) for v in value] if isinstance(value, list | tuple) else _plain(value)
        for key, value in call.arguments.items()
        if key != name
    }

    def run(numbers: Tensor) -> Any:
        return call.target(**{name: numbers}, **rest)

    several = not isinstance(run(torch.zeros(x.full)), Tensor)
    if several:
        return tuple(build.all_moved(x, run))
    return build.moved(x, run)


def _plain(argument: Any) -> Any:
    if isinstance(argument, Value):
        return torch.zeros(argument.full)  # expand_as and its like read the shape
    return argument.executed if isinstance(argument, Folded) else argument


@rule("index", "gather", "index_select", "repeat_interleave", "tile_by")
def _indexed(build: Builder, call: Call) -> Any:
    for argument in call.arguments.values():
        listed = argument if isinstance(argument, list | tuple) else [argument]
        if argument is not call[_name(call)] and any(isinstance(a, Value) for a in listed):
            raise Unrecognised("positions that depend on the input")
    return _move(build, call)


@rule("clone", "contiguous", "detach", "alias", "lift_fresh_copy", "lift_fresh", "dropout",
      "alpha_dropout", "feature_dropout", "native_dropout", "positive", "to", "_to_copy",
      "type_as", "float", "double", "alias_copy", "detach_")  # fmt: skip
def _same(build: Builder, call: Call) -> Value:
    """Casts to lower precision are refused before any rule is asked."""
    if call.get("train") and call.get("p"):
        raise Unrecognised("a random mask")
    if call.op in ("native_dropout", "to", "_to_copy") and call.get("train"):
        raise Unrecognised("a random mask")
    x = call.data(_name(call))
    return Value(x.name, x.full)


@rule("pad", "constant_pad_nd", "_pad_circular")
def _pad(build: Builder, call: Call) -> Value:
    x = call.data("self")
    pads, mode = list(call["pad"]), call.get("mode", "constant")
    if call.op == "_pad_circular":
        mode = "circular"
    filling = call.get("value") or 0.0
    if not math.isfinite(filling):
        raise Unrecognised(f"padding with {filling}")
    by_dim = [(0, 0)] * (len(x.full) - len(pads) // 2)
    by_dim += [(pads[i], pads[i + 1]) for i in range(len(pads) - 2, -1, -2)]
    if any(by_dim[0]):
        raise Unrecognised("padding across the batch")

    def run(numbers: Tensor) -> Tensor:
        return torch.nn.functional.pad(numbers, pads, mode=mode)

    y = build.moved(x, run)
    if mode != "constant" and mode != "circular":
        return y
    if filling:
        outside = torch.nn.functional.pad(torch.zeros(x.full), pads, value=1.0)
        mask = Folded(outside, outside.to(torch.float64) * filling)
        return build.combine([(1, y)], y.full, mask)
    if build.is_plain(x) and min(pads) >= 0 and y.name != x.name:
        build.padded[y.name] = Padded(x, tuple(by_dim[1:]), mode == "circular")
    return y


@rule("cat", "concat", "concatenate")
def _cat(build: Builder, call: Call) -> Value:
    parts, dim = call["tensors"], call.get("dim", 0)
    parts = [p for p in parts if math.prod(p.full if isinstance(p, Value) else p.value.shape)]
    values = []
    for part in parts:
        if isinstance(part, Folded):
            part = build.constant(part, tuple(part.value.shape))
        values.append(part)
    return _joined(build, values, dim, call.full)


def _joined(build: Builder, values: list[Value], dim: int, full: tuple[int, ...]) -> Value:
    inner = {build.dim(value, dim) for value in values}
    if len(inner) > 1:
        raise Unrecognised("concatenation across the batch")
    if len(values) == 1:
        return values[0]
    return build.emit("concat", values, full, {"dim": inner.pop()})


@rule("stack")
def _stack(build: Builder, call: Call) -> Value:
    dim = call.get("dim", 0) % len(call.full)
    values = []
    for part in call["tensors"]:
        full = tuple(1 if d == dim else n for d, n in enumerate(call.full))
        if isinstance(part, Folded):
            value = part.value.unsqueeze(dim)
            values.append(build.constant(Folded(value, value, part.factor, part.name), full))
        else:
            values.append(build.moved(part, lambda t: t.unsqueeze(dim)))
    return _joined(build, values, dim, call.full)


@rule("slice_scatter", "select_scatter")
def _scatter(build: Builder, call: Call) -> Value:
    """The input with `src` written into a part of it: the entries of both, side by side, moved."""
    base, source = call["self" if "self" in call.arguments else "input"], call["src"]
    rest = {k: v for k, v in call.arguments.items() if k not in ("self", "input", "src")}
    flat, fulls, numbers, count = [], [], [], 0
    for part in (base, source):
        full = part.full if isinstance(part, Value) else tuple(part.value.shape)
        fulls.append(full)
        if isinstance(part, Folded):
            if bool(part.value.any()):
                raise Unrecognised("writing next to constants")
            numbers.append(torch.zeros(full, dtype=torch.float64))
            continue
        size = math.prod(full) // build.batch
        flat.append(build.reshaped(part, (build.batch, size)))
        numbers.append((torch.arange(1, size + 1, dtype=torch.float64) + count, full))
        count += size
    laid = []
    for entry in numbers:
        if isinstance(entry, Tensor):
            laid.append(entry)
            continue
        within, full = entry
        offset = count * torch.arange(build.batch, dtype=torch.float64)[:, None]
        laid.append((within[None] + offset).reshape(full))
    both = _joined(build, flat, 1, (build.batch, count))
    return build.gathered(both, call.target(laid[0], laid[1], **rest))
