"""Prescribed switching with zero-padded convolutions [T9]: the smallest singular value is measured.

A kernel may be orthogonal on the circle, or on the infinite grid as the paper's penalty asks, and
its zero-padded convolution not: what leaves at the border is lost, |Ax| < |x| there. The law is
T9's with measured spectra; the paper's s_min = 1 is an assumption that zero padding breaks.
"""

from dataclasses import replace

from sympy import Matrix, eye, symbols
from sympy import zeros as zero_matrix

from theory.algebra import ratio
from theory.facts import S, a, h_1, h_2, s_max, s_min, w_max
from theory.switching import sharp_boundary, switching
from theory.symmetry import convolution
from theory.theorem import ProofStep, Theorem


def _law_is_t9(theorem: Theorem) -> bool:
    return theorem.law == switching.law and theorem.admissible == switching.admissible


def _dominated_by_the_circle(_: Theorem) -> bool:
    """The zero-padded matrix is a block of the circular one on a torus with room for the border,
    and a block has no larger norm: |Ax|^2 <= |Cx|^2 for x followed by zeros."""
    size, room = 4, 2
    taps = symbols("k_0:3", real=True)
    A = convolution(taps, size, circular=False)
    C = convolution(taps, size + room, circular=True)
    embed = eye(size).col_join(zero_matrix(room, size))
    block = embed.T * C * embed
    outside = (C * embed).row_join(zero_matrix(size + room, 0))[size:, :]
    rest = (C * embed).T * (C * embed) - A.T * A - outside.T * outside
    return (block - A) == zero_matrix(size, size) and rest.expand() == zero_matrix(size, size)


def _shift_loses_an_entry(_: Theorem) -> bool:
    """The kernel (1, 0, 0): on the circle A'A = I, zero-padded A'A = diag(1, ..., 1, 0)."""
    circle = convolution((1, 0, 0), 4, circular=True)
    padded = convolution((1, 0, 0), 4, circular=False)
    return circle.T * circle == eye(4) and padded.T * padded == Matrix.diag(1, 1, 1, 0)


def _assumed_one_is_wrong(theorem: Theorem) -> bool:
    """On the lost entry a contractive step does nothing and the expansive one 1 + h_2/S: on the
    sharp boundary for s_min = 1 (a = 1/2, S = 1, h_1 = 1: h_2 = 1) the law says 1 with s_min = 1
    and 2 with the true s_min = 0, which is attained."""
    values = {a: ratio(1, 2), S: 1, h_1: 1}
    step = sharp_boundary.subs(values)
    spectra = {s_max: 1, w_max: 1, h_2: step, **values}
    lost = Matrix([0, 0, 0, 1])
    padded = convolution((1, 0, 0), 4, circular=False)
    pushed = lost + step * lost
    moved = pushed - padded.T * (padded * pushed)
    assumed, true = (theorem.law.subs({**spectra, s_min: value}) for value in (1, 0))
    return bool(step == 1 == assumed) and true == 2 and moved == true * lost


padded_switching = replace(
    switching,
    id="T9-zero-padding",
    words="Prescribed switching with zero-padded convolutions: the law of T9 with the measured "
    "smallest singular value. Orthogonality of the kernel, on the circle or on the infinite grid, "
    "says nothing about it: a shift kernel has 1 there and 0 with zero padding.",
    source="derived here; beyond the paper, whose s_min = 1 fails for zero padding",
    status="derived",
    forms={},
    proof=(
        ProofStep("the law and the admissible set are those of T9", _law_is_t9),
        ProofStep(
            "a zero-padded convolution is a block of a circular one: its norm is not larger, "
            "and what leaves at the border is lost",
            _dominated_by_the_circle,
        ),
        ProofStep(
            "a shift has s_min = 1 on the circle and 0 with zero padding", _shift_loses_an_entry
        ),
        ProofStep(
            "with s_min = 1 assumed the law says 1 where the block has 2", _assumed_one_is_wrong
        ),
    ),
    sharp="shift kernels: the lost entry is not contracted at all",
)
