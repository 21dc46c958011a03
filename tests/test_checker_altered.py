"""Certificates that are altered are rejected, damaged ones refused."""

import contextlib
import copy
import hashlib
import json
import math
import random
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from certificate_cases import Written
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from verification.capture import capture
from verification.certificate import Finding, Subject, write
from verification.checker import reading, verdicts
from verification.checker.__main__ import run
from verification.checker.reading import Unreadable, Wrong
from verification.constant import Constant


def rejected(written: Written, content: dict[str, Any], *, sign: bool = True) -> bool:
    """Whether the checker rejects the content, with its digest made to fit."""
    if sign:
        unsigned = {k: v for k, v in content.items() if k != "digest"}
        content = {**unsigned, "digest": reading.digest(unsigned)}
    path = written.path.with_name(f"altered-{random.getrandbits(64):x}.json")
    path.write_text(json.dumps(content))
    try:
        certificate = verdicts.read(path)
        verdicts.check(certificate, written.spectra)
        verdicts.compare(certificate, written.weights.with_suffix(".pt"))
    except (Unreadable, Wrong):
        return True
    finally:
        path.unlink()
    return False


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to everything in a JSON value that is no object."""
    if isinstance(value, dict):
        for key in value:
            yield from places(value[key], (*path, key))
        return
    yield path
    if isinstance(value, list):
        for k, item in enumerate(value):
            yield from places(item, (*path, k))


SAID_ONLY = ("version", "target", "environment", "digest")
"""Fields about the making of a certificate, from which nothing follows."""


def meaningful(path: tuple[Any, ...]) -> bool:
    """What something follows from; a certificate with fewer verdicts is another certificate."""
    elsewhere = (("source", "file"), ("left_out",), ("claims",))
    return path[0] not in SAID_ONLY and path not in elsewhere


def altered(value: Any, draw: random.Random) -> Any:
    """Another value in the place of `value`."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        number = float(value)
        bits = np.float64(number).view(np.int64) ^ np.int64(1 << draw.randrange(63))
        flipped = float(np.int64(bits).view(np.float64))
        options = [flipped, np.nextafter(number, 9e99), number * (1 + 1e-7), number + 1, -number, 0]
        return draw.choice([v for v in map(float, options) if v != number and abs(v) < 1e300])
    if isinstance(value, list):
        if not value:
            return draw.choice([[0], [["a", "b"]], ["x"]])
        k = draw.randrange(len(value))
        return draw.choice([value[:k] + value[k + 1 :], value[: k + 1] + value[k:], []])
    if value is None:
        return draw.choice([0.5, "1", {}])
    if isinstance(value, str) and reading.is_fraction(value):
        number = Fraction(value)
        return str(draw.choice([number + 1, 2 * number + 3, number * Fraction(1001, 1000) + 1]))
    if draw.random() < 0.3:
        words = (
            *("proved", "refuted", "unknown", "chain", "sum", "T8-nonexpansive-euler", "input", ""),
            *("relu", "weights/head.bias", "lipschitz<=2", "contractive", "float32-execution"),
        )
        return draw.choice([word for word in words if word != value])
    k = draw.randrange(len(value) + 1)
    letter = draw.choice("abcdefgh0123456789")
    changed = value[:k] + letter + value[k + draw.randrange(2) :]
    return changed if changed != value else value + letter


