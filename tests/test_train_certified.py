"""`dsnn train` of certified networks: what is saved is finalised, proved, and what was judged."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from dsnn.data.cifar import pixels_and_labels
from dsnn.data.folder import data_folder
from dsnn.errors import UserError
from dsnn.models import CERTIFIED, Sizes, build_certified
from dsnn.training.certified import DIRECTION
from dsnn.training.constructed import CONSTRUCTIONS
from dsnn.training.images import ResidentImages
from dsnn.weights import load
from experiments import certified
from experiments.train import configured
from verification.bound import NetworkBound, network_bound

Dsnn = Callable[..., tuple[int, str, str]]
TINY = {"epochs": 2, "batch": 16, "images": 48, "monitored": 20, "tested": 40, "dtype": "float32"}


def arguments(folder: Path, regime: str, **changes: Any) -> list[object]:
    """JSON writes these values as TOML does."""
    config = folder / "config.toml"
    config.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in (TINY | changes).items()))
    asked = ["--regime", regime, "--dataset", "generated", "--scale", "smoke"]
    return ["train", *asked, "--config", config, "--out", folder / "out"]


@pytest.mark.parametrize("regime", CERTIFIED)
def test_the_saved_network_is_the_proved_one(regime: str, tmp_path: Path, dsnn: Dsnn):
    code, _, error = dsnn(*arguments(tmp_path, regime))
    assert (code, error) == (0, "")
    loaded = load(tmp_path / "out" / "weights.safetensors")
    margin = certified.configuration(regime, "generated", None, "smoke").margin
    assert (loaded.card.arch, loaded.card.margin) == (regime, margin)
    assert loaded.card.std == certified.UNIT
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["sha256"] == loaded.sha256
    bound = network_bound(loaded.net, loaded.card.std)
    assert bound.lipschitz <= 1
    assert run["result"]["lipschitz"] == bound.lipschitz
    assert 0 <= run["result"]["certified_36_255_unrounded"] <= 1
    with safe_open(tmp_path / "out" / "weights.safetensors", framework="pt") as file:
        assert not any(DIRECTION in name for name in file.keys())  # noqa: SIM118


def test_a_constant_that_is_not_finite_certifies_nothing_and_is_null_in_json(
    monkeypatch: pytest.MonkeyPatch,
):
    infinite = NetworkBound(math.inf, math.inf, math.inf)
    monkeypatch.setattr(certified, "network_bound", lambda *_: infinite)
    pixels, labels = pixels_and_labels("generated", "test", data_folder(), 4)
    images = ResidentImages(
        pixels, labels, mean=certified.UNIT, std=certified.UNIT, device=torch.device("cpu")
    )
    found = certified.constants(
        build_certified(CERTIFIED[0], sizes=Sizes((12, 48), (1, 1))), images
    )
    assert json.loads(json.dumps(found, allow_nan=False)) == {
        "lipschitz": None,
        "lipschitz_pixel": None,
        "certified_36_255_unrounded": 0,
    }


@pytest.mark.parametrize("construction", CONSTRUCTIONS)
def test_slices_end_with_the_weights_of_an_undisturbed_run(
    construction: str, tmp_path: Path, dsnn: Dsnn
):
    hashes = []
    for name, options in (("whole", []), ("sliced", ["--resume", "--max-seconds", 0])):
        (tmp_path / name).mkdir()
        asked = arguments(tmp_path / name, "certified-switch", construction=construction)
        asked += options
        while dsnn(*asked)[0] == 3:
            pass
        hashes.append(json.loads((tmp_path / name / "out" / "run.json").read_text())["sha256"])
    assert hashes[0] == hashes[1] is not None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"rate": 0.0}, "a positive number"),
        ({"warmup": float("nan")}, "0 or more, less than 1"),
        ({"temperature": float("nan")}, "a positive number"),
        ({"depth": [1]}, "expected 2 integers"),
        ({"gamma": 0.1}, "is unknown"),
        ({"pad": -1}, "0 or more"),
        ({"pad": 33}, "pad 33 is not allowed: at most 32"),
        ({"rate": 1e300}, "at most 1e\\+30"),
        ({"channels": [10**30, 4 * 10**30]}, "at most 4294967296"),
        ({"depth": [1, 401]}, "at most 400"),
        ({"perturbation": float("inf")}, "0 or more"),
        ({"construction": "hoped"}, "measured, parametrized"),
    ],
)
def test_settings_outside_their_limits(changes: dict[str, Any], says: str):
    with pytest.raises(UserError, match=says):
        certified.configuration(CERTIFIED[0], "generated", None, "smoke", changes)


@pytest.mark.parametrize("margin", [0.0, -1.0, float("nan")])
def test_a_margin_that_is_none(margin: float):
    with pytest.raises(UserError, match="margin"):
        certified.configuration(CERTIFIED[0], "cifar10", margin, "cpu")


def test_certified_networks_do_not_go_on_from_others():
    with pytest.raises(UserError, match="start from nothing"):
        configured(CERTIFIED[1], "cifar100", None, "cpu", transfer=True, changes={})
