"""Constructive approximation [T2, T3]: a map reached within epsilon by structured flows.

A target is a composition of flows of polynomial fields with X(0) = 0, on the disc |x| <= radius.
Each field is split into its gradient and its sphere-preserving part [T1], each flow into N steps,
and the error is bounded from computed constants: suprema over a box by ball arithmetic, put into
the laws of T2. Or the field is lifted to a Hamiltonian one [T3] and followed by symplectic steps.
What is measured is the distance at sample points, by an adaptive integrator: no bound rests on it.

The box holds all trajectories: where nu bounds the symmetric part of D^2 U, <x, X(x)> =
<x, grad U(x)> <= nu |x|^2, so |x| grows by e^(nu T) at most, along the field as along its parts.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Context, Decimal
from pathlib import Path
from typing import Any, Literal

import numpy as np
from scipy.integrate import solve_ivp
from sympy import Expr, Integer, Matrix, exp, lambdify, symbols

from dsnn.errors import UserError
from theory import balls
from theory.approximation import telescoping
from theory.presnov import along_rays, presnov
from theory.splitting import (
    N,
    T,
    kappa,
    kappa_f,
    kappa_g,
    lie_bracket,
    lie_trotter,
    nu,
    strang,
)
from verification import markdown
from verification.suprema import STATE, one_sided, size

Array = np.ndarray
Splitting = Literal["lie", "strang"]
PAGE = Path(__file__).parent.parent / "docs" / "approximation.md"
WIDEST = 8.0  # times the radius of the disc


@dataclass(frozen=True)
class Piece:
    """The flow of a polynomial field, X(0) = 0, for a time. `remainder(R)` bounds the distance of
    the field from the one that is meant, `truth`, on |x|, |y| <= R."""

    field: tuple[Expr, ...]
    time: float
    truth: Callable[[Array], Array] | None = None
    remainder: Callable[[float], float] = lambda radius: 0.0


@dataclass(frozen=True)
class Target:
    """A map of the plane: the flows of `pieces`, the first of them first, on |x| <= radius."""

    name: str
    pieces: tuple[Piece, ...]
    radius: float


@dataclass(frozen=True)
class Row:
    """So many structured flows come as close to the target as `measured`, and provably `bound`."""

    depth: int
    bound: float
    measured: float


def pendulum() -> Target:
    """The time-1 flow of x' = y, y' = -sin x, by the polynomial of degree 5 of the sine."""
    x, y = STATE
    polynomial = -(x - x**3 / 6 + x**5 / 120)

    def remainder(radius: float) -> float:
        R = symbols("R")
        return balls.upper(R**7 / 5040, {"R": radius})

    def truth(state: Array) -> Array:
        return np.stack([state[1], -np.sin(state[0])])

    return Target("pendulum", (Piece((y, polynomial), 1.0, truth, remainder),), 0.5)


def twisted_shear() -> Target:
    """A shear by y^2/4, then a rotation by the angle |x|^2: a diffeomorphism of the plane whose
    first field is neither a gradient nor tangent to circles."""
    x, y = STATE
    angle = x**2 + y**2
    shear, twist = (y**2 / 4, Integer(0)), (-y * angle, x * angle)
    return Target("twisted shear", (Piece(shear, 1.0), Piece(twist, 1.0)), 0.5)


# Bounds and measurements. -------------------------------------------------------------------


def _moved_out(piece: Piece, radius: float, factor: float, half: float) -> float:
    """Where what starts at |x| <= radius ends at most, for the field and the one that is meant."""
    r, delta, F = symbols("r delta F")
    values = {"r": radius, "delta": piece.remainder(half), "T": piece.time, "F": factor}
    return balls.upper((r + delta * T) * F, values)


def _half_width(piece: Piece, radius: float, factor: Callable[[float], float]) -> float:
    """Half the side of a box that holds all trajectories from |x| <= radius, when |x| grows by
    `factor(half)` at most as long as they are in it."""
    half = radius * 1.0625
    while half <= WIDEST * radius:
        if _moved_out(piece, radius, factor(half), half) <= half:
            return half
        half *= 1.0625
    raise UserError(
        f"trajectories of {piece.field} for the time {piece.time} may leave {WIDEST:g} times the "
        f"disc |x| <= {radius}: take a smaller disc or a shorter time"
    )


def _checked(piece: Piece) -> Any:
    field = Matrix(piece.field)
    origin = dict.fromkeys(STATE, 0)
    if len(field) != len(STATE) or not all(X.is_polynomial(*STATE) for X in piece.field):
        raise UserError(
            f"the field {piece.field} is not polynomial in {STATE}: give two polynomials"
        )
    if any(field.subs(origin)):
        raise UserError(f"the field {piece.field} is not 0 at the origin: move its zero there")
    return field


@dataclass(frozen=True)
class _Bounded:
    """What is known of one piece: the factor of its flow, the error of N steps, where points end
    at most, how to follow it, and how many flows N steps are."""

    factor: float
    error: Callable[[int], float]
    farthest: float
    follow: Callable[[Array, int], Array]
    flows: Callable[[int], int]


def _exp(rate: float, time: float) -> float:
    """An upper bound of e^(rate time)."""
    return balls.upper(exp(nu * T), {"nu": rate, "T": time})


def _whole(law: Expr, values: dict[str, Any], lost: float) -> float:
    """An upper bound of law + lost."""
    rest = symbols("lost")
    return balls.upper(law + rest, {**values, "lost": lost})


def _parts(X: Any) -> tuple[Any, Any]:
    """Its gradient and its sphere-preserving part."""
    parts = presnov(X, STATE)
    return Matrix([parts.potential.diff(v) for v in STATE]), parts.tangential


def _numeric(field: Any) -> Callable[[Array], Array]:
    entries = [lambdify(STATE, entry, "numpy") for entry in field]

    def evaluate(state: Array) -> Array:
        return np.stack([np.broadcast_to(entry(*state), state[0].shape) for entry in entries])

    return evaluate


def _flow(field: Callable[[Array], Array], time: float, state: Array) -> Array:
    """Columns of `state` carried along the field."""
    shape = state.shape

    def rate(_: float, flat: Array) -> Array:
        return field(flat.reshape(shape)).ravel()

    solved = solve_ivp(rate, (0, time), state.ravel(), method="DOP853", rtol=1e-11, atol=1e-13)
    return solved.y[:, -1].reshape(shape)


def _replaced(piece: Piece, half: float, growth: float) -> float:
    """delta T e^(nu T): what the distance of the field from the one meant costs."""
    delta = symbols("delta")
    values = {"delta": piece.remainder(half), "T": piece.time, "nu": growth}
    return balls.upper(delta * T * exp(nu * T), values)


def _split(piece: Piece, radius: float, splitting: Splitting) -> _Bounded:
    X, x, time = _checked(piece), Matrix(STATE), piece.time
    f, g = _parts(X)

    def factor(half: float) -> float:
        return _exp(max(0.0, one_sided(f, half)), time)  # <x, X> = <x, f>, and <x, g> = 0

    half = _half_width(piece, radius, factor)
    growth, growth_f, growth_g = (max(0.0, one_sided(field, half)) for field in (X, f, g))
    C = lie_bracket(f, g, x).expand()
    values: dict[str, Any] = {"T": time}
    if splitting == "lie":
        law = lie_trotter.law
        values |= {str(kappa): size(C, half), str(nu): max(growth, growth_g)}
    else:
        law = strang.law
        values |= {
            str(kappa_f): size(lie_bracket(C, f, x), half),
            str(kappa_g): size(lie_bracket(C, g, x), half),
            str(nu): max(growth, float(np.nextafter(growth_f + growth_g / 2, np.inf))),
        }
    alone = not any(f.expand()) or not any(g.expand())
    lost = _replaced(piece, half, growth)
    first, second = _numeric(f), _numeric(g)

    def follow(state: Array, steps: int) -> Array:
        steps = 1 if alone else steps
        h = time / steps
        for _ in range(steps):
            if splitting == "lie":
                state = _flow(second, h, _flow(first, h, state))
            else:
                state = _flow(second, h / 2, _flow(first, h, _flow(second, h / 2, state)))
        return state

    return _Bounded(
        factor=_exp(growth, time),
        error=lambda steps: _whole(law, {**values, str(N): steps}, lost),
        farthest=_moved_out(piece, radius, factor(half), half),
        follow=follow,
        # neighbouring halves of the outer flow are one flow
        flows=lambda steps: 1 if alone else 2 * steps + (splitting == "strang"),
    )


def _lift(piece: Piece, radius: float, fewest: int) -> _Bounded:
    """Symplectic Euler steps of H = <p, X>. Their x-part is Euler's method, whose local error is
    h^2/2 sup |DX X|, so that Lie-Trotter's law holds with this for the bracket; it moves out by
    |x + hX|^2 <= (1 + 2 h nu + h^2 l^2) |x|^2 a step, with |X| <= l |x| and h <= T / fewest."""
    X, x, time = _checked(piece), Matrix(STATE), piece.time
    DX = X.jacobian(x)
    radial = _parts(X)[0]
    mean = DX.applyfunc(lambda entry: along_rays(entry, STATE, Integer(1)))  # X = mean x

    def factor(half: float) -> float:
        values = {"nu": max(0.0, one_sided(radial, half)), "l": size(mean, half), "n": fewest}
        return balls.upper(
            exp(nu * T + T**2 * symbols("l") ** 2 / (2 * symbols("n"))), {**values, "T": time}
        )

    half = _half_width(piece, radius, factor)
    if balls.upper(T * kappa / N, {"T": time, "kappa": size(DX, half), "N": fewest}) >= 1:
        raise UserError(
            f"{fewest} steps for the time {time} leave I + h DX without a known inverse: take more"
        )
    growth = max(0.0, one_sided(X, half))
    values = {"T": time, str(kappa): size(DX * X, half), str(nu): growth}
    lost = _replaced(piece, half, growth)
    field, jacobian = _numeric(X), [lambdify(STATE, entry, "numpy") for entry in DX]
    n = len(STATE)

    def follow(state: Array, steps: int) -> Array:
        h = time / steps
        momentum = np.ones_like(state)  # any: the projection does not see it
        for _ in range(steps):
            entries = [np.broadcast_to(entry(*state), state[0].shape) for entry in jacobian]
            B = np.eye(n) + h * np.stack(entries, -1).reshape(-1, n, n)
            state = state + h * field(state)
            momentum = np.linalg.solve(B.mT, momentum.T[..., None])[..., 0].T
        return state

    return _Bounded(
        factor=_exp(growth, time),
        error=lambda steps: _whole(lie_trotter.law, {**values, str(N): steps}, lost),
        farthest=_moved_out(piece, radius, factor(half), half),
        follow=follow,
        flows=lambda steps: steps,
    )


def _disc(radius: float) -> Array:
    """Sample points, (2, count): the centre and eight circles up to the boundary."""
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    radii = radius * np.linspace(0, 1, 9)[:, None]
    return np.stack([(radii * np.cos(angles)).ravel(), (radii * np.sin(angles)).ravel()])


def _rows(
    target: Target, steps: Sequence[int], bounded: Callable[[Piece, float], _Bounded]
) -> list[Row]:
    pieces, radius = [], target.radius
    for piece in target.pieces:
        pieces.append(bounded(piece, radius))
        radius = pieces[-1].farthest
    start = true = _disc(target.radius)
    for piece in target.pieces:
        true = _flow(piece.truth or _numeric(Matrix(piece.field)), piece.time, true)
    rows = []
    for count in steps:
        reached = start
        for piece in pieces:
            reached = piece.follow(reached, count)
        errors = symbols(f"e_1:{len(pieces) + 1}")
        factors = symbols(f"L_1:{len(pieces) + 1}")
        values = {str(e): piece.error(count) for e, piece in zip(errors, pieces, strict=True)}
        values |= {str(L): piece.factor for L, piece in zip(factors, pieces, strict=True)}
        bound = balls.upper(telescoping(errors, factors), values)
        measured = float(np.linalg.norm(reached - true, axis=0).max())
        rows.append(Row(sum(piece.flows(count) for piece in pieces), bound, measured))
    return rows


def by_presnov_flows(
    target: Target, steps: Sequence[int], splitting: Splitting = "lie"
) -> list[Row]:
    """A row for each number of steps: the target by gradient and sphere-preserving flows.

    Raises UserError for a field that is not polynomial, does not vanish at the origin, or carries
    the disc too far.
    """
    return _rows(target, steps, lambda piece, radius: _split(piece, radius, splitting))


def by_hamiltonian_steps(target: Target, steps: Sequence[int]) -> list[Row]:
    """A row for each number of steps: the target by symplectic steps of the lifted fields, read
    from their first half. Raises as `by_presnov_flows`."""
    return _rows(target, steps, lambda piece, radius: _lift(piece, radius, min(steps)))


def first_within(epsilon: float, rows: Sequence[Row]) -> Row:
    """The shallowest row whose bound is at most epsilon. Raises UserError where there is none."""
    for row in sorted(rows, key=lambda row: row.depth):
        if row.bound <= epsilon:
            return row
    best = min(row.bound for row in rows)
    raise UserError(f"no row is within {epsilon:g}, the best bound is {best:g}: allow more steps")


def table() -> str:
    """The rows of both targets, as docs/approximation.md has them: bounds rounded up, to two
    digits."""
    ways: dict[str, Callable[[Target], list[Row]]] = {
        "Lie-Trotter": lambda target: by_presnov_flows(target, [4, 16, 64], "lie"),
        "Strang": lambda target: by_presnov_flows(target, [4, 16, 64], "strang"),
        "Hamiltonian": lambda target: by_hamiltonian_steps(target, [16, 64, 256]),
    }
    cells = []
    for target in (pendulum(), twisted_shear()):
        for way, rows in ways.items():
            for row in rows(target):
                above = Decimal(row.bound).normalize(Context(prec=2, rounding=ROUND_CEILING))
                numbers = str(row.depth), f"{above:.1e}", f"{row.measured:.1e}"
                cells.append((target.name, way, *numbers))
    return markdown.table(("target", "way", "flows", "bound", "measured"), cells)


def page(text: str) -> str:
    """docs/approximation.md with the table computed anew."""
    return markdown.between(text, "reach", "verification.reach", table())


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
