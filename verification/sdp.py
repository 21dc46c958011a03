"""LipSDP-Neuron: the Lipschitz constant of a small network from one semidefinite programme, proved.

Two inputs at a difference x (n,) move the N units' outputs by w (N,), their arguments by
v = A [x; w], and the network's output by O [x; w]. Every unit's difference quotient lies between
its slopes, w_i = q v_i with low_i <= q <= high_i, so that

    (w_i - low_i v_i) (high_i v_i - w_i) = (q - low_i) (high_i - q) v_i^2 >= 0.

With E = [0 I], z = [x; w] and any diagonal T >= 0, the sum of these with weights T_i is

    S(T) = zᵀ (E - low A)ᵀ T (high A - E) z >= 0,

and where P = L^2 [I 0; 0 0] - OᵀO - sym((E - low A)ᵀ T (high A - E)) is positive semidefinite,
0 <= zᵀ P z = L^2 |x|^2 - |O z|^2 - S(T), hence |O z| <= L |x|. The solver minimises L^2 over T.
[Fazlyab et al. 2019, LipSDP-Neuron; their LipSDP-Network couples units by weights on differences
(w_i - w_j) and is wrong: Pauli et al. 2021. T is diagonal here.]

Of an affine network P is L^2 I - OᵀO, and there is nothing to solve.

Nothing rests on the solver. Its T, cut at 0, gives a P assembled with its rounding error, and
P >= -e by a verified Cholesky factorisation, e >= 0. As |v_k| <= |A_k| |(x, w_1, ..., w_k-1)| for
the layers k in their order, |z|^2 <= g |x|^2 with g = prod (1 + s_k^2 |A_k|^2), s_k = max |slope|.
So |O z|^2 <= (L^2 + e g) |x|^2, and that is the bound.
"""

import importlib.util
import math
import warnings
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import scipy

from verification.constant import Constant, root_up, round_down, round_up
from verification.forms import Segment, whole
from verification.graph import Graph
from verification.slope_form import eigenvalue_upper, spectral_norm
from verification.slopes import slope_range
from verification.sparse import Matrix, diagonal, exactly, stacked

LAW = "LipSDP, verified"
LARGEST = 100
"""Entries of the input and units together: the size of the matrix inequality."""
LOSS = Fraction(101, 100)
"""Most that the proof may cost, as a factor of L^2: beyond, the solver's answer is no solution."""


@dataclass(frozen=True)
class Problem:
    """A (N, n + N), O (m, n + N), the slopes of each unit, and g."""

    arguments: Matrix
    output: Matrix
    low: np.ndarray
    high: np.ndarray
    growth: Fraction

    @property
    def units(self) -> int:
        return len(self.low)

    @property
    def inputs(self) -> int:
        return self.output.shape[1] - self.units

    @property
    def own(self) -> Matrix:
        """E."""
        ones = scipy.sparse.identity(self.units, format="csr")
        return exactly(
            scipy.sparse.hstack(
                [scipy.sparse.csr_matrix((self.units, self.inputs)), ones], format="csr"
            )
        )


def problem(graph: Graph) -> Problem | None:
    """The data of the inequality, None for a graph that is too large or has other nonlinear nodes
    than activations of known slopes. Raises ArithmeticError where its constants are not finite."""
    sizes = {"input": 0, "activation": 0}
    for node in graph:
        sizes[node.kind] = sizes.get(node.kind, 0) + math.prod(node.shape)
    if sizes["input"] + sizes["activation"] > LARGEST:
        return None
    segment = whole(graph)
    slopes = _slopes(segment)
    if slopes is None:
        return None
    low, high = np.array(slopes, dtype=float).reshape(-1, 2).T
    growth, largest = Fraction(1), np.maximum(abs(low), abs(high))
    for atom in segment.atoms:
        first = atom.start - segment.states
        steepest = largest[first : first + atom.stop - atom.start].max()
        growth *= 1 + (Fraction(steepest) * Fraction(spectral_norm(atom.inputs[0]))) ** 2
    arguments = (
        stacked([atom.inputs[0] for atom in segment.atoms])
        if segment.atoms
        else exactly(scipy.sparse.csr_matrix((0, segment.states)))
    )
    return Problem(arguments, segment.output, low, high, growth)


