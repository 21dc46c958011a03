"""Prescribed switching with genuine zero-padded 1-D convolutions [T9-zero-padding].

Kernels are orthogonal on the circle (a shift, or the paraunitary Q(P z + I - P) on two channels),
which is what the paper's penalty asks for, or random. The spectrum is that of the zero-padded
matrix; `claimed_smallest` = 1 is the paper's assumption s_min = s_max.
"""

from hypothesis import strategies as st

from verification.strategies import draws
from verification.strategies.draws import Shape
from verification.strategies.euler import ABOVE_ONE, OTHER_OUTER, TOO_LARGE
from verification.strategies.switching import SWITCHING, Block
from verification.strategies.trial import Strategy, Violation

ORTHOGONAL_ON_THE_CIRCLE = ("shift kernel", "paraunitary kernel")


def _padded_blocks(
    kernels: tuple[str, ...] = (*ORTHOGONAL_ON_THE_CIRCLE, "truncated"),
    **changes: st.SearchStrategy,
) -> st.SearchStrategy[Block]:
    """Blocks of T9 with zero-padded convolutions, within the hypotheses but for what `changes`
    says. A paraunitary kernel has two channels: an even number of columns."""

    def with_structure(length: int, kernel: str, a: float) -> st.SearchStrategy[Block]:
        size = 2 * length if kernel == "paraunitary kernel" else length
        slope, push_slope = draws.fractions(a, 1), draws.fractions(1, -1)
        push = st.sampled_from(("identity", kernel))
        parts = {
            "A": st.just(Shape(size, size, kernel)),
            "W": st.builds(lambda spectrum: Shape(size, size, spectrum), push),
            "a": st.just(a),
            "slopes": st.tuples(slope, slope),
            "push_slopes": st.tuples(push_slope, push_slope),
            "contract": draws.multiples(0, 2.5),
            "expand": draws.multiples(-0.5, 2.5),
            "offset": st.sampled_from(draws.OFFSETS),
            "push_offset": st.sampled_from(draws.OFFSETS),
            "seed": draws.seeds,
            "S": st.sampled_from((1, 2, 4)),
            "shared": st.booleans(),
        }
        return st.builds(Block, **{**parts, **changes})

    lengths, claims = st.integers(2, 5), st.sampled_from((0.5, 0.0, 0.1, 0.9))
    drawn = st.tuples(lengths, st.sampled_from(kernels), claims)
    return drawn.flatmap(lambda three: with_structure(*three))


def _shift(contract: float, expand: float, S: int) -> Block:
    """A shift that loses an entry, and an expansion that no direction escapes."""
    kernel, push = Shape(4, 4, "shift kernel"), Shape(4, 4, "identity")
    return Block(kernel, push, 0.5, (0.5, 1.0), (1.0, 1.0), contract, expand, "zero", "zero", 0, S)


_changes = {
    "gradient": _padded_blocks(outer=OTHER_OUTER),
    "slopes": _padded_blocks(slopes=st.tuples(ABOVE_ONE, ABOVE_ONE)),
    "smallest": _padded_blocks(
        ORTHOGONAL_ON_THE_CIRCLE,
        contract=draws.multiples(1 / 16, 2),
        claimed_smallest=st.just(1.0) | TOO_LARGE,
    ),
    "largest": _padded_blocks(claimed_norm=draws.shares()),
    "push-slopes": _padded_blocks(push_slopes=st.tuples(ABOVE_ONE, ABOVE_ONE)),
    "push-norm": _padded_blocks(claimed_push=draws.shares()),
}

PADDED = Strategy(
    structures=_padded_blocks(),
    draw=SWITCHING.draw,
    sharp=(_shift(0.5, 0.25, 1), _shift(1.0, 0.5, 2)),
    without={
        name: Violation(structures, SWITCHING.draw, SWITCHING.without[name].edges)
        for name, structures in _changes.items()
    },
)
