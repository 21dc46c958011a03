"""A whole network [T11]: the product of the constants of its layers, pixels included."""

from sympy import Abs, Expr, Ge, Gt, Le, Mul, symbols
from sympy.logic.boolalg import And

from theory.algebra import identical
from theory.theorem import Hypothesis, ProofStep, Theorem

STAGES = 3
head_max, head_norm = symbols("head_max head_norm", nonnegative=True)
std_min, smallest_std = symbols("std_min smallest_std", positive=True)
pool_uses = symbols("pool_uses", nonnegative=True)


def stage_symbols(stage: int):
    """(scale, lift_max, flow_max) of a stage: the learned factor, the norm of the lifting map,
    and the constant of the dynamical block."""
    scale = symbols(f"scale_{stage}", real=True)
    return (scale, *symbols(f"lift_max_{stage} flow_max_{stage}", nonnegative=True))


def stage_facts(stage: int):
    """(used scale, norm of the lifting map, Lipschitz constant of the block) as they are."""
    return symbols(f"used_scale_{stage} lift_norm_{stage} flow_lipschitz_{stage}", nonnegative=True)


def lipschitz() -> Expr:
    """Constant with respect to the normalised input; stages are counted from 0."""
    factors = [
        factor
        for stage in range(STAGES)
        for scale, lift, flow in [stage_symbols(stage)]
        for factor in (Abs(scale), lift, flow)
    ]
    return Mul(head_max, *factors)


def lipschitz_pixel() -> Expr:
    """Constant with respect to pixels in [0, 1]: the input is (pixel - mean) / std."""
    return lipschitz() / std_min


def _product(theorem: Theorem) -> bool:
    """Constants multiply along a composition: stage by stage, head, then 1 / std_min."""
    value: Expr = 1 / std_min
    for stage in range(STAGES):
        scale, lift, flow = stage_symbols(stage)
        value = flow * (Abs(scale) * lift * value)
    normalised = theorem.forms["normalised input"]
    return identical(theorem.law, head_max * value) and identical(normalised, std_min * theorem.law)


def _telescope(_: Theorem) -> bool:
    """|g(f(x)) - g(f(y))| <= L_g |f(x) - f(y)| <= L_g L_f |x - y|: with slacks u, v >= 0 the
    product bound exceeds the true one by u L_f d + L_g' v d, no negative term."""
    L_f, L_g, d, u, v = symbols("L_f L_g d u v", nonnegative=True)
    surplus = (L_g + u) * (L_f + v) * d - L_g * L_f * d
    return all(coefficient > 0 for coefficient in surplus.expand().as_coefficients_dict().values())


def _max_is_between(_: Theorem) -> bool:
    """For u_i = max u and v_j = max v = v_i + q, u_i = u_j + p: the difference of the maxima is
    (u_i - v_i) - q and (u_j - v_j) + p, so it is between two entries of u - v."""
    p, q = symbols("p q", nonnegative=True)
    u_j, v_i = symbols("u_j v_i", real=True)
    u_i, v_j = u_j + p, v_i + q
    difference = u_i - v_j
    return identical(difference, (u_i - v_i) - q) and identical(difference, (u_j - v_j) + p)


def _relu_is_a_contraction(_: Theorem) -> bool:
    """(u - v)^2 - (ReLU u - ReLU v)^2 is 0, v^2 + 2u|v| or (u - v)^2 by the signs."""
    u, v = symbols("u v", nonnegative=True)
    mixed = (u + v) ** 2 - u**2
    return identical(mixed, v**2 + 2 * u * v)


def _normalisation(_: Theorem) -> bool:
    """sum (d_i / s_i)^2 <= |d|^2 / s^2 for s_i = s + p_i: the slack has no negative term."""
    s, p1, p2 = symbols("s p1 p2", positive=True)
    d1, d2 = symbols("d1 d2", nonnegative=True)
    slack = (d1**2 + d2**2) / s**2 - (d1 / (s + p1)) ** 2 - (d2 / (s + p2)) ** 2
    numerator = slack.together().as_numer_denom()[0].expand()
    return all(coefficient > 0 for coefficient in numerator.as_coefficients_dict().values())


_stages = [(stage_symbols(i), stage_facts(i)) for i in range(STAGES)]

network = Theorem(
    id="T11-network",
    statement=r"N = \mathrm{head} \circ \prod_i (\mathrm{pool} \circ F_i \circ \mathrm{ReLU} "
    r"\circ r_i L_i) \circ (\,\cdot - \mu)/s:\quad \mathrm{Lip} \le \frac{|\mathrm{head}|}"
    r"{\min s} \prod_i |r_i|\,|L_i|\,\mathrm{Lip}(F_i)",
    words="The constant of a network is at most the product over all its layers: the input "
    "normalisation, and in each stage the learned lifting scale, the lifting map and the block, "
    "then the head. ReLU and max pooling over disjoint windows count 1.",
    source="derived here",
    status="derived",
    hypotheses=(
        Hypothesis(
            "scale",
            "the lifting scales are those that are used",
            And(*(Ge(Abs(claim[0]), fact[0]) for claim, fact in _stages)),
        ),
        Hypothesis(
            "lift",
            "lift_max is at least the norm of each lifting map",
            And(*(Ge(claim[1], fact[1]) for claim, fact in _stages)),
        ),
        Hypothesis(
            "flow",
            "flow_max is at least the Lipschitz constant of each block",
            And(*(Ge(claim[2], fact[2]) for claim, fact in _stages)),
        ),
        Hypothesis("pool", "no entry is in two pooling windows", Le(pool_uses, 1)),
        Hypothesis("head", "head_max is at least the norm of the head", Ge(head_max, head_norm)),
        Hypothesis(
            "normalisation",
            "std_min is at most each standard deviation",
            And(Gt(std_min, 0, evaluate=False), Le(std_min, smallest_std)),
        ),
    ),
    constant=lipschitz_pixel(),
    forms={"normalised input": lipschitz()},
    proof=(
        ProofStep("constants multiply along a composition", _telescope),
        ProofStep("ReLU does not increase a distance", _relu_is_a_contraction),
        ProofStep(
            "a maximum over a window moves by no more than some entry of it: disjoint windows "
            "do not increase the l2 distance",
            _max_is_between,
        ),
        ProofStep("dividing by s_i >= std_min costs at most 1 / std_min", _normalisation),
        ProofStep("the law is the product of all factors", _product),
    ),
    sharp="layers that scale, one entry leading in every window",
)
