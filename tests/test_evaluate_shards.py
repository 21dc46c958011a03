"""Shards are written once, torn ones are not believed, and merging forgets their order."""

import itertools
import json
import math
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch

from dsnn.errors import UserError
from experiments import pieces
from experiments.epsilons import PAPER, parse, parse_all
from experiments.shards import Shard, Store, identity, seed_of
from experiments.table import Table, merge

KEY = {"kind": "clean", "start": 0, "stop": 2, "epsilon": 0.1}


def clean_shard(start: int) -> Shard:
    content = {
        "label": [0, 1],
        "prediction": [0, 1],
        "margin": [0.5, 0.25],
        "radius": [0.05, start / 100],
        "radius_by_constant": [0.02, start / 200],
    }
    return Shard({"kind": "clean", "start": start, "stop": start + 2}, content)


def attack_shard(start: int, epsilon: float, broken: list[bool]) -> Shard:
    key = {"kind": "pgd-paper", "start": start, "stop": start + 2, "epsilon": epsilon}
    return Shard(key, {"broken": broken})


def table(**changes: object) -> Table:
    columns = {
        "index": np.arange(4),
        "label": np.array([0, 1, 2, 3]),
        "prediction": np.array([0, 1, 2, 0]),
        "margin": np.array([1.0, 1.0, 1.0, -1.0]),
        "radius": np.array([0.2, 0.05, 0.0, 0.0]),
        "by_constant": np.array([0.1, 0.05, 0.0, 0.0]),
        "broken": {
            ("pgd-paper", 0.1): np.array([False, True, False, False]),
            ("pgd-paper", 0.5): np.array([True, False, False, False]),
        },
    }
    return Table(**(columns | changes))  # pyright: ignore[reportArgumentType]


def test_a_shard_reads_back_exactly_whatever_the_order_of_its_key(tmp_path: Path):
    store = Store(tmp_path / "a" / "b")
    assert store.read(KEY) is None
    store.write(Shard(KEY, {"values": [0.1, 1 / 3, None]}))
    found = store.read(dict(reversed(KEY.items())))
    assert found is not None
    assert found.content == {"values": [0.1, 1 / 3, None]}


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"key": 1}', "cut", "altered", "moved"])
def test_a_damaged_shard_counts_as_absent(tmp_path: Path, damage: str):
    store = Store(tmp_path)
    store.write(Shard(KEY, {"values": [1.5, 2.5]}))
    path = store.path(KEY)
    text = path.read_text()
    whole = json.loads(text)
    moved = json.dumps(whole | {"key": KEY | {"start": 9}})
    damaged = {"cut": text[:-9], "altered": text.replace("1.5", "1.75"), "moved": moved}
    path.write_text(damaged.get(damage, damage))
    assert store.read(KEY) is None
    store.write(Shard(KEY, {"values": [1.5, 2.5]}))
    assert path.read_text() == text
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_every_entry_of_the_key_counts():
    changes = ({}, {"start": 1}, {"epsilon": math.nextafter(0.1, 1)}, {"more": 0})
    assert len({identity(KEY | change) for change in changes}) == len(changes)
    seeds = {seed_of(KEY | {"start": start}) for start in range(100)}
    assert len(seeds) == 100
    assert max(seeds) < 2**63


def test_merging_is_a_function_of_the_set():
    shards = [clean_shard(2), clean_shard(0), attack_shard(0, 0.1, [False, True])]
    shards += [attack_shard(2, 0.1, [False, False]), attack_shard(0, 0.5, [True, True])]
    shards += [attack_shard(2, 0.5, [False, True])]
    tables = {merge(order).to_csv() for order in itertools.permutations(shards)}
    assert len(tables) == 1
    lines = tables.pop().splitlines()
    assert [line.split(",")[0] for line in lines] == ["index", "0", "1", "2", "3"]
    with pytest.raises(ValueError, match="do not cover"):
        merge(shards[:3])


def test_survivors_survive_every_smaller_epsilon_too():
    found = table()
    assert found.clean.tolist() == [True, True, True, False]
    assert found.survived("pgd-paper", 0.1).tolist() == [True, False, True, False]
    assert found.survived("pgd-paper", 0.5).tolist() == [False, False, True, False]
    assert found.survived_alone("pgd-paper", 0.5).tolist() == [False, True, True, False]
    assert found.survived("clean", 0.5).tolist() == found.clean.tolist()
    assert found.certified(0.05).tolist() == [True, False, False, False]
    assert found.violations() == []


def test_logits_that_are_not_finite_are_not_right():
    assert not table(margin=np.array([np.nan, 1.0, 1.0, -1.0])).clean[0]


def test_a_wrong_certificate_is_named():
    lines = table(radius=np.array([0.6, 0.05, 0.0, 0.0])).violations()
    assert len(lines) == 1
    assert lines[0].startswith("image 0 is certified to radius 0.6")
    assert "pgd-paper" in lines[0]
    lines = table(radius=np.array([0.0, 0.0, 0.0, 0.1])).violations()
    assert len(lines) == 1
    assert lines[0].startswith("image 3 is certified")


def test_epsilons_are_numbers_or_fractions():
    assert parse("36/255") == float(Fraction(36, 255))
    assert parse(" 0.3 ") == 0.3
    assert parse("0") == 0
    assert math.copysign(1, parse("-0")) == 1
    assert parse_all(["1", "8/255", "1.0"]) == (8 / 255, 1.0)
    assert list(PAPER) == sorted(PAPER)


@pytest.mark.parametrize(
    "text",
    [
        "-1", "nan", "-8/255", "inf", "1/0", "1/x", "1/-2", "inf/2", "", "eps", "1e999",
        "1_0", "1/", "1/inf", "٣",
    ],
)  # fmt: skip
def test_other_epsilons_are_refused(text: str):
    with pytest.raises(UserError, match="36/255"):
        parse(text)


def test_attacks_of_another_package_are_of_another_shard(monkeypatch: pytest.MonkeyPatch):
    piece = pieces.Piece(torch.zeros(1), torch.zeros(1), KEY)
    before = pieces.pgd_key(piece, 0.5, 0)
    monkeypatch.setattr(pieces.attacks, "LIBRARY", "foolbox 0")
    after = pieces.pgd_key(piece, 0.5, 0)
    assert identity(after) != identity(before)
    assert seed_of(after) == seed_of(before), "which begins where it began"


def test_radii_of_other_code_are_of_another_shard(monkeypatch: pytest.MonkeyPatch):
    subject = cast(Any, SimpleNamespace(lipschitz=1.0, body=None))
    piece = pieces.Piece(torch.zeros(1), torch.zeros(1), KEY)
    before = pieces.clean_key(subject, piece)
    hashes = pieces.content_hash
    for changed in ("second_order.py", "running_error_rules.py", "curvature.py", "certified.py"):

        def edited(path: Path, name: str = changed) -> str:
            return "x" if path.name == name else hashes(path)

        with monkeypatch.context() as patch:
            patch.setattr(pieces, "content_hash", edited)
            pieces.radius_code.cache_clear()
            assert identity(pieces.clean_key(subject, piece)) != identity(before), changed
    pieces.radius_code.cache_clear()
    assert pieces.clean_key(subject, piece) == before
