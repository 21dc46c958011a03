"""The slope ranges of activations: proved by balls over all reals, and attained."""

from collections.abc import Callable
from fractions import Fraction

import pytest
import torch
from flint import arb
from hypothesis import given, settings
from hypothesis import strategies as st

from verification.activations import FUNCTIONS, SLOPES

PARAMETERS: dict[str, list[dict[str, Fraction]]] = {
    "leaky_relu": [{"negative_slope": Fraction(k, 8)} for k in (-3, 0, 4, 12)],
    "clamp": [
        {"low": Fraction(0)},
        {"high": Fraction(6)},
        {"low": Fraction(-1), "high": Fraction(2)},
        {"low": Fraction(1), "high": Fraction(1)},
    ],
    "elu": [{"alpha": Fraction(k, 4)} for k in (-3, 2, 4, 9)],
    "celu": [{"alpha": Fraction(k, 4)} for k in (2, 4, 9)],
    "softplus": [{"beta": Fraction(k, 2)} for k in (1, 2, 5)],
    "softshrink": [{"lambd": Fraction(1, 2)}],
}  # fmt: skip
ALL = [(name, parameters) for name in SLOPES for parameters in PARAMETERS.get(name, [{}])]


@pytest.mark.parametrize(("name", "parameters"), ALL)
def test_sampled_slopes_are_inside_and_come_close_to_both_ends(
    name: str, parameters: dict[str, Fraction]
):
    low, high = (float(end) for end in SLOPES[name](**parameters))
    x = torch.linspace(-40, 40, 640001, dtype=torch.float64)
    y = FUNCTIONS[name](x, **parameters)
    slopes = (y[1:] - y[:-1]) / (x[1:] - x[:-1])
    rounding = 1e-10
    assert float(slopes.min()) >= low - rounding
    assert float(slopes.max()) <= high + rounding
    assert float(slopes.min()) <= low + 2e-3
    assert float(slopes.max()) >= high - 2e-3


@pytest.mark.parametrize("name", SLOPES)
@settings(max_examples=40, deadline=None)
@given(x=st.floats(-1e3, 1e3), step=st.floats(1e-3, 10))
def test_difference_quotients_anywhere_are_inside(name: str, x: float, step: float):
    for parameters in PARAMETERS.get(name, [{}]):
        low, high = (float(end) for end in SLOPES[name](**parameters))
        a, b = torch.tensor([x, x + step], dtype=torch.float64)
        moved = FUNCTIONS[name](b, **parameters) - FUNCTIONS[name](a, **parameters)
        slope = float(moved / (b - a))
        assert low - 1e-8 <= slope <= high + 1e-8


def density(x: arb) -> arb:
    return (-x * x / 2).exp() / (2 * arb.pi()).sqrt()


def gelu(x: arb) -> arb:
    return (1 + (x / arb(2).sqrt()).erf()) / 2 + x * density(x)


def gelu_tanh(x: arb) -> arb:
    k, c = (2 / arb.pi()).sqrt(), arb(0.044715)
    t = (k * (x + c * x * x * x)).tanh()
    return (1 + t) / 2 + x / 2 * (1 - t * t) * k * (1 + 3 * c * x * x)


def silu(x: arb) -> arb:
    s = 1 / (1 + (-x).exp())
    return s + x * s * (1 - s)


def mish(x: arb) -> arb:
    t, s = (1 + x.exp()).log().tanh(), 1 / (1 + (-x).exp())
    return t + x * (1 - t * t) * s


DERIVATIVES: dict[str, Callable[[arb], arb]] = {
    "gelu": gelu, "gelu_tanh": gelu_tanh, "silu": silu, "mish": mish,
}  # fmt: skip


def proved(
    derivative: Callable[[arb], arb], low: Fraction, high: Fraction, a: float, b: float
) -> bool:
    """Whether the derivative stays within [low, high] on [a, b], by bisection."""
    pending = [(a, b)]
    for _ in range(20000):
        if not pending:
            return True
        a, b = pending.pop()
        value = derivative(arb((a + b) / 2, (b - a) / 2))
        above = value >= arb(low.numerator) / low.denominator
        if above and value <= arb(high.numerator) / high.denominator:
            continue
        if b - a < 1e-7:
            return False
        pending += [(a, (a + b) / 2), ((a + b) / 2, b)]
    return False


@pytest.mark.parametrize("name", DERIVATIVES)
def test_extreme_slopes_are_proved_in_balls_and_tight(name: str):
    """On [-30, 30]; beyond, the derivatives differ from 0 and 1 by less than 1e-10."""
    low, high = SLOPES[name]()
    assert proved(DERIVATIVES[name], low, high, -30.0, 30.0)
    less = Fraction(1, 500000)
    assert not proved(DERIVATIVES[name], low + less, high, -3.0, 3.0)
    assert not proved(DERIVATIVES[name], low, high - less, -3.0, 3.0)
    tail = Fraction(1, 10**10)
    assert proved(DERIVATIVES[name], -tail, tail, -60.0, -30.0)
    assert proved(DERIVATIVES[name], 1 - tail, 1 + tail, 30.0, 60.0)


def test_the_slope_of_erf_at_zero():
    slope = 2 / arb.pi().sqrt()
    high = SLOPES["erf"]()[1]
    assert slope <= arb(high.numerator) / high.denominator <= slope + arb(1e-6)