def _slopes(segment: Segment) -> list[tuple[float, float]] | None:
    """The slopes of each unit, rounded outwards."""
    found: list[tuple[float, float]] = []
    for atom in segment.atoms:
        known = slope_range(atom.node) if atom.node.kind == "activation" else None
        if known is None:
            return None
        ends = round_down(known[0]), round_up(known[1])
        found += [ends] * (atom.stop - atom.start)
    return found


def verified(given: Problem, square: float, multipliers: np.ndarray) -> Fraction | None:
    """An upper bound on the square of the Lipschitz constant that is proved by T = `multipliers`
    (N,), L^2 = `square` or little more; None where they prove no such bound."""
    proposed = np.append(multipliers, square)
    if multipliers.shape != given.low.shape or not np.isfinite(proposed).all():
        return None
    if proposed.min() < 0:
        return None
    own, arguments, output = given.own, given.arguments, given.output
    below = own - diagonal(given.low) @ arguments
    above = diagonal(given.high) @ arguments - own
    half = diagonal(multipliers / 2)  # exact, but for subnormal numbers; any T >= 0 will do
    mixed = below.T @ (half @ above)
    inputs = diagonal(np.r_[np.full(given.inputs, square), np.zeros(given.units)])
    negative = output.T @ output + (mixed + mixed.T) - inputs
    error = max(0.0, eigenvalue_upper(negative))
    if not math.isfinite(error):
        return None
    bound = Fraction(square) + Fraction(error) * given.growth
    return bound if bound <= Fraction(square) * LOSS else None


def solved(given: Problem, scale: float, seconds: float) -> tuple[float, np.ndarray] | None:
    """(L^2, T) from the solver, of which nothing is known but that T >= 0. `scale` > 0 is some
    bound on the constant, to bring the numbers near 1. None without cvxpy, or a solution."""
    if not given.units:
        return spectral_norm(given.output) ** 2, np.zeros(0)
    if importlib.util.find_spec("cvxpy") is None:
        return None
    import cvxpy as cp

    arguments, output = (np.asarray(m.hi.toarray()) for m in (given.arguments, given.output))
    own = np.asarray(given.own.hi.toarray())
    below, above = own - given.low[:, None] * arguments, given.high[:, None] * arguments - own
    square, weights = cp.Variable(nonneg=True), cp.Variable(given.units, nonneg=True)
    mixed = below.T @ cp.diag(weights) @ above
    inputs = np.diag(np.r_[np.ones(given.inputs), np.zeros(given.units)])
    scaled = output / scale
    inequality = square * inputs - scaled.T @ scaled - (mixed + mixed.T) / 2
    programme = cp.Problem(cp.Minimize(square), [inequality >> 0])
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an inaccurate solution is a proposal like any other
            programme.solve(solver=cp.CLARABEL, time_limit=seconds)
    except (cp.SolverError, ValueError):  # ValueError: numbers that overflow
        return None
    if square.value is None or weights.value is None:
        return None
    return max(0.0, float(square.value)) * scale**2, np.maximum(weights.value, 0.0) * scale**2


def bound(graph: Graph, known: float, seconds: float = 20.0) -> Constant | None:
    """The constant of the graph by LipSDP where it is less than `known`, a finite upper bound;
    else, and without the extra `sdp`, None."""
    if not 0 < known < math.inf:
        return None
    try:
        given = problem(graph)
        found = given and solved(given, known, seconds)
        square = verified(given, *found) if given and found else None
    except ArithmeticError:
        return None
    if not found or square is None or (upper := root_up(square)) >= known:
        return None
    proposed = {"square": found[0]} | {f"t_{k}": float(t) for k, t in enumerate(found[1])}
    return Constant(upper, LAW, graph.input.name, graph.output, values=proposed)


def used(constant: Constant) -> bool:
    """Whether a derivation rests on LipSDP."""
    return any(line.law == LAW for line in constant.lines())
