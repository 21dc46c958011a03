"""Targets reached within epsilon: measured <= bound, the orders, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
from sympy import Matrix, sin

from dsnn.errors import UserError
from verification import reach
from verification.reach import (
    Piece,
    Target,
    by_hamiltonian_steps,
    by_presnov_flows,
    first_within,
    pendulum,
    twisted_shear,
)
from verification.suprema import STATE, one_sided, size, supremum

x, y = STATE
TARGETS = {"pendulum": pendulum, "twisted shear": twisted_shear}
STEPS = [2, 4, 8, 16]


def _order(rows) -> float:
    """The slope of log(error) against log(1 / steps)."""
    logs = np.log([row.measured for row in rows])
    return float(-np.polyfit(np.log(STEPS), logs, 1)[0])


@pytest.mark.parametrize("name", TARGETS)
@pytest.mark.parametrize(("splitting", "order"), [("lie", 1), ("strang", 2)])
def test_presnov_flows_come_within_their_bound_at_their_order(name, splitting, order) -> None:
    rows = by_presnov_flows(TARGETS[name](), STEPS, splitting)
    assert all(0 < row.measured <= row.bound for row in rows)
    assert [row.depth for row in rows] == sorted(row.depth for row in rows)
    if name == "twisted shear":
        assert abs(_order(rows) - order) <= 0.1
    reached = first_within(0.02, rows)
    assert reached.measured <= 0.02


@pytest.mark.parametrize(("splitting", "order"), [("lie", 1), ("strang", 2)])
def test_the_pendulum_polynomial_is_split_at_its_order(splitting, order) -> None:
    """Without the distance of the polynomial from the sine, which no step removes."""
    (piece,) = pendulum().pieces
    alone = Target("polynomial", (replace(piece, truth=None, remainder=lambda _: 0.0),), 0.5)
    rows = by_presnov_flows(alone, STEPS, splitting)
    assert all(row.measured <= row.bound for row in rows)
    assert abs(_order(rows) - order) <= 0.1


@pytest.mark.parametrize("name", TARGETS)
def test_hamiltonian_steps_come_within_their_bound(name) -> None:
    rows = by_hamiltonian_steps(TARGETS[name](), [16, 64, 256])
    assert all(0 < row.measured <= row.bound for row in rows)
    assert rows[-1].measured < rows[0].measured / 14  # order 1
    assert first_within(0.02, rows).bound <= 0.02


def test_epsilon_is_reached_in_the_bound_and_not_only_measured() -> None:
    rows = by_presnov_flows(pendulum(), [4], "strang")
    assert first_within(1e-3, rows).bound <= 1e-3
    with pytest.raises(UserError, match="allow more steps"):
        first_within(1e-6, rows)


def test_a_bracket_left_out_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "lie_bracket", lambda f, g, x: 0 * Matrix(x))
    rows = by_presnov_flows(twisted_shear(), [2], "lie")
    assert rows[0].measured > rows[0].bound


def test_the_replaced_sine_counts() -> None:
    """A rotation for the pendulum: one exact flow, and what is left out is all of the error."""
    (piece,) = pendulum().pieces
    rotation = replace(piece, field=(y, -x), remainder=lambda radius: radius**3 / 6)
    (honest,) = by_presnov_flows(Target("small angles", (rotation,), 0.5), [1])
    assert honest.depth == 1
    assert 0 < honest.measured <= honest.bound
    forgetful = replace(rotation, remainder=lambda _: 0.0)
    (wrong,) = by_presnov_flows(Target("small angles", (forgetful,), 0.5), [1])
    assert wrong.measured > wrong.bound


def test_suprema_are_above_samples() -> None:
    rng = np.random.default_rng(0)
    points = rng.uniform(-0.7, 0.7, (2, 1000))
    polynomial = x**3 * y - 2 * x * y**2 + x - 1
    values = points[0] ** 3 * points[1] - 2 * points[0] * points[1] ** 2 + points[0] - 1
    assert supremum(polynomial, 0.7) >= values.max()
    field = Matrix([-y * (x**2 + y**2), x * (x**2 + y**2)])
    lengths = np.linalg.norm(points, axis=0) ** 3
    assert size(field, 0.7) >= lengths.max()
    # the symmetric part of the Jacobian has the eigenvalue |x|^2
    assert one_sided(field, 0.7) >= (points**2).sum(axis=0).max()


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ((y, -sin(x)), "not polynomial"),
        ((y, x, x), "not polynomial"),
        ((y + 1, -x), "not 0 at the origin"),
        ((x**3 * 90, y), "may leave"),
    ],
)
def test_bad_targets_are_refused(field, message) -> None:
    with pytest.raises(UserError, match=message):
        by_presnov_flows(Target("bad", (Piece(field, 1.0),), 0.5), [1])


def test_too_few_hamiltonian_steps_are_refused() -> None:
    with pytest.raises(UserError, match="inverse"):
        by_hamiltonian_steps(Target("fast", (Piece((y, -x), 0.9),), 0.5), [1])
