"""Fields of one's own attacked: points in their box, parameters in their ranges, kinks at will.

Every registered field that declares a one-sided constant is attacked by `strategy`; the same
samples test what was derived for one that is not registered.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from hypothesis import strategies as st
from sympy import Rational

from dsnn.errors import UserError
from theory.field import Field
from theory.field_theorem import outside, slope_facts, slope_ranges
from verification.strategies import draws
from verification.strategies.arithmetic import inner, minus, over
from verification.strategies.expressions import evaluated
from verification.strategies.rounding import COVER, UNIT, Array, Tracked, exact
from verification.strategies.trial import Strategy, Structure, Trial, Violation

SHARES = 16


@dataclass(frozen=True, repr=False)
class Sample(Structure):
    """A batch of pairs of points: `parameters` by name, `slopes` (below and above the kink) by
    name of the activation, points at the scale `size` about the origin, or in the box, at
    distances of about `apart` times that; `beyond` times the width of the box outside it, on either
    side."""

    parameters: tuple[tuple[str, float], ...]
    slopes: tuple[tuple[str, float, float], ...]
    size: float
    apart: float
    seed: int
    beyond: float = 0.0


@dataclass(frozen=True)
class Images:
    """Pairs as columns (fields, states, points) and the field at them."""

    x: Array
    y: Array
    at_x: Tracked
    at_y: Tracked


def samples(field: Field, **changes: st.SearchStrategy) -> st.SearchStrategy[Sample]:
    """Samples within the ranges of the field, what is simple first."""
    parameters = [st.tuples(st.just(p.name), within(*field.ranges[p])) for p in field.parameters]
    slopes = [
        st.tuples(st.just(name), within(low, high), within(low, high))
        for name, (low, high) in sorted(slope_ranges(field).items())
    ]
    parts = {
        "parameters": st.tuples(*parameters),
        "slopes": st.tuples(*slopes),
        "size": st.sampled_from((1.0, 4.0, 0.25, 32.0)),
        "apart": st.sampled_from((1.0, 2.0**-4, 2.0**-10)),
        "seed": draws.seeds,
    }
    return st.builds(Sample, **{**parts, **changes})


def within(low: Any, high: Any) -> st.SearchStrategy[float]:
    """Doubles in [low, high]: its ends and fractions between them; around 0 where it has no end."""
    if low.is_finite and high.is_finite:
        return st.integers(0, SHARES).map(
            lambda k: inside(low + (high - low) * Rational(k, SHARES), low, high)
        )
    start = low if low.is_finite else high if high.is_finite else Rational(0)
    sign = -1 if high.is_finite else 1
    least = 0 if low.is_finite or high.is_finite else -4 * SHARES
    return st.integers(least, 4 * SHARES).map(
        lambda k: inside(start + sign * Rational(k, SHARES), low, high)
    )


def inside(value: Any, low: Any, high: Any) -> float:
    """The nearest double within the range; where there is none, the nearest one."""
    near = float(value)
    other = math.nextafter(near, -math.inf if Rational(near) > high else math.inf)
    return other if not low <= Rational(near) <= high and low <= Rational(other) <= high else near


def images(field: Field, sample: Sample, fields: int, points: int) -> Images:
    """The field at the pairs that a sample stands for."""
    rng = np.random.default_rng(sample.seed)
    shape = (fields, 1, points)
    values = {name: exact(np.full((1, 1, 1), value)) for name, value in sample.parameters}
    slopes = {name: (below, above) for name, below, above in sample.slopes}
    sides = []
    centre = [_coordinate(rng, field, s, sample, shape) for s in field.states]
    moved = [
        _moved(rng, field, s, sample, here) for s, here in zip(field.states, centre, strict=True)
    ]
    for columns in (centre, moved):
        states = {s.name: exact(x) for s, x in zip(field.states, columns, strict=True)}
        parts = [evaluated(v, {**values, **states}, slopes) for v in field.velocity]
        whole = [np.broadcast_to(part.value, shape) for part in parts]
        error = [np.broadcast_to(part.error, shape) for part in parts]
        sides.append(Tracked(np.concatenate(whole, axis=1), np.concatenate(error, axis=1)))
    x, y = np.concatenate(centre, axis=1), np.concatenate(moved, axis=1)
    return Images(x, y, sides[0], sides[1])


def _coordinate(rng: Any, field: Field, state: Any, sample: Sample, shape: Any) -> Array:
    low, high = (float(end) for end in field.box[state])
    if math.isfinite(low) and math.isfinite(high):
        inner_point = low + (high - low) * rng.random(shape)
        past = sample.beyond * (high - low) * (1 + rng.random(shape))
        if sample.beyond == 0:
            return np.clip(inner_point, low, high)
        return np.where(rng.random(shape) < 0.5, low - past, high + past)
    x = sample.size * rng.standard_normal(shape)
    return np.maximum(x, low) if math.isfinite(low) else np.minimum(x, high)


def _moved(rng: Any, field: Field, state: Any, sample: Sample, here: Array) -> Array:
    low, high = (float(end) for end in field.box[state])
    wide = high - low if math.isfinite(high - low) else sample.size
    there = here + sample.apart * wide * rng.standard_normal(here.shape)
    return there if sample.beyond else np.clip(there, low, high)


def one_sided_quotients(pairs: Images) -> Array:
    """Lower bounds of <X(x) - X(y), x - y> / |x - y|^2, (fields, points); -inf for x = y."""
    d = minus(exact(pairs.x), exact(pairs.y))
    ratio = over(inner(minus(pairs.at_x, pairs.at_y), d), inner(d, d))
    low = ratio.value - ratio.error * COVER
    return np.nan_to_num(low - 4 * UNIT * np.abs(ratio.value), nan=-np.inf)


def _trial(field: Field, sample: Sample, fields: int, points: int) -> Trial:
    try:
        pairs = images(field, sample, fields, points)
    except ValueError as error:
        raise UserError(
            f"{field.id} cannot be evaluated with bounds: {error}: write it with an activation"
        ) from error
    facts: dict[str, float] = dict(sample.parameters)
    for name, below, above in sample.slopes:
        for symbol, value in zip(slope_facts(name), sorted((below, above)), strict=True):
            facts[symbol.name] = value
    facts[outside.name] = 1.0 if sample.beyond else 0.0
    return Trial(facts, one_sided_quotients(pairs))


def strategy(field: Field) -> Strategy[Sample]:
    """The attack on the theorem that the field becomes: samples within its hypotheses, and outside
    each of them."""
    draw = partial(_trial, field)
    without: dict[str, Violation[Any]] = {}
    for name, (low, high) in slope_ranges(field).items():
        steep = {name: _outside(low, high)}
        without[f"slopes-{name}"] = Violation(samples(field, slopes=_slopes(field, steep)), draw)
    for parameter in field.parameters:
        low, high = field.ranges[parameter]
        if low.is_finite or high.is_finite:
            strange = _parameters(field, {parameter.name: _outside(low, high)})
            without[f"range-{parameter}"] = Violation(samples(field, parameters=strange), draw)
    if field.confined:
        far = st.sampled_from((1.0, 2.0, 4.0, 0.25))
        without["box"] = Violation(samples(field, beyond=far), draw)
    return Strategy(samples(field), draw, without=without)


def _outside(low: Any, high: Any) -> st.SearchStrategy[float]:
    width = float(high - low) if (high - low).is_finite and high > low else 1.0
    shares = st.integers(1, 4 * SHARES).map(lambda k: k / SHARES * width)
    sides = [shares.map(lambda s: float(high) + s)] if high.is_finite else []
    sides += [shares.map(lambda s: float(low) - s)] if low.is_finite else []
    return st.one_of(sides)


def _slopes(field: Field, strange: Mapping[str, Any]) -> st.SearchStrategy:
    found = []
    for name, (low, high) in sorted(slope_ranges(field).items()):
        usual = within(low, high)
        found.append(st.tuples(st.just(name), usual, strange.get(name, usual)))
    return st.tuples(*found)


def _parameters(field: Field, strange: Mapping[str, Any]) -> st.SearchStrategy:
    found = []
    for p in field.parameters:
        drawn = strange.get(p.name, within(*field.ranges[p]))
        found.append(st.tuples(st.just(p.name), drawn))
    return st.tuples(*found)
