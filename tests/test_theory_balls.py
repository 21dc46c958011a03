"""Rigorous evaluation: exact rationals inside, one rounding outside."""

import math
from fractions import Fraction

import numpy as np
import pytest
from sympy import Abs, E, Float, Max, Min, Rational, exp, log, oo, pi, sqrt, symbols, tan

from theory import balls

x, y = symbols("x y", real=True)


def _exactly(xv: float, yv: float) -> Fraction:
    X, Y = Fraction(xv), Fraction(yv)
    return max(abs(1 - X * Y**2), X / 3) * min(Y, Fraction(1, 7)) + X**3 / (1 + Y**2)


@pytest.mark.parametrize("seed", range(200))
def test_encloses_the_exact_rational_within_one_rounding(seed: int) -> None:
    rng = np.random.default_rng(seed)
    values = {"x": float(rng.standard_normal()), "y": float(10 ** rng.uniform(-8, 3))}
    expression = Max(Abs(1 - x * y**2), x / 3) * Min(y, Rational(1, 7)) + x**3 / (1 + y**2)
    exact = _exactly(values["x"], values["y"])
    low, high = balls.lower(expression, values), balls.upper(expression, values)
    assert Fraction(low) <= exact <= Fraction(high)
    assert high <= math.nextafter(low, math.inf)


def test_irrational_values_are_strictly_between_neighbours() -> None:
    low, high = balls.lower(sqrt(x), {"x": 2.0}), balls.upper(sqrt(x), {"x": 2.0})
    assert Fraction(low) ** 2 < 2 < Fraction(high) ** 2
    assert high == math.nextafter(low, math.inf)
    assert balls.upper(1 / sqrt(x), {"x": 4.0}) == 0.5
    assert balls.upper(exp(x) * log(y), {"x": 0.0, "y": 1.0}) == 0.0
    assert balls.upper(x ** Rational(2, 3), {"x": 8.0}) == pytest.approx(4.0)


def test_decimal_numbers_in_an_expression_are_the_doubles_they_are() -> None:
    assert balls.upper(Float(0.1) + 0 * x, {"x": 1.0}) == 0.1
    assert balls.upper(Rational(1, 10) * x, {"x": 1.0}) == 0.1
    assert balls.lower(Rational(1, 10) * x, {"x": 1.0}) < 0.1


def test_symbolic_exponents() -> None:
    n = symbols("n", integer=True, positive=True)
    assert balls.upper((1 - x) ** n, {"x": 3.0, "n": 3}) == -8.0


def test_numbers_that_have_a_name() -> None:
    for number in (pi, E):
        low, high = balls.lower(number, {}), balls.upper(number, {})
        assert Fraction(low) < Fraction(str(number.evalf(40))) < Fraction(high)
        assert high == math.nextafter(low, math.inf)
    with pytest.raises(ValueError, match="no ball enclosure"):
        balls.upper(oo, {})


def test_intervals_enclose_every_point() -> None:
    high = balls.upper(x * (1 - x), {"x": (0.0, 1.0)})
    low = balls.lower(x * (1 - x), {"x": (0.0, 1.0)})
    assert low <= 0
    assert high >= 0.25


def test_unknown_is_infinite_and_never_a_number() -> None:
    assert balls.upper(sqrt(x), {"x": (-1.0, 1.0)}) == math.inf
    assert balls.lower(1 / x, {"x": (-1.0, 1.0)}) == -math.inf
    assert balls.upper(x + 1, {"x": math.nan}) == math.inf
    assert balls.lower(x + 1, {"x": math.inf}) == -math.inf


def test_numbers_of_other_types_are_taken_exactly() -> None:
    assert balls.upper(x, {"x": float(np.float32(0.1))}) == balls.upper(x, {"x": np.float32(0.1)})  # pyright: ignore[reportArgumentType]
    assert balls.upper(x - 2**60, {"x": 2**60 + 1}) == 1.0


def test_subdivision_proves_and_refutes() -> None:
    square = x * (1 - x)
    assert balls.prove_at_most(square, {"x": (0.0, 1.0)}, 0.26) > 1
    assert balls.prove_at_most(square, {"x": (0.0, 1.0)}, 0.24) == 0
    assert balls.prove_at_most(square, {"x": (0.0, 1.0)}, 0.25, boxes=100) == 0
    assert balls.prove_at_most(x + y, {"x": (0.0, 1.0), "y": (0.0, 1.0)}, 2.5) == 1


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="no value for y"):
        balls.upper(x + y, {"x": 1.0})
    with pytest.raises(ValueError, match="tan"):
        balls.upper(tan(x), {"x": 1.0})
    with pytest.raises(ValueError, match="empty"):
        balls.enclose(x, {"x": (1.0, 0.0)})