def put(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The content with another value in one place."""
    content = copy.copy(content)
    content[path[0]] = value if len(path) == 1 else put(content[path[0]], path[1:], value)
    return content


def at(content: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        content = content[key]
    return content


@pytest.mark.parametrize("count", [250, pytest.param(2500, marks=pytest.mark.slow)])
def test_changes_of_one_field_are_rejected_even_when_signed(written: Written, count: int) -> None:
    assert not rejected(written, written.content)
    draw = random.Random(count)
    everywhere = [path for path in places(written.content) if meaningful(path)]
    few = [path for path in everywhere if path[0] != "graphs"]
    accepted = []
    for k in range(count):
        path = draw.choice(few if k % 4 == 0 else everywhere)
        value = altered(at(written.content, path), draw)
        if not rejected(written, put(written.content, path, value)):
            accepted.append(f"{path}: {at(written.content, path)} -> {value}"[:300])
    assert not accepted, "\n".join(accepted)


def test_the_lower_end_is_what_the_witness_shows(written: Written) -> None:
    claims = enumerate(written.content["claims"])
    refuted = [(k, claim) for k, claim in claims if claim["verdict"] == "refuted"]
    for k, claim in refuted:
        lower, upper = claim["bound"]
        for changed in (lower * (1 + 2e-6), lower * (1 - 2e-6), lower * 1.01, upper, 0.0):
            place = ("claims", k, "bound", 0)
            assert rejected(written, put(written.content, place, changed))
    assert len(refuted) == 2


def test_a_removed_or_renamed_field_is_rejected(written: Written) -> None:
    def objects(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        if isinstance(value, dict):
            yield from ((*path, key) for key in value)
        if isinstance(value, dict | list):
            for key in value if isinstance(value, dict) else range(len(value)):
                yield from objects(value[key], (*path, key))

    every = [p for p in objects(written.content) if p[0] != "environment" and p != ("digest",)]
    for path in random.Random(1).sample(every, 60):
        holder = dict(at(written.content, path[:-1]))
        value = holder.pop(path[-1])
        for changed in (holder, {**holder, f"{path[-1]}x": value}):
            content = changed if len(path) == 1 else put(written.content, path[:-1], changed)
            assert rejected(written, content), path


def test_anything_at_all_is_rejected_when_not_signed(written: Written) -> None:
    draw = random.Random(2)
    everywhere = list(places(written.content))
    for _ in range(100):
        path = draw.choice(everywhere)
        value = altered(at(written.content, path), draw)
        if json.dumps(value) != json.dumps(at(written.content, path)):
            assert rejected(written, put(written.content, path, value), sign=False), path


def test_a_flipped_bit_of_a_tensor_is_rejected(written: Written, tmp_path: Path) -> None:
    path = tmp_path / "audit.json"
    path.write_text(json.dumps(written.content))
    draw = random.Random(3)
    for _ in range(200):
        data = bytearray(written.data)
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        path.with_suffix(".safetensors").write_bytes(data)
        with pytest.raises((Unreadable, Wrong)):
            verdicts.read(path)


def test_changed_tensors_are_rejected_even_when_every_hash_is_made_to_fit(
    written: Written, tmp_path: Path
) -> None:
    """Weights that enter a bound: their norms no longer are what the lines say."""
    path = tmp_path / "audit.json"
    header = int.from_bytes(written.data[:8], "little")
    entries = json.loads(written.data[8 : 8 + header])
    count = 0
    for name, entry in entries.items():
        if len(entry["shape"]) != 4 or not name.startswith("weights/"):
            continue
        start, stop = (8 + header + k for k in entry["data_offsets"])
        data = bytearray(written.data)
        values = np.frombuffer(data, "<f4", (stop - start) // 4, start)
        values[int(np.abs(values).argmax())] *= 1.25
        path.with_suffix(".safetensors").write_bytes(data)
        tensors = reading.tensors(bytes(data), "")
        state = {k[8:]: v for k, v in tensors.items() if k.startswith("weights/")}
        content = copy.deepcopy(written.content)
        content["tensors"] = {"file": path.with_suffix(".safetensors").name,
                              "sha256": hashlib.sha256(data).hexdigest()}  # fmt: skip
        content["weights"]["sha256"] = reading.canonical_sha256(state)
        unsigned = {k: v for k, v in content.items() if k != "digest"}
        path.write_text(json.dumps({**unsigned, "digest": reading.digest(unsigned)}))
        certificate = verdicts.read(path)
        with pytest.raises(Wrong):
            verdicts.check(certificate)
        count += 1
    assert count >= 5


def test_without_a_verdict_nothing_is_certified(written: Written) -> None:
    assert rejected(written, {**written.content, "claims": [], "graphs": {}})


# Damage. -----------------------------------------------------------------------------------


def test_weights_at_the_end_of_the_range_end_in_a_line(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    plain = capture(net, (2,))
    for size, factor in ((1e200, 1), (1e-300, 1), (1.0, Fraction(10) ** 390)):
        nodes = tuple(
            replace(node, constants={
                use: replace(c, value=c.value.double() * size, factor=Fraction(factor), name="")
                for use, c in node.constants.items()
            }) for node in plain
        )  # fmt: skip
        graph = replace(plain, nodes=nodes)
        pair = (torch.zeros(2), torch.ones(2))
        one = Finding("lipschitz<=1", "", "refuted", math.inf, graph, Constant(math.inf, ""), pair)
        two = replace(one, claim="contractive", verdict="unknown", witness=None)
        write(tmp_path / "a.json", Subject("", net.state_dict()), [one, two])
        assert run(str(tmp_path / "a.json")) == 3


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_bytes_are_no_certificate(data: bytes) -> None:
    with pytest.raises(Unreadable):
        reading.parse_json(b"\x00" + data, "bytes")
    for parse in (reading.tensors, reading.parse_json):
        with contextlib.suppress(Unreadable):
            parse(data, "bytes")


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_wild_values_in_any_place_end_in_one_line(written: Written, data: st.DataObject) -> None:
    everywhere = [path for path in places(written.content) if path[0] != "digest"]
    path = data.draw(st.sampled_from(everywhere))
    wild = st.sampled_from(
        [2**70, -1, 2**40, 1e308, [], [[]], {}, "9" * 500, "1/0", [2**40] * 8, None]
    )
    rejected(written, put(written.content, path, data.draw(json_values | wild)))


@pytest.mark.parametrize(
    "header",
    [
        {"a": {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]},
         "b": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
        {"a": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]}},
        {"a": {"dtype": "X", "shape": [1], "data_offsets": [0, 4]}},
        {"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, -4]}},
        {"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}},
        {"a": []},
        [],
    ],
    ids=["huge", "overlap", "gap", "beyond", "dtype", "negative", "bool", "entry", "list"],
)  # fmt: skip
def test_tensor_files_that_lie_are_refused(header: Any) -> None:
    text = json.dumps(header).encode()
    with pytest.raises(Unreadable):
        reading.tensors(len(text).to_bytes(8, "little") + text + b"\0" * 8, "file")


def test_headers_and_numbers_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Unreadable):
        reading.tensors(b"\xff" * 8 + b"{}", "file")
    nan = json.dumps({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    with pytest.raises(Unreadable):
        reading.tensors(len(nan).to_bytes(8, "little") + nan + b"\0\0\xc0\x7f", "file")
    for text in (
        b'{"a": NaN}',
        b'{"a": 1e999}',
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        b"\xff",
        b"1" * 5000,
    ):
        with pytest.raises(Unreadable):
            reading.parse_json(text, "file")
    deep = tmp_path / "deep.json"
    deep.write_bytes(b'{"format":' * 50_000)
    assert run(str(deep)) == 2
    assert run(str(tmp_path)) == 2
    assert run("a\0b") == 2
