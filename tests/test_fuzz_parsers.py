"""Damaged certificates, weights and claims end in one line, whatever was done to them.

Hypothesis draws edits of valid files, of their structure and of texts. Short here; `slow` goes on
for ten minutes.
"""

import json
import math
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor, nn

from dsnn.data.statistics import TRAINING
from dsnn.errors import UserError
from dsnn.models import build
from dsnn.weights import Card, load, save
from verification.capture import capture
from verification.certificate import Finding, Subject, write
from verification.checker.__main__ import run
from verification.claims import parse
from verification.lipschitz import derive
from verification.targets import parse_shape

LONG = 600.0
"""Seconds of the long campaign, shared by all parsers."""
LARGEST = 2**29
"""Bytes by which a process may grow on files of a few kB."""

Attack = Callable[[Path, Any], None]
Edit = tuple[str, int, int, bytes]

TOKENS = [
    b"", b"\0", b"\n", b'"', b"{", b"}", b"[" * 5000, b"]", b",", b":", b"-1", b"0", b"NaN",
    b"1e999", b"-1e-999", b"9" * 20, b"9" * 400, b"9" * 5000, b"1/0", b"null", b"true", b"[]",
    b"{}", b"\xff\xfe", "𝟙∞".encode(), b'"F64"', b'"shape":[1099511627776]', b"refuted", b"chain",
    b"\x80\x02c", b"..", b"\xff" * 8, b"\x1b[31m",
]  # fmt: skip
edits: st.SearchStrategy[list[Edit]] = st.lists(
    st.tuples(
        st.sampled_from(["flip", "cut", "put", "end", "copy"]),
        st.integers(0, 2**20),
        st.integers(0, 40),
        st.sampled_from(TOKENS) | st.binary(max_size=12),
    ),
    min_size=1,
    max_size=4,
)


def edited(data: bytes, changes: list[Edit]) -> bytes:
    """The data with each edit made at its place, counted around."""
    for kind, place, size, token in changes:
        at = place % (len(data) + 1)
        if kind == "flip":
            data = (
                data[:at] + bytes(b ^ (1 << size % 8) for b in data[at : at + 1]) + data[at + 1 :]
            )
        elif kind == "cut":
            data = data[:at] + data[at + size :]
        elif kind == "put":
            data = data[:at] + token + data[at + size :]
        elif kind == "end":
            data = data[:at] + token
        else:
            data = data[:at] + data[at : at + size] + data[at:]
    return data


def refuses(function: Callable[..., object], *arguments: object) -> None:
    """It returns, or raises a UserError of one printable line."""
    said = ""
    try:
        function(*arguments)
    except UserError as error:
        said = str(error)
    assert said.isprintable()
    assert len(said) < 1000


# Certificates. -----------------------------------------------------------------------------


def certificate(folder: Path) -> Path:
    """A small one, with a proved and two refuted claims."""
    path = folder / "audit.json"
    if not path.exists():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(1, 2, 3, padding=1), nn.Tanh(), nn.MaxPool2d(2, 1)).eval()
        graph = capture(net, (1, 3, 3))
        constant = derive(graph)
        pair = (torch.zeros(1, 3, 3).double(), torch.ones(1, 3, 3).double())
        proved = Finding("lipschitz<=9", "", "proved", constant.upper, graph, constant)
        refuted = Finding("lipschitz<=0.001", "", "refuted", constant.upper, graph, constant, pair)
        at = (pair[1], None)
        mass = Finding("mass-preserving", "", "refuted", math.inf, graph, None, at)
        assert write(path, Subject("net", net.state_dict()), [proved, refuted, mass]) == []
        assert run(str(path)) == 0
    return path


def of_certificate_bytes(folder: Path, drawn: tuple[str, list[Edit]]) -> None:
    suffix, changes = drawn
    path = certificate(folder)
    file = path.with_suffix(suffix)
    kept = file.read_bytes()
    try:
        file.write_bytes(edited(kept, changes))
        assert run(str(path)) in (0, 1, 2, 3)
    finally:
        file.write_bytes(kept)


# Weights. ----------------------------------------------------------------------------------


def network(folder: Path) -> Path:
    path = folder / "net.safetensors"
    if not path.exists():
        torch.manual_seed(0)
        card = Card("non-expansive", "cifar10", 0.15, *TRAINING["cifar10"])
        save(path, build("non-expansive", channels=(3, 3, 4)), card)
        load(path)
    return path


def published(folder: Path) -> Path:
    path = folder / "net.pt"
    if not path.exists():
        torch.save(published_state(), path)
        load(path, "non-expansive")
    return path


