"""Radii from a gradient: how far a margin that turns slowly stays positive.

A margin with value `margin` and gradient of length at most `slope` at a point, whose fall beyond
the gradient's is at most `curvature` r^2 / 2 at distance r, is at least `least_margin` there, which
falls in r and is 0 at `radius`. Second-order certificates of this form: Singla and Feizi 2020.

What a softplus s(z) = log(1 + exp(z)) gains beyond its tangent, s(z + d) - s(z) - s'(z) d, is
`beyond`. It is at most κ d^2 / 2 for all |d| <= D, z >= 0, where κ is `nearby` for D <= 2z, and
`anywhere` for every D; for -z the same, by symmetry, and both fall in |z|. For moves away from 0 it
is less, as s'' falls there. For one by -x towards 0, the derivative of 2 `beyond` / x^2 has the
sign of

    N(x) = integral of y (x - y) h(y) over [0, x],    h(y) = -s'''(z - y).

N'' = x h(x) is positive before x = z and negative behind, and N(0) = N'(0) = 0: so N is positive,
then negative, and as h is odd about z it vanishes at x = 2z. There `beyond` is z tanh(z / 2): the
quadratic bound of Jaakkola and Jordan (2000).
"""

from sympy import exp, log, sqrt, symbols, tanh

margin, slope, curvature, r = symbols("margin slope curvature r", positive=True)

least_margin = margin - slope * r - curvature * r**2 / 2
radius = 2 * margin / (slope + sqrt(slope**2 + 2 * curvature * margin))

z, D = symbols("z D", positive=True)
d = symbols("d", real=True)

softplus = log(1 + exp(z))
beyond = softplus.subs(z, z + d) - softplus - softplus.diff(z) * d
nearby = 2 * beyond.subs(d, -D) / D**2
anywhere = tanh(z / 2) / (2 * z)
