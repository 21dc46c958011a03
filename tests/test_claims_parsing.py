"""Claims as text: the longest known property that ends them, and module globs."""

from fractions import Fraction

import pytest

from dsnn.errors import UserError
from verification.claims import matches, parse, select


@pytest.mark.parametrize(
    ("text", "glob", "name", "limit", "pixel"),
    [
        ("lipschitz<=1", "", "lipschitz", Fraction(1), False),
        ("lipschitz<=0.1", "", "lipschitz", Fraction(1, 10), False),
        ("lipschitz[pixel]<=36/255", "", "lipschitz", Fraction(36, 255), True),
        ("stages.*.flow:lipschitz<=1e-3", "stages.*.flow", "lipschitz", Fraction(1, 1000), False),
        ("**:contractive", "**", "contractive", Fraction(1), False),
        ("equivariant:shift", "", "equivariant:shift", None, False),
        ("a.b:equivariant:shift~1e-6", "a.b", "equivariant:shift", None, False),
        ("symplectic[dim=0]", "", "symplectic", None, False),
        ("f:mass-preserving~1e-6", "f", "mass-preserving", None, False),
    ],
)
def test_parse(text: str, glob: str, name: str, limit: Fraction | None, pixel: bool):
    claim = parse(text)
    assert (claim.glob, claim.name, claim.limit, claim.pixel) == (glob, name, limit, pixel)


@pytest.mark.parametrize(
    "text",
    [
        "", "lipschitz", "lipschitz<=", "lipschitz<=0", "lipschitz<=-1", "lipschitz<=nan",
        "lipschitz<=inf", "lipschitz<=1e999999999", "lipschitz<=1e-999999999", "lipschitz<=1/0",
        "lipschitz<=one", ":lipschitz<=1", "stages:lipschitz[pixel]<=1", "stages.*.flow",
        "convex", "contractive~1e-3", "orthogonal[dim=0]", "orthogonal~0", "lipschitz<1",
        "lipschitz<=" + "9" * 10_000,
    ],
)  # fmt: skip
def test_what_is_no_claim(text: str):
    with pytest.raises(UserError) as error:
        parse(text)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 1000


@pytest.mark.parametrize(
    ("text", "tolerance", "dim"),
    [
        ("symplectic", None, -1),
        ("symplectic[dim=0]", None, 0),
        ("a:symplectic[dim=-2]~1/1000", Fraction(1, 1000), -2),
        ("mass-preserving~1e-6", Fraction(1, 10**6), -1),
        ("a.b:equivariant:shift~1e-6", Fraction(1, 10**6), -1),
    ],
)
def test_tolerance_and_dimension(text: str, tolerance: Fraction | None, dim: int):
    claim = parse(text)
    assert (claim.tolerance, claim.dim) == (tolerance, dim)


def test_a_decimal_limit_is_exact():
    claim = parse("lipschitz<=0.1")
    assert not claim.allows(0.1)  # the double 0.1 is above one tenth
    assert parse("lipschitz<=0.5").allows(0.5)
    assert not parse("contractive").allows(1.0)


@pytest.mark.parametrize(
    ("glob", "name", "expected"),
    [
        ("stages.*.flow", "stages.0.flow", True),
        ("stages.*.flow", "stages.0.flow.1", False),
        ("*", "stages.0", False),
        ("**", "", True),
        ("**", "stages.0.flow", True),
        ("**.operator", "stages.0.lift.operator", True),
        ("stages.**.flow", "stages.flow", True),
        ("stages.1*.x", "stages.12.x", True),
        ("stages.?", "stages.0", False),
        ("h[ea]d", "head", False),
    ],
)
def test_globs(glob: str, name: str, expected: bool):
    assert matches(glob, name) is expected


def test_select():
    names = ["", "a", "a.b"]
    assert select(parse("contractive"), names) == [""]
    assert select(parse("**:contractive"), names) == names
    with pytest.raises(UserError, match="no module matches 'c'"):
        select(parse("c:contractive"), names)
