"""Witnesses: two inputs whose images are further apart than a Lipschitz claim allows.

`search` looks for them in float32 by any means; `replay` alone says what a pair proves, in
float64 with a rigorous error (`verification.running_error`), so a refutation never rests on the
search. `shrink` makes a pair simpler to look at.
"""

import contextlib
import itertools
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dsnn.errors import UserError
from dsnn.files import atomic
from dsnn.operators.rounding import UNIT, down, gamma
from verification.copies import deep_copy
from verification.graph import Graph
from verification.interpret import Interpreter
from verification.running_error import evaluate
from verification.running_error_watch import FLOOR, norm, rows

_PAIRS = 8
_STEPS = 12
_ROUNDS = 6
_SHARE = 1 / 3
"""Of the time left, for one round with all of its pairs: in a slow module fewer climb, further."""
_DISTANCES = (3e-2, 3e-3, 1e-1, 1e-2)
"""Distances of the pairs, relative to the norm of their centre."""
_SCALES = (1.0, 10.0, 0.1)


@dataclass(frozen=True)
class Witness:
    """Inputs x and y, one example each, and a rigorous lower bound of |f(x) - f(y)| / |x - y|."""

    x: Tensor
    y: Tensor
    ratio: float


def replay(module: nn.Module, x: Tensor, y: Tensor) -> float:
    """Lower bound of |f(x) - f(y)| / |x - y| in real arithmetic on the stored numbers, rounded
    down; 0 where nothing is proved (x = y, overflow). x and y are single examples.

    Raises UnboundedOperation where the module does something without an error bound.
    """
    pair = torch.stack([x.detach().to("cpu", torch.float64), y.detach().to("cpu", torch.float64)])
    image = evaluate(module, pair)
    moved = (image.value[0] - image.value[1]).flatten()
    computed = float(torch.linalg.vector_norm(moved))
    proved = computed * (1 - gamma(moved.numel() + 8)) - FLOOR - float(image.error.sum()) * 1.01
    distance = float(norm(pair[0] - pair[1], False)) * (1 + 4 * UNIT)
    ratio = down(proved) / distance
    return down(ratio) if math.isfinite(ratio) else 0.0


def replayed(module: nn.Module, meaning: Graph | nn.Module | None, x: Tensor, y: Tensor) -> float:
    """As `replay`, of the graph where it is known, or of a module that executes it: weights that a
    parametrisation computes are then those of the executed dtype, as in every bound."""
    if isinstance(meaning, Graph):
        known = not any(node.kind == "unknown" for node in meaning)
        return replay(Interpreter(meaning) if known else module, x, y)
    return replay(module if meaning is None else meaning, x, y)


