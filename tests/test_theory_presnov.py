"""The decomposition as a function of SymPy fields, and a proof that depends on its weights."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from sympy import Abs, Integer, Matrix, atan2, cos, exp, integrate, lambdify, simplify, sin, symbols

from theory.presnov import presnov, presnov_decomposition, presnov_uniqueness, t

x, y, z = symbols("x y z", real=True)
c = symbols("c", real=True)

FIELDS = {
    "pendulum": ([y, -sin(x)], [x, y]),
    "damped": ([y, -sin(x) - c * y], [x, y]),
    "Lorenz": ([10 * (y - x), x * (28 - z) - y, x * y - 8 * z / 3], [x, y, z]),
    "exponential": ([exp(y), x], [x, y]),
    "one variable": ([x**3 - x], [x]),
    "constant": ([Integer(1), c], [x, y]),
}


@pytest.mark.parametrize("name", FIELDS)
def test_potential_is_the_integral_along_rays(name: str) -> None:
    """Against numerical quadrature, at points away from the axes."""
    field, variables = FIELDS[name]
    parts = presnov(field, variables)
    entries = [lambdify(variables, e.subs(c, 0.3)) for e in field]
    U = lambdify(variables, parts.potential.subs(c, 0.3))
    rng = np.random.default_rng(0)
    for point in rng.uniform(0.2, 1, (5, len(variables))):
        exact, error = quad(
            lambda s, p=point: sum(v * e(*(s * p)) for v, e in zip(p, entries, strict=True)), 0, 1
        )
        assert abs(U(*point) - exact) <= error + 1e-12


@pytest.mark.parametrize("name", FIELDS)
def test_parts_are_a_gradient_and_tangential(name: str) -> None:
    field, variables = FIELDS[name]
    parts = presnov(field, variables)
    X = Matrix(field)
    rest = X - Matrix([parts.potential.diff(v) for v in variables]) - parts.tangential
    assert rest.applyfunc(simplify) == 0 * X
    assert (parts.skew + parts.skew.T).applyfunc(simplify) == 0 * X * X.T
    assert (parts.skew * Matrix(variables) - parts.tangential).applyfunc(simplify) == 0 * X


def test_the_pendulum_by_hand() -> None:
    parts = presnov(*FIELDS["pendulum"])
    assert simplify(parts.potential - (x * y / 2 + y * (cos(x) - 1) / x)) == 0


def test_gradients_and_rotations_have_one_part() -> None:
    assert presnov([2 * x * y, x**2], [x, y]).tangential == Matrix([0, 0])
    assert presnov([-y * x**2, x**3], [x, y]).potential == 0


def test_what_cannot_be_decomposed_is_refused() -> None:
    with pytest.raises(ValueError, match="2 components for 3 variables"):
        presnov([x, y], [x, y, z])
    with pytest.raises(ValueError, match="0 components"):
        presnov([], [])
    with pytest.raises(ValueError, match=r"closed form|confirm"):
        presnov([Abs(sin(x + y)), atan2(x, y)], [x, y])


def test_a_wrong_closed_form_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when SymPy's integral takes the wrong branch."""
    monkeypatch.setattr("theory.presnov.integrate", lambda *arguments: 2 * integrate(*arguments))
    with pytest.raises(ValueError, match="closed form"):
        presnov(*FIELDS["pendulum"])


@pytest.mark.parametrize("theorem", [presnov_decomposition, presnov_uniqueness])
@pytest.mark.parametrize("weights", [{"potential weight": t}, {"skew weight": Integer(1)}])
def test_other_weights_lose_the_proof(theorem, weights) -> None:
    if theorem is presnov_uniqueness and "skew weight" in weights:
        weights = {"potential weight": t**2}  # Lambda does not enter there
    assert not replace(theorem, forms={**theorem.forms, **weights}).proved()
