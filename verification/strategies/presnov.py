"""The decomposition of Presnov [T1] on random polynomial fields, its integrals by Boole's rule.

The rule is exact up to degree 5 and has dyadic nodes, so that only rounding parts the integrals
from their values. Fields are sums of c (w.x)^k, which span all polynomial fields.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from hypothesis import strategies as st

from theory.compile import compiled
from theory.presnov import POTENTIAL_WEIGHT, SKEW_WEIGHT
from verification.strategies import draws
from verification.strategies.counted import Counted, contract, stored, total
from verification.strategies.draws import HAIR
from verification.strategies.rounding import UNIT
from verification.strategies.trial import Strategy, Structure, Trial, Violation

BOOLE = tuple(zip((0.0, 0.25, 0.5, 0.75, 1.0), (7, 32, 12, 32, 7), strict=True))


@dataclass(frozen=True)
class Ridges:
    """sum_j c_j (w_j.x)^k_j at points x (fields, n, points): c and w are (fields, n)."""

    c: list[Counted]
    w: list[Counted]
    degrees: tuple[int, ...]

    def s(self, x: Counted) -> list[Counted]:
        return [contract("fn,fnp->fp", w, x) for w in self.w]


def ridges(rng: np.random.Generator, fields: int, size: int, degrees: tuple[int, ...]) -> Ridges:
    vectors = [[stored(rng.standard_normal((fields, size))) for _ in degrees] for _ in range(2)]
    return Ridges(vectors[0], vectors[1], degrees)


def points_of(rng: np.random.Generator, fields: int, size: int, points: int) -> Counted:
    """Normal points, the first the origin and the second on an axis."""
    x = rng.standard_normal((fields, size, points))
    x[:, :, 0] = 0
    x[:, 1:, 1] = 0
    return stored(x)


def along(vector: Counted, weights: Counted) -> Counted:
    """weights (fields, points) times vector (fields, n)."""
    return contract("fn,fp->fnp", vector, weights)


def integral(integrand: Callable[[Counted], Counted]) -> Counted:
    """Over [0, 1], of a polynomial of degree <= 5 in its argument."""
    terms = [
        Counted(share.value / 90, share.moduli / 90, share.roundings + 1) * integrand(stored(node))
        for node, share in ((node, stored(float(share))) for node, share in BOOLE)
    ]
    return total(terms)


def _weight(name: str, node: Counted) -> Counted:
    expression = {"potential": POTENTIAL_WEIGHT, "skew": SKEW_WEIGHT}[name]
    names = {str(symbol) for symbol in expression.free_symbols}
    return stored(np.float64(compiled(expression)(**{"t": node.value} if names else {})))


@dataclass(frozen=True, repr=False)
class Field(Structure):
    """sum_j c_j (w_j.x)^k_j in this many variables."""

    variables: int
    degrees: tuple[int, ...]
    seed: int


def _decomposed(structure: Field, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    x = points_of(rng, fields, structure.variables, points)
    X = ridges(rng, fields, structure.variables, structure.degrees)
    s = X.s(x)
    cx = [contract("fn,fnp->fp", c, x) for c in X.c]
    pieces = list(zip(X.c, X.w, s, cx, X.degrees, strict=True))

    def gradient(t: Counted) -> Counted:
        """of <x, X(tx)>: sum_j (ts)^k c + t k (ts)^(k-1) (c.x) w."""
        terms = []
        for c, w, s_j, cx_j, k in pieces:
            terms.append(along(c, (t * s_j).power(k)))
            if k:
                slope = t * stored(float(k)) * (t * s_j).power(k - 1) * cx_j
                terms.append(along(w, slope))
        return _weight("potential", t) * total(terms)

    def rotation(t: Counted) -> Counted:
        """weight (DX - DX')(tx) x: sum_j weight k (ts)^(k-1) (s c - (c.x) w)."""
        terms = [along(pieces[0][0], stored(np.zeros_like(x.value[:, 0])))]
        for c, w, s_j, cx_j, k in pieces:
            if k:
                rate = _weight("skew", t) * stored(float(k)) * (t * s_j).power(k - 1)
                terms.append(along(c, rate * s_j) - along(w, rate * cx_j))
        return total(terms)

    field = total([along(c, s_j.power(k)) for c, _, s_j, _, k in pieces])
    tangential = field - integral(gradient)
    radial = contract("fnp,fnp->fp", x, tangential)
    missing = (tangential - integral(rotation)).defect().max(axis=1)
    return Trial({"jump": 0.0, "singularities": 0.0}, np.maximum(missing, radial.defect()))


@dataclass(frozen=True, repr=False)
class Jump(Structure):
    """X(x, y) = (0, size) for x > at, else 0. DX = 0 on both sides, so Lambda = 0; and
    U = size y (1 - at/x) for x > at, so X - grad U = size at (-y/x^2, 1/x)."""

    size: float
    at: float
    seed: int


def _jumping(structure: Jump, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    x = structure.at * (1 + rng.random((fields, points)))
    y = rng.standard_normal((fields, points))
    missing = structure.size * structure.at * np.hypot(y / x**2, 1 / x) * (1 - 16 * UNIT)
    return Trial({"jump": structure.size, "singularities": 0.0}, missing)


@dataclass(frozen=True, repr=False)
class Vortex(Structure):
    """X = size (-y, x) / |(x, y)|^2 has no curl where it is defined, so Lambda = 0, and U = 0."""

    size: float
    seed: int


def _turning(structure: Vortex, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    radius = 0.5 + rng.random((fields, points))
    return Trial({"jump": 0.0, "singularities": 1.0}, structure.size / radius * (1 - UNIT))


degrees = st.lists(st.integers(0, 4), min_size=1, max_size=3).map(tuple)
_sizes = draws.multiples(1 / 4, 2, 4)

DECOMPOSITION = Strategy(
    structures=st.builds(Field, st.integers(1, 5), degrees, draws.seeds),
    draw=_decomposed,
    without={
        "smooth": Violation(
            st.builds(Jump, _sizes, _sizes, draws.seeds), _jumping, (Jump(HAIR, 1.0, seed=0),)
        ),
        "star-shaped": Violation(
            st.builds(Vortex, _sizes, draws.seeds), _turning, (Vortex(1.0, seed=0),)
        ),
    },
)


@dataclass(frozen=True, repr=False)
class Split(Structure):
    """X = grad W + Y, W = sum_j g_j (w_j.x)^m_j and Y = sum_i (v_i.x)^l_i (a_i b_i' - b_i a_i') x.

    Y is made radial by `radial` x, and W moved by `constant` and by `angular` x_1 x_2 / |x|^2 (Y
    taking back the gradient of the latter).
    """

    variables: int
    potential: tuple[int, ...]
    tangential: tuple[int, ...]
    seed: int
    radial: float = 0.0
    constant: float = 0.0
    angular: float = 0.0


def _split(structure: Split, fields: int, points: int) -> Trial:
    rng = np.random.default_rng(structure.seed)
    n = structure.variables
    value = rng.standard_normal((fields, n, points))
    x = stored(value)
    W = ridges(rng, fields, n, structure.potential)
    turns = [ridges(rng, fields, n, (1, 1)) for _ in structure.tangential]
    factors = ridges(rng, fields, n, structure.tangential)
    s, v = W.s(x), factors.s(x)
    # g_j is the first entry of c_j
    g = [Counted(c.value[:, :1], c.moduli[:, :1]) for c in W.c]
    potential = total([g_j * s_j.power(m) for g_j, s_j, m in zip(g, s, W.degrees, strict=True)])

    def radial_part(t: Counted) -> Counted:
        """weight <x, X(tx)>."""
        terms = [stored(structure.radial) * t * contract("fnp,fnp->fp", x, x)]
        for g_j, w, s_j, m in zip(g, W.w, s, W.degrees, strict=True):
            vector = along(w, g_j * stored(float(m)) * (t * s_j).power(m - 1))
            terms.append(contract("fnp,fnp->fp", x, vector))
        for turn, v_i, power in zip(turns, v, structure.tangential, strict=True):
            a, b = turn.w
            ax, bx = turn.s(x)
            rate = t * (t * v_i).power(power)
            vector = along(a, rate * bx) - along(b, rate * ax)
            terms.append(contract("fnp,fnp->fp", x, vector))
        return _weight("potential", t) * total(terms)

    if structure.angular:
        square = contract("fnp,fnp->fp", x, x)
        first, second = stored(value[:, 0]), stored(value[:, 1])
        potential = potential + stored(structure.angular) * first * second / square
    difference = potential + stored(structure.constant) - integral(radial_part)
    facts = {
        "tangency_defect": abs(structure.radial),
        "potential_at_0": abs(structure.constant),
        "jump_at_0": abs(structure.angular),
    }
    return Trial(facts, difference.defect())


def _splits(**changes: st.SearchStrategy) -> st.SearchStrategy[Split]:
    parts = {
        "variables": st.integers(2, 6),
        "potential": st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple),
        "tangential": st.lists(st.integers(0, 3), max_size=2).map(tuple),
        "seed": draws.seeds,
    }
    return st.builds(Split, **{**parts, **changes})


UNIQUENESS = Strategy(
    structures=_splits(),
    draw=_split,
    without={
        "tangential": Violation(
            _splits(radial=_sizes), _split, (Split(2, (1,), (), seed=0, radial=HAIR),)
        ),
        "origin": Violation(
            _splits(constant=_sizes), _split, (Split(2, (1,), (), seed=0, constant=HAIR),)
        ),
        "continuous": Violation(
            _splits(angular=_sizes), _split, (Split(2, (1,), (), seed=0, angular=HAIR),)
        ),
    },
)
