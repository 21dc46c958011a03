"""Radii from a gradient: how far a margin that turns slowly stays positive.

A margin with value `margin` and gradient of length at most `slope` at a point, whose fall beyond
the gradient's is at most `curvature` r^2 / 2 at distance r, is at least `least_margin` there, which
falls in r and is 0 at `radius`. Second-order certificates of this form: Singla and Feizi 2020.
"""

from sympy import sqrt, symbols

margin, slope, curvature, r = symbols("margin slope curvature r", positive=True)

least_margin = margin - slope * r - curvature * r**2 / 2
radius = 2 * margin / (slope + sqrt(slope**2 + 2 * curvature * margin))
