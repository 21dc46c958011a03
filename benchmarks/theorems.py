"""Instances checked per second: batches of `dsnn verify` against loops over single fields."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.random import Generator

from theory import theorems
from verification import suite

BAR = 100.0
"""Smallest ratio asked for."""
REPEATS = 5
SINGLE = 1000
"""Single fields a repeat: a fraction of a second."""

Vector = Any
Map = Callable[[Vector], Vector]
LOOPS = {"PyTorch": torch, "NumPy": np}


def run() -> list[dict[str, object]]:
    """A row per theorem, one chunk of the thorough profile a repeat. The batch also draws
    structures, bounds spectra and rounding errors and evaluates the law in balls; the loops have
    the literal formulas in float64 and a tolerance, in the language of the networks and in NumPy.
    They alternate, so that a change of the machine's load meets all of them."""
    return [_compare(name, field) for name, field in LITERAL.items()]


def _compare(name: str, field: "Field") -> dict[str, object]:
    theorem, profile = theorems()[name], suite.PROFILES["thorough"]
    rates: dict[str, list[float]] = {kind: [] for kind in ("batched", *LOOPS)}
    for repeat in range(REPEATS + 1):  # the first is a warm-up
        start = time.perf_counter()
        part = suite.attack(theorem, profile, seed=repeat)
        seconds = {"batched": (time.perf_counter() - start) / part.instances}
        violations = part.violations
        for kind, xp in LOOPS.items():
            start = time.perf_counter()
            violations += _loop(xp, field, np.random.default_rng(repeat))
            seconds[kind] = (time.perf_counter() - start) / SINGLE
        assert violations == 0
        if repeat:
            for kind, value in seconds.items():
                rates[kind].append(1 / value)
    ratios = {
        kind: [a / b for a, b in zip(rates["batched"], rates[kind], strict=True)] for kind in LOOPS
    }
    return {
        "theorem": name,
        "n": REPEATS,
        "batched [1/s]": _spread(rates["batched"]),
        **{f"loop in {kind} [1/s]": _spread(rates[kind]) for kind in LOOPS},
        **{f"ratio to {kind}": _spread(ratios[kind]) for kind in LOOPS},
        "bar": f"{BAR:g} (PyTorch)",
        "met": statistics.median(ratios["PyTorch"]) >= BAR,
    }


def _loop(xp: Any, field: "Field", rng: Generator) -> int:
    """Violations among single fields with one pair each."""
    violations = 0
    for _ in range(SINGLE):
        step, law, size = field(xp, rng)
        x, y = (xp.asarray(rng.standard_normal(size)) for _ in range(2))
        ratio = xp.linalg.norm(step(x) - step(y)) / xp.linalg.norm(x - y)
        violations += int(ratio > law * (1 + 1e-12))
    return violations


# The published formulas, one field at a time. ------------------------------------------------


def _matrix(xp: Any, rng: Generator, size: int) -> tuple[Any, Vector, float, float]:
    """A, an offset, and the smallest and largest singular value."""
    A = rng.standard_normal((size, size)) / np.sqrt(size)
    A, b = xp.asarray(A), xp.asarray(rng.standard_normal(size))
    spectrum = xp.linalg.svdvals(A)
    return A, b, float(spectrum[-1]), float(spectrum[0])


def _contract(xp: Any, A: Any, b: Vector, h: float, a: float) -> Map:
    def step(x: Vector) -> Vector:
        z = A @ x + b
        return x - h * (A.T @ xp.maximum(z, a * z))

    return step


def _factor(h: float, a: float, low: float, high: float) -> float:
    return max(abs(1 - h * a * low**2), abs(1 - h * high**2))


def _contractive(xp: Any, rng: Generator) -> tuple[Map, float, int]:
    size = int(rng.integers(1, 9))
    A, b, low, high = _matrix(xp, rng, size)
    h, a = rng.uniform(-0.5, 2.5) / high**2, rng.uniform(0, 1)
    return _contract(xp, A, b, h, a), _factor(h, a, low, high), size


def _nonexpansive(xp: Any, rng: Generator) -> tuple[Map, float, int]:
    size = int(rng.integers(1, 9))
    A, b, _, high = _matrix(xp, rng, size)
    h = rng.uniform(-0.5, 2.5) / high**2
    return _contract(xp, A, b, h, 0.0), max(1.0, abs(1 - h * high**2)), size


def _switching(xp: Any, rng: Generator) -> tuple[Map, float, int]:
    size, S = int(rng.integers(1, 7)), int(rng.choice([1, 2, 4]))
    A, b, low, high = _matrix(xp, rng, size)
    W, v, _, norm = _matrix(xp, rng, size)
    h_1, h_2, a = rng.uniform(-0.5, 2.5) / high**2, rng.uniform(-0.5, 2.5) / norm, rng.uniform(0, 1)
    contract = _contract(xp, A, b, h_1, a)

    def block(x: Vector) -> Vector:
        for _ in range(S):
            z = W @ x + v
            x = contract(x + h_2 * xp.maximum(z, a * z))
        return x

    return block, (_factor(h_1, a, low, high) * (1 + abs(h_2) * norm)) ** S, size


def _flexible(xp: Any, rng: Generator) -> tuple[Map, float, int]:
    size = int(rng.integers(1, 7))
    A, b, low, high = _matrix(xp, rng, size)
    W, v, _, norm = _matrix(xp, rng, size)
    half, h_2, a = (
        rng.uniform(-0.5, 2.5) / high**2,
        rng.uniform(-2.5, 1) / norm**2,
        rng.uniform(0, 1),
    )
    contract, push = _contract(xp, A, b, half, a), _contract(xp, W, v, -h_2, 0.0)
    law = _factor(half, a, low, high) ** 2 * max(1.0, abs(1 + h_2 * norm**2))
    return lambda x: push(contract(contract(x))), law, size


Field = Callable[[Any, Generator], tuple[Map, float, int]]

LITERAL: dict[str, Field] = {
    "T7-contractive-euler": _contractive,
    "T8-nonexpansive-euler": _nonexpansive,
    "T9-switching": _switching,
    "T10-flexible-switching": _flexible,
}


def _spread(values: list[float]) -> dict[str, int]:
    return {
        "median": round(statistics.median(values)),
        "low": round(min(values)),
        "high": round(max(values)),
    }
