"""Certified accuracies, curves and intervals of a result; bad requests and full memory."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fitted_networks import fitted

from dsnn.data.folder import data_folder
from dsnn.errors import UserError
from dsnn.weights import load
from experiments import pieces
from experiments.counts import interval
from experiments.curves import Curve, certified_curve, curves
from experiments.evaluate import evaluate
from experiments.request import Request

Refused = Callable[..., str]


def test_a_certified_curve_has_every_step():
    curve = certified_curve([0.0, 0.3, 0.1, 0.3, 0.0])
    assert curve == Curve((0.0, 0.1, 0.3), (0.6, 0.4, 0.0))  # strictly greater counts
    assert certified_curve([0.0, 0.0]) == Curve((0.0,), (0.0,))


@pytest.mark.parametrize("points", [2, 7, 256])
def test_a_thinned_curve_is_exact_where_it_is_given(points: int):
    radii = np.maximum(np.random.default_rng(0).normal(0.1, 0.2, 999), 0)
    curve = certified_curve(radii, points)
    assert len(curve.epsilon) <= points
    assert curve.epsilon[0] == 0
    assert curve.epsilon[-1] == radii.max()
    for epsilon, accuracy in zip(curve.epsilon, curve.accuracy, strict=True):
        assert accuracy == (radii > epsilon).mean()


def test_intervals_are_exact_ones():
    assert interval(0, 10) == pytest.approx([0, 1 - 0.025**0.1])
    assert interval(10, 10) == pytest.approx([0.025**0.1, 1])
    low, high = interval(64, 128)
    assert low + high == pytest.approx(1)
    assert 0.40 < low < 0.42


def request(weights: Path, out: Path, **options: Any) -> Request:
    return Request(load(weights), "generated", data_folder(), out=out, **options)


def test_certified_accuracies_are_always_there_and_curves_beside_each_other(
    weights: Path, tmp_path: Path
):
    asked = request(
        weights, tmp_path, attacks=("clean", "pgd-paper"), epsilons=(0.1, 0.0), limit=30
    )
    done = evaluate(asked)
    entries = done.result["certified_accuracy"]
    assert [entry["epsilon"] for entry in entries] == [36 / 255, 72 / 255, 108 / 255, 1.0]
    for entry in entries:
        assert entry["certified"] == (done.table.radius > entry["epsilon"]).sum()
        assert entry["accuracy"] == entry["certified"] / 30
    found = curves(done.result)
    assert found["certified"] == certified_curve(done.table.radius)
    assert found["pgd-paper"].epsilon == (0.0, 0.1)
    assert found["certified"].accuracy[0] <= found["clean"].accuracy[0]
    assert found["pgd-paper"].accuracy[1] == done.table.survived("pgd-paper", 0.1).mean()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"epsilons": (0.1, -1.0)}, "epsilon -1.0"),
        ({"epsilons": (float("nan"),)}, "epsilon nan"),
        ({"epsilons": (float("inf"),)}, "epsilon inf"),
        ({"epsilons": ()}, "no epsilon"),
        ({"limit": 0}, "limit 0"),
        ({"limit": -3}, "limit -3"),
        ({"attacks": ("fgsm",)}, "unknown attack 'fgsm': one of clean, pgd-paper, autoattack"),
        ({"protocol": "mine"}, "unknown protocol 'mine'"),
    ],
)
def test_bad_requests_are_refused(
    weights: Path, tmp_path: Path, options: dict[str, Any], expected: str
):
    with pytest.raises(UserError, match=expected):
        evaluate(request(weights, tmp_path / "out", **options))
    assert not (tmp_path / "out").exists()


FULL = (
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to"),
    RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to"),
    MemoryError(),
)


@pytest.mark.parametrize("error", FULL, ids=lambda error: type(error).__name__)
def test_full_memory_is_one_line_and_loses_nothing(
    refused: Refused,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
):
    def full(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(pieces, "pgd", full)
    line = refused(
        "evaluate", weights, "--attack", "pgd-paper", "--limit", "4", "--eps", "0.1",
        "--out", tmp_path,
    )  # fmt: skip
    assert "out of memory on --device cpu" in line
    assert str(tmp_path) in line
    assert len(list((tmp_path / "shards").iterdir())) == 1


def test_other_errors_are_not_taken_for_full_memory(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def broken(*_: Any) -> Any:
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(pieces, "clean", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        evaluate(request(weights, tmp_path, limit=4))


def test_corrupt_images_are_refused(refused: Refused, tmp_path: Path):
    target = fitted("non-expansive", 10, "cifar10", tmp_path / "net.safetensors")
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    (folder / "test_batch").write_bytes(b"\x80\x04garbage")
    line = refused("evaluate", target, "--data", tmp_path / "data", "--out", tmp_path / "out")
    assert str(folder) in line
    assert "dsnn data cifar10" in line
    assert not (tmp_path / "out").exists()


def test_an_infinite_bound_is_printed_and_certifies_nothing(
    dsnn: Callable[..., tuple[int, str, str]],
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
):
    from experiments import evaluate as module
    from verification.bound import NetworkBound

    nothing = NetworkBound(float("inf"), float("inf"))
    monkeypatch.setattr(module, "network_bound", lambda net, std: nothing)
    code, out, error = dsnn("evaluate", weights, "--limit", "4", "--out", tmp_path)
    assert (code, error) == (0, "")
    assert "in pixels at most inf" in out
    assert "certified: 0 at 0.1412" in out
