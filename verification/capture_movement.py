"""Capture: operators that move entries, read off by running them on the entries' numbers."""

import math
from typing import Any

import torch
from torch import Tensor

from verification.capture_builder import Builder, Padded, Unrecognised, Value
from verification.capture_constants import Folded, moved, number
from verification.capture_rules import Call, rule

MOVEMENTS = frozenset(
    {
        "_unsafe_view", "adjoint", "channel_shuffle", "chunk", "diag_embed", "diagonal",
        "expand", "expand_as", "flatten", "flip", "fliplr", "flipud", "gather", "im2col", "index",
        "index_select", "mH", "mT", "moveaxis", "movedim", "narrow", "numpy_T", "permute",
        "pixel_shuffle", "pixel_unshuffle", "reflection_pad1d", "reflection_pad2d", "repeat",
        "repeat_interleave", "replication_pad1d", "replication_pad2d", "reshape", "reshape_as",
        "roll", "rot90", "select", "slice", "split", "split_with_sizes", "squeeze", "swapaxes",
        "swapdims", "t", "tensor_split", "tile", "transpose", "tril", "triu", "unbind", "unflatten",
        "unfold", "unsafe_chunk", "unsafe_split", "unsqueeze", "_upsample_nearest_exact1d",
        "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "upsample_nearest1d",
        "upsample_nearest2d", "upsample_nearest3d", "view", "view_as",
    }
)  # fmt: skip
"""Of their first argument they only move, copy, drop or zero entries."""


def _name(call: Call) -> str:
    return next(n for n in ("input", "self", "x") if n in call.arguments)


@rule(*MOVEMENTS)
def _move(build: Builder, call: Call) -> Any:
    name = _name(call)
    x = call.data(name)
    if call.get("dtype") is not None:
        raise Unrecognised("bits taken for those of another type")
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


@rule("gather", "index", "index_select", "repeat_interleave")
def _indexed(build: Builder, call: Call) -> Any:
    for key, argument in call.arguments.items():
        listed = argument if isinstance(argument, list | tuple) else [argument]
        if key != _name(call) and any(isinstance(a, Value) for a in listed):
            raise Unrecognised("positions that depend on the input")
    return _move(build, call)


SAME = frozenset(
    {"_to_copy", "alias", "clone", "contiguous", "detach", "lift_fresh", "lift_fresh_copy",
     "positive", "resolve_conj", "resolve_neg", "to", "type_as"}
)  # fmt: skip
"""The value itself. Casts to lower precision are refused before any rule is asked."""


@rule(*SAME, "alpha_dropout", "dropout", "feature_dropout", "feature_alpha_dropout")
def _same(build: Builder, call: Call) -> Value:
    if call.get("train") and call.get("p"):
        raise Unrecognised("a random mask")
    return call.data(_name(call))


@rule("copy")
def _copy(build: Builder, call: Call) -> Value:
    """`self`, of which only the shape matters, overwritten by `src`."""
    return build.expanded(call.data("src"), call.full)


@rule("zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full")
def _filled(build: Builder, call: Call) -> Folded:
    filled = call.run(self=torch.zeros(call.data("self").full, dtype=call.dtype))
    return Folded(filled, filled)


@rule("pad", "constant_pad_nd")
def _pad(build: Builder, call: Call) -> Value:
    x = call.data("self")
    pads, mode = list(call["pad"]), call.get("mode", "constant")
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
    if mode not in ("constant", "circular"):
        return y
    if filling:
        outside = torch.nn.functional.pad(torch.zeros(x.full), pads, value=1.0)
        mask = Folded(outside, outside.to(torch.float64) * filling)
        return build.combine([(1, y)], y.full, mask)
    if build.is_plain(x) and min(pads) >= 0 and y.name != x.name:
        build.padded[y.name] = Padded(x, tuple(by_dim[1:]), mode == "circular")
    return y


@rule("masked_fill")
def _masked(build: Builder, call: Call) -> Value:
    return _chosen(build, call, call.constant("mask"), call["value"], call.data("self"))


@rule("where")
def _where(build: Builder, call: Call) -> Value:
    return _chosen(build, call, call.constant("condition"), call["self"], call["other"])


def _chosen(build: Builder, call: Call, mask: Folded | None, x: Any, y: Any) -> Value:
    """The entries of x where a constant mask is true, else those of y: each with zeros elsewhere,
    and their sum. One of the two at least is data."""
    if mask is None:
        raise Unrecognised("no mask")
    where, terms, bias = mask.executed.expand(call.full), [], None
    for part, kept in ((x, where), (y, ~where)):
        if isinstance(part, Value):
            wide = build.expanded(part, call.full)
            terms.append((1, build.moved(wide, lambda t, kept=kept: torch.where(kept, t, 0.0))))
            continue
        part = part if isinstance(part, Folded) else number(part)
        value, executed = (
            torch.where(kept, torch.as_tensor(t).expand(call.full), 0.0)
            for t in (part.constant.value, part.executed)
        )
        if value.is_complex() or not bool(torch.isfinite(value).all()):
            raise Unrecognised("a constant that is not finite")
        bias = moved(part, value, executed)
    return build.combine(terms, call.full, bias)


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
            executed = torch.as_tensor(part.executed).unsqueeze(dim)
            values.append(build.constant(moved(part, part.value.unsqueeze(dim), executed), full))
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