def search(
    module: nn.Module,
    shape: tuple[int, ...],
    *,
    graph: Graph | nn.Module | None = None,
    target: float = math.inf,
    starts: Tensor | None = None,
    budget_seconds: float = 10.0,
    seed: int = 0,
) -> Witness | None:
    """The best witness found, replayed; None where no pair proves a positive ratio.

    Inputs of the module are batches of examples of `shape`; `graph` is what it computes, where
    that is known, for the replay. Centres are drawn from `starts`
    (N, *shape) when given, else at random, white and smooth, at several scales. The search stops
    after the round in which a replayed ratio exceeds `target`, after six rounds, or when the
    budget is spent; unless that cuts it, the result depends on `seed` alone. Raises
    UnboundedOperation as `replay`.
    """
    deadline = time.monotonic() + budget_seconds
    fast = _fast(module)
    generator = torch.Generator().manual_seed(seed)
    supply = (x.to(_precision(module)) for x in _supply(shape, starts, generator))
    best: Witness | None = None
    kept: tuple[Tensor, Tensor] | None = None
    for _ in range(_ROUNDS):
        centre, half = _new_pairs(supply, generator, _PAIRS if kept is None else _PAIRS // 2)
        if kept is not None:
            centre, half = torch.cat([kept[0], centre]), torch.cat([kept[1], half])
        centre, half, ratios = _ascend(fast, centre, half, deadline)
        order = ratios.argsort(descending=True, stable=True)[: _PAIRS // 2]
        kept = (centre[order], half[order])
        x, y = kept[0][0] + kept[1][0], kept[0][0] - kept[1][0]
        ratio = replayed(module, graph, x, y)
        if ratio > (best.ratio if best else 0.0):
            best = Witness(x, y, ratio)
        if (best and best.ratio > target) or time.monotonic() > deadline:
            break
    return best


def shrink(
    module: nn.Module,
    pair: Witness,
    limit: float,
    *,
    graph: Graph | nn.Module | None = None,
    budget_seconds: float = 2.0,
) -> Witness:
    """A simpler pair for a person to look at: around 0 if that will do, in few entries, of short
    numbers. Each change is replayed, and kept while the ratio stays above `limit` and above
    nine tenths of what it was."""
    deadline, least = time.monotonic() + budget_seconds, max(limit, 0.9 * pair.ratio)
    best, fast = pair, _fast(module)

    def attempt(x: Tensor, y: Tensor) -> bool:
        nonlocal best
        if time.monotonic() > deadline or bool((x == y).all()):
            return False
        if _estimated(fast, x, y) < 0.9 * least:
            return False  # not worth a replay
        ratio = replayed(module, graph, x, y)
        if ratio > least:
            best = Witness(x, y, ratio)
        return ratio > least

    attempt((pair.x - pair.y) / 2, (pair.y - pair.x) / 2)
    count = best.x.numel()
    while count > 1:
        count = -(-count // 2)
        difference = best.x - best.y
        kept = difference.flatten().abs().topk(count).indices
        mask = torch.zeros(difference.numel(), dtype=torch.bool)
        mask[kept] = True
        if not attempt(best.y + difference * mask.reshape(difference.shape), best.y):
            break
    for digits in (2, 3, 4):
        if attempt(*(_short(t, digits) for t in (best.x, best.y))):
            break
    return best


@torch.no_grad()
def _estimated(module: nn.Module, x: Tensor, y: Tensor) -> float:
    """The ratio as the module computes it; infinity where that is no number."""
    x, y = x.to(_precision(module)), y.to(_precision(module))
    images = module(torch.stack([x, y]))
    ratio = float((images[0] - images[1]).norm() / (x - y).norm())
    return ratio if math.isfinite(ratio) else math.inf


def _short(x: Tensor, digits: int) -> Tensor:
    """x to multiples of a power of two, about `digits` binary digits below its largest entry."""
    exponent = math.frexp(float(x.abs().max()))[1] - 2 * digits
    return torch.round(x * 2.0**-exponent) * 2.0**exponent


def _fast(module: nn.Module) -> nn.Module:
    """A copy to search on."""
    return deep_copy(module).to("cpu", _precision(module)).eval().requires_grad_(False)


def _precision(module: nn.Module) -> torch.dtype:
    """What the search computes in: float32, or float64 for a module with such parameters."""
    stored = [*module.parameters()] or [*module.buffers()]
    double = any(tensor.dtype == torch.float64 for tensor in stored)
    return torch.float64 if double else torch.float32


def inputs_of(net: nn.Module, name: str, x: Tensor) -> Tensor | None:
    """What the submodule `name` of `net` receives when `net` is applied to the batch x: starts
    that look like data. Of several calls, the first; None where it is not called. `net` itself is
    not run: in training mode that would change its statistics."""
    net, seen = deep_copy(net).to("cpu").eval(), list[Tensor]()

    def stop(_: nn.Module, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
        seen.append(next(iter((*args, *kwargs.values()))).detach().clone())
        raise _Reached

    hook = net.get_submodule(name).register_forward_pre_hook(stop, with_kwargs=True)
    try:
        with torch.no_grad(), contextlib.suppress(_Reached):
            net(x)
    finally:
        hook.remove()
    return seen[0] if seen else None


class _Reached(Exception):
    """The rest of the network need not be run."""


def save(path: str | Path, witness: Witness, metadata: Mapping[str, str] | None = None) -> None:
    """Write x, y and the ratio as safetensors, with more metadata (module, claim, hashes)."""
    x, y = (t.clone(memory_format=torch.contiguous_format) for t in (witness.x, witness.y))
    with atomic(Path(path)) as temporary:
        save_file({"x": x, "y": y}, temporary, {**(metadata or {}), "ratio": repr(witness.ratio)})


def save_point(
    path: str | Path, x: Tensor, directions: Tensor | None, metadata: Mapping[str, str]
) -> None:
    """Write an input x, and the directions along which a Jacobian was taken there."""
    tensors = {"x": x} if directions is None else {"x": x, "directions": directions}
    with atomic(Path(path)) as temporary:
        save_file({k: t.detach().contiguous() for k, t in tensors.items()}, temporary, {**metadata})


def load(path: str | Path) -> Witness:
    """Read what `save` wrote. Raises UserError on anything else; the ratio is a claim until it is
    replayed."""
    try:
        with safe_open(path, framework="pt") as file:
            x, y = file.get_tensor("x"), file.get_tensor("y")
            ratio = float((file.metadata() or {})["ratio"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise UserError(f"cannot load witness {path}: {error}") from error
    floats = (torch.float32, torch.float64)
    good = all(t.dtype in floats and bool(t.isfinite().all()) for t in (x, y))
    if not good or x.shape != y.shape or not math.isfinite(ratio):
        raise UserError(f"{path}: in a witness x, y and the ratio are finite, of one shape")
    return Witness(x, y, ratio)


def _supply(
    shape: tuple[int, ...], starts: Tensor | None, generator: torch.Generator
) -> Iterator[Tensor]:
    """Centres without end: the given starts round and round, else random ones."""
    if starts is not None and len(starts):
        if tuple(starts.shape[1:]) != shape:
            raise ValueError(f"starts have shape {tuple(starts.shape[1:])}, expected {shape}")
        yield from itertools.cycle(starts.detach().to("cpu", torch.float32))
    for count in itertools.count():
        if len(shape) == 3 and count % 2 == 0:
            coarse = torch.rand((1, shape[0], 4, 4), generator=generator)
            yield F.interpolate(coarse, shape[1:], mode="bilinear")[0]
        else:
            yield torch.randn(shape, generator=generator) * _SCALES[count // 2 % len(_SCALES)]


def _new_pairs(
    supply: Iterator[Tensor], generator: torch.Generator, count: int
) -> tuple[Tensor, Tensor]:
    """Centres and half differences (count, *shape) in random directions."""
    centre = torch.stack([next(supply) for _ in range(count)])
    direction = torch.randn(centre.shape, generator=generator).to(centre)
    relative = torch.tensor([_DISTANCES[k % len(_DISTANCES)] for k in range(count)]).to(centre)
    length = 0.5 * relative * _norms(centre).flatten().clamp_min(1e-3)
    return centre, _unit(direction) * _like(length, centre)


def _ascend(
    module: nn.Module, centre: Tensor, half: Tensor, deadline: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The best pairs (centre ± half) on the way up, and their ratios (count,).

    With d = f(x) - f(y), the gradients J(x)ᵀd and -J(y)ᵀd say where to move x and y. Their
    difference is the new direction, at the old distance: a power iteration on secants, which for
    a linear map is the one on JᵀJ. Their sum moves the centre, by half that distance. While the
    rest of the way would take more than its share of the time, the worse half is given up.
    """
    start = time.monotonic()
    share = _SHARE * (deadline - start)
    best = centre, half, centre.new_full((len(centre),), -1.0)
    length = _norms(half)
    for step in range(_STEPS):
        if step > 0 and (time.monotonic() - start) * _STEPS / step > share and len(centre) > 1:
            live = best[2].topk(len(centre) // 2).indices
            centre, half, length = centre[live], half[live], length[live]
            best = best[0][live], best[1][live], best[2][live]
        count = len(centre)
        pair = torch.cat([centre + half, centre - half]).requires_grad_()
        image = rows(module(pair.clone()))  # it may write to what it is given
        moved = image[:count] - image[count:]
        distance = _norms(pair.detach()[:count] - pair.detach()[count:]).flatten()
        ratios = (moved.detach().norm(dim=1) / distance).nan_to_num(-1.0, -1.0, -1.0)
        better = ratios > best[2]
        keep = _like(better, centre)
        best = (
            torch.where(keep, centre, best[0]),
            torch.where(keep, half, best[1]),
            torch.where(better, ratios, best[2]),
        )
        if step == _STEPS - 1 or time.monotonic() > deadline or not moved.requires_grad:
            break
        try:
            (gradient,) = torch.autograd.grad((moved * F.normalize(moved.detach())).sum(), pair)
        except RuntimeError:  # it wrote to what its derivative needs, or has none
            break
        across, along = gradient[:count] - gradient[count:], gradient[:count] + gradient[count:]
        half = torch.where(_norms(across) > 0, _unit(across) * length, half)
        if step > 0:
            centre = centre + _unit(along) * length
    return best


def _norms(x: Tensor) -> Tensor:
    """l2 norms per example, (B, 1, ..., 1)."""
    return _like(rows(x).norm(dim=1), x)


def _like(values: Tensor, x: Tensor) -> Tensor:
    return values.reshape(-1, *[1] * (x.ndim - 1))


def _unit(x: Tensor) -> Tensor:
    return x / _norms(x).clamp_min(1e-30)