def published_state() -> dict[str, Tensor]:
    state = {"FC.1.weight": torch.ones(10, 64), "FC.1.bias": torch.zeros(10)}
    for k, (inputs, width) in enumerate([(3, 3), (3, 3), (3, 4)]):
        state[f"seq.{k}.u"], state[f"seq.{k}.rescalings"] = torch.ones(4), torch.ones(3)
        state[f"seq.{k}.conv1.0.weight"] = torch.ones(width, inputs, 3, 3)
        for i in range(4):
            state[f"seq.{k}.convs.{i}.weight"] = torch.ones(width, width, 3, 3)
            state[f"seq.{k}.convs.{i}.bias"] = torch.ones(width)
    return state


def of_weights_bytes(folder: Path, drawn: tuple[bool, list[Edit]]) -> None:
    ours, changes = drawn
    source = network(folder) if ours else published(folder)
    path = folder / f"edited{source.suffix}"
    path.write_bytes(edited(source.read_bytes(), changes))
    refuses(load, path, None if ours else "non-expansive")


SHAPES = [
    (),
    (0,),
    (1,),
    (3,),
    (2, 0),
    (10, 64),
    (0, 3, 3, 3),
    (3, 0, 3, 3),
    (4, 3, 3, 3),
    (1,) * 6,
]
DTYPES = [torch.float32, torch.float64, torch.float16, torch.int64, torch.bool, torch.complex64]


def of_weights_structure(folder: Path, drawn: tuple[bool, int, int, str, str]) -> None:
    """One tensor of another shape and type, and one entry of the metadata another text."""
    ours, which, k, entry, text = drawn
    tensor = torch.ones(SHAPES[k % len(SHAPES)], dtype=DTYPES[k // len(SHAPES) % len(DTYPES)])
    card = Card("non-expansive", "cifar10", 0.15, *TRAINING["cifar10"])
    state = load(network(folder)).net.state_dict() if ours else published_state()
    name = sorted(state)[which % len(state)]
    if which % 2:
        state[name] = tensor
    path = folder / ("changed.safetensors" if ours else "changed.pt")
    if ours:
        save_file(state, path, {**card.metadata(), entry: text})
    else:
        torch.save(state, path)
    refuses(load, path, None if ours else "non-expansive")


texts = st.text(max_size=30) | st.sampled_from([t.decode(errors="replace") for t in TOKENS])
json_texts = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.integers(10**300, 10**500),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=4,
).map(json.dumps)

# Claims and shapes. ------------------------------------------------------------------------

WORDS = [
    "lipschitz", "[pixel]", "<=", "1", "1/0", "1e99", "-", "contractive", ":", "equivariant:shift",
    "[dim=0]", "[dim=", "]", "~", "1e-6", "stages.*.flow", "**", "[", "!", "nan", "0x1", "1_0",
]  # fmt: skip


def of_claims(folder: Path, drawn: list[str]) -> None:
    refuses(parse, "".join(drawn))
    refuses(parse_shape, "".join(drawn))


ends = st.sampled_from([".json", ".safetensors"])
entries = st.sampled_from(["arch", "dataset", "margin", "mean", "std", "signed_steps", "other"])
numbers = st.integers(0, 99)
ATTACKS: dict[str, tuple[Attack, st.SearchStrategy[Any], int]] = {
    "certificate": (of_certificate_bytes, st.tuples(ends, edits), 150),
    "weights": (of_weights_bytes, st.tuples(st.booleans(), edits), 200),
    "structure of weights": (
        of_weights_structure,
        st.tuples(st.booleans(), numbers, numbers, entries, texts | json_texts),
        200,
    ),
    "claims": (of_claims, st.lists(st.sampled_from(WORDS) | texts, max_size=6), 400),
}
"""What is drawn for each parser, and how often in a round."""


def campaign(name: str, folder: Path, rounds: int = 1, seconds: float = 1e9) -> int:
    """How many examples were tried, in rounds of another seed each, for at most some seconds."""
    attack, strategy, examples = ATTACKS[name]
    started, before, count = time.monotonic(), peak(), 0

    def once(drawn: Any) -> None:
        nonlocal count
        count += 1
        attack(folder, drawn)

    chosen = settings(
        max_examples=examples, deadline=None, database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )  # fmt: skip
    for k in range(rounds):
        if time.monotonic() - started > seconds:
            break
        seed(k)(chosen(given(strategy)(once)))()
    assert peak() - before < LARGEST
    return count


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


@pytest.mark.parametrize("name", ATTACKS)
def test_damage_ends_in_one_line(name: str, tmp_path: Path):
    assert campaign(name, tmp_path) >= 100


@pytest.mark.slow
@pytest.mark.parametrize("name", ATTACKS)
def test_damage_ends_in_one_line_for_ten_minutes(name: str, tmp_path: Path):
    assert campaign(name, tmp_path, 10**6, LONG / len(ATTACKS)) >= 1000


def test_a_parser_that_lets_something_through_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The planted error: a claim's limit read without a guard."""
    monkeypatch.setattr("test_fuzz_parsers.parse", lambda text: float(text[-1:] or "1"))
    with pytest.raises(ValueError, match="convert"):
        campaign("claims", tmp_path)
