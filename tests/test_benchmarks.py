"""What a benchmark says is sound could have come out otherwise."""

import pytest

from benchmarks import auditor


@pytest.mark.parametrize(
    ("low", "high", "sound"), [(0.5, 2.0, "yes"), (0.5, None, "yes"), (2.5, 2.0, "NO")]
)
def test_a_witness_above_the_bound_of_an_audit_is_told(
    low: float, high: float | None, sound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    claim = {"verdict": "unknown", "bound": [low, high]}
    monkeypatch.setattr(auditor, "measured", lambda arguments, claims: ([claim], 1.0, 100))
    assert auditor._audited("a network", "target")["sound"] == sound
