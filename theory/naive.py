"""The naively constrained layer of the authors' code [D8]: half of a residual step."""

from sympy import eye

from theory.algebra import identical, ratio
from theory.facts import h, largest, push_lipschitz, push_norm, s_max, w_max
from theory.nonexpansive import expansive_euler
from theory.theorem import ProofStep, Theorem

HALF = ratio(1, 2)


def _half_of_a_residual_step(theorem: Theorem) -> bool:
    """T8' with |A||B| for the norm of the layer, h = 1, and then half of everything."""
    residual = expansive_euler.law.subs({h: 1, s_max: s_max * w_max})
    return identical(theorem.law, HALF * residual)


def _scalings_attain(theorem: Theorem) -> bool:
    """A = s I, B = w I with slope 1: (I + w s I) / 2 = law I."""
    step = HALF * (eye(2) + (w_max * eye(2)) * (s_max * eye(2)))
    return (step - theorem.law * eye(2)).expand() == 0 * eye(2)


def _at_most_one(theorem: Theorem) -> bool:
    """law - 1 = (|A||B| - 1) / 2, so the law is at most 1 exactly for |A||B| <= 1."""
    return identical(theorem.law - 1, (s_max * w_max - 1) / 2)


def _soft_penalty_is_not_enough(theorem: Theorem) -> bool:
    """Norms 1.1 of both matrices, as a penalty leaves them, already give 1.105."""
    return theorem.law.subs({s_max: ratio(11, 10), w_max: ratio(11, 10)}) == ratio(1105, 1000)


naive = Theorem(
    id="D8-naive",
    statement=r"x \mapsto \tfrac12\big(x + B\,\Sigma(Ax+b)\big),\ |\sigma'| \le 1:\quad "
    r"\mathrm{Lip} \le \tfrac12\,(1 + |A|\,|B|)",
    words="The naively constrained layer is 1-Lipschitz as long as the product of the two norms is "
    "at most 1; a penalty on orthogonality does not ensure that.",
    source="NaiveApproach/main.ipynb of the authors' code; the law is derived here",
    status="derived",
    hypotheses=(push_lipschitz, largest, push_norm),
    constant=(1 + s_max * w_max) / 2,
    proof=(
        ProofStep("the law is half of T8' with h = 1 and |A||B|", _half_of_a_residual_step),
        ProofStep("A = s I, B = w I and slope 1 attain it", _scalings_attain),
        ProofStep("it is at most 1 exactly for |A||B| <= 1", _at_most_one),
        ProofStep("norms of 1.1 give 1.105", _soft_penalty_is_not_enough),
    ),
    sharp="over the class: A = s I, B = w I, slope 1",
)
