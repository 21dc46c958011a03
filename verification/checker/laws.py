"""Laws of one step, restated from `theory`, and which of them is that of a gradient step."""

from fractions import Fraction

from verification.checker.reading import agree

Values = dict[str, Fraction | None]

LAWS = {
    "T7-contractive-euler": lambda h, a, s_min, s_max: max(
        abs(1 - h * a * s_min**2), abs(1 - h * s_max**2)
    ),
    "T8-nonexpansive-euler": lambda h, s_max: max(Fraction(1), abs(1 - h * s_max**2)),
    "T8'-expansive-gradient-euler": lambda h, s_max: 1 + h * s_max**2,
    "T8'-expansive-euler": lambda h, s_max: 1 + abs(h) * s_max,
    "symmetric": lambda h, low, high, s_max: max(
        abs(1 - h * low * s_max**2), abs(1 - h * high * s_max**2)
    ),
}
"""x - h A' s(Ax + b) for slopes of s in [a, 1], [0, 1] with h >= 0, [0, 1] with -h >= 0;
x + h s(Wx + v) for slopes in [-1, 1]; and the first for slopes in [low, high], where I - h A'DA
is symmetric with its spectrum between 1 - h low |A|^2 and 1 - h high |A|^2."""
CONTRACTIVE, NONEXPANSIVE, UPHILL, EXPANSIVE, SYMMETRIC = (
    "T7-contractive-euler", "T8-nonexpansive-euler", "T8'-expansive-gradient-euler",
    "T8'-expansive-euler", "symmetric",
)  # fmt: skip


def of_gradient(
    h: Fraction, low: Fraction, high: Fraction, s_max: Fraction | None, s_min: Fraction | None
) -> tuple[str, Values]:
    """The law of x - h A' s(Ax + b) for slopes of s in [low, high], and what it is a function of:
    a slope range [low, high] is `high` times one of [low / high, 1]."""
    if high <= 0:
        low, high, h = -high, -low, -h
    if low < 0:
        return SYMMETRIC, {"h": h, "low": low, "high": high, "s_max": s_max}
    agree(high > 0, "an activation that is constant")
    a, h = low / high, h * high
    if h < 0:
        return UPHILL, {"h": -h, "s_max": s_max}
    if a == 0:
        return NONEXPANSIVE, {"h": h, "s_max": s_max}
    return CONTRACTIVE, {"h": h, "a": a, "s_min": s_min, "s_max": s_max}
