"""Bad weights end in one line and exit 2, and nothing is written."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dsnn.data.statistics import TRAINING
from dsnn.errors import UserError
from dsnn.models import build
from dsnn.weights import Card, canonical_sha256, load, save

MEAN, STD = TRAINING["cifar10"]
CARD = Card("non-expansive", "cifar10", 0.15, MEAN, STD)


class Evil:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def published_state(margin: float = 0.0) -> dict[str, torch.Tensor]:
    """A well-formed published state dict of the non-expansive regime, random."""
    state = {"FC.1.weight": torch.randn(10, 2048), "FC.1.bias": torch.zeros(10)}
    for k, (inputs, width) in enumerate([(3, 32), (32, 64), (64, 128)]):
        state[f"seq.{k}.u"] = torch.ones(4)
        state[f"seq.{k}.rescalings"] = torch.ones(3)
        state[f"seq.{k}.conv1.0.weight"] = torch.randn(width, inputs, 3, 3)
        for i in range(4):
            state[f"seq.{k}.convs.{i}.weight"] = torch.randn(width, width, 3, 3)
            state[f"seq.{k}.convs.{i}.bias"] = torch.randn(width)
    return state


@pytest.fixture
def good(tmp_path: Path) -> Path:
    path = tmp_path / "good.safetensors"
    save(path, build("non-expansive", channels=(4, 4, 4)), CARD)
    return path


def test_round_trip_keeps_everything(tmp_path: Path):
    for arch in ("unconstrained", "switch-flexible"):
        net = build(arch, 100, channels=(4, 5, 6), signed_steps=False)
        card = Card(arch, "cifar100", None, MEAN, STD, signed_steps=False)
        save(tmp_path / "a.safetensors", net, card)
        loaded = load(tmp_path / "a.safetensors", arch)
        assert loaded.card == card
        assert loaded.sha256 == canonical_sha256(net.state_dict())
        x = torch.randn(1, 3, 32, 32)
        assert torch.equal(loaded.net(x), net.eval()(x))


def test_the_hash_sees_names_values_and_shapes():
    state = {"a": torch.zeros(2, 3), "b": torch.ones(3)}
    others = [
        {"a": state["a"], "c": state["b"]},
        {"a": state["a"].reshape(3, 2), "b": state["b"]},
        {"a": state["a"], "b": state["b"] * 2},
        {"a": state["a"].double(), "b": state["b"]},
    ]
    assert len({canonical_sha256(s) for s in [state, *others]}) == 5
    assert canonical_sha256(dict(reversed(state.items()))) == canonical_sha256(state)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("missing.pt", None, "No such file"),
        ("text.pt", b"not weights", "cannot load"),
        ("empty.pt", b"", "cannot load"),
        ("text.safetensors", b"not weights", "damaged"),
        ("weights.bin", b"", ".safetensors, or published .pt"),
    ],
)
def test_unreadable(tmp_path: Path, refused, name: str, content: bytes | None, expected: str):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    line = refused("audit", tmp_path / name, "--arch", "non-expansive", "--claim", "lipschitz<=1")
    assert expected in line


@pytest.mark.parametrize("name", ["pipe.pt", "pipe.safetensors", "zero.safetensors"])
def test_what_may_never_end_is_not_read(tmp_path: Path, refused, name: str):
    if name.startswith("pipe"):
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to("/dev/zero")
    line = refused("audit", tmp_path / name, "--arch", "naive", "--claim", "lipschitz<=1")
    assert line.endswith("is a pipe or device: name a file")


def test_a_tensor_without_values(tmp_path: Path, refused):
    state = published_state() | {"FC.1.bias": torch.zeros(10, device="meta")}
    torch.save(state, tmp_path / "meta.pt")
    line = refused(
        "audit", tmp_path / "meta.pt", "--arch", "non-expansive", "--claim", "contractive"
    )
    assert "'FC.1.bias' is without values" in line


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested")
def test_tensors_whose_entries_are_not_stored_one_by_one(tmp_path: Path, refused):
    repeated, nested = torch.zeros(1), torch.nested.as_nested_tensor([torch.zeros(3)])
    for odd, expected in [
        (repeated.expand(2**20, 2**40), "repeats entries"),
        (repeated.expand(2**40), "repeats entries"),
        (nested, "sparse or nested"),
        (torch.zeros(10).to_sparse(), "sparse or nested"),
    ]:
        torch.save(published_state() | {"FC.1.bias": odd}, tmp_path / "odd.pt")
        line = refused(
            "audit", tmp_path / "odd.pt", "--arch", "non-expansive", "--claim", "contractive"
        )
        assert f"'FC.1.bias' {'' if 'repeats' in expected else 'is '}{expected}" in line


@pytest.mark.parametrize("name", ["wide.safetensors", "wide.pt"])
def test_a_file_larger_than_memory(tmp_path: Path, refused, name: str):
    with (tmp_path / name).open("wb") as file:
        file.truncate(2**42)
    line = refused("audit", tmp_path / name, "--arch", "non-expansive", "--claim", "contractive")
    assert f"{2**42} bytes" in line


def test_a_width_that_nothing_stores(tmp_path: Path, refused):
    """A tensor without entries may be of any width, whose square overflows."""
    about = Card("certified-smooth", "cifar10", 0.15, MEAN, STD).metadata()
    header: dict[str, object] = {"__metadata__": about}
    for k in (0, 1):
        shape = [2 ** (40 + 2 * k), 0, 3, 3]
        header[f"body.stages.{k}.flow.0.field.operator.weight"] = {
            "dtype": "F32", "shape": shape, "data_offsets": [0, 0],
        }  # fmt: skip
    header["head.weight"] = {"dtype": "F32", "shape": [10, 1], "data_offsets": [0, 40]}
    text = json.dumps(header).encode()
    path = tmp_path / "wide.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(40))
    assert "steps or the head are missing" in refused("audit", path, "--claim", "contractive")


def test_a_header_writes_nothing_to_the_terminal(tmp_path: Path, refused):
    """The reader of the format quotes the file in its error."""
    header = json.dumps({"a": {"dtype": "\x1b[31m", "shape": [1], "data_offsets": [0, 4]}}).encode()
    content = len(header).to_bytes(8, "little") + header + bytes(4)
    (tmp_path / "a.safetensors").write_bytes(content)
    line = refused("audit", tmp_path / "a.safetensors", "--claim", "contractive")
    assert "[31m" in line
    assert line.isprintable()


def test_truncated(tmp_path: Path, good: Path, refused):
    torch.save(published_state(), tmp_path / "whole.pt")
    for source in (tmp_path / "whole.pt", good):
        cut = tmp_path / f"cut{source.suffix}"
        content = source.read_bytes()
        for size in (10, len(content) // 2, len(content) - 1):
            cut.write_bytes(content[:size])
            line = refused("audit", cut, "--arch", "non-expansive", "--claim", "lipschitz<=1")
            assert "damaged" in line


def test_a_malicious_pickle_does_not_run(tmp_path: Path, refused):
    target = tmp_path / "touched"
    for protocol in (2, 5):
        (tmp_path / "evil.pt").write_bytes(pickle.dumps({"a": Evil(target)}, protocol))
        refused(
            "convert", tmp_path / "evil.pt", "--arch", "non-expansive", "--out", "x.safetensors"
        )
    torch.save({"a": Evil(target)}, tmp_path / "evil.pt")
    line = refused(
        "audit", tmp_path / "evil.pt", "--arch", "non-expansive", "--claim", "contractive"
    )
    assert "would run code" in line
    assert not target.exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite(tmp_path: Path, refused, value: float):
    state = published_state()
    state["seq.1.convs.2.weight"][0, 0, 0, 0] = value
    torch.save(state, tmp_path / "bad.pt")
    out = tmp_path / "out" / "bad.safetensors"
    line = refused("convert", tmp_path / "bad.pt", "--arch", "non-expansive", "--out", out)
    assert "seq.1.convs.2.weight" in line
    assert "NaN or infinite" in line
    assert not out.exists()


def test_wrong_architecture(tmp_path: Path, good: Path, refused):
    torch.save(published_state(), tmp_path / "ne.pt")
    out = tmp_path / "out.safetensors"
    for arch in ("switch-flexible", "unconstrained", "transformer"):
        line = refused("convert", tmp_path / "ne.pt", "--arch", arch, "--out", out)
        assert arch in line
    line = refused("audit", good, "--arch", "naive", "--claim", "lipschitz<=1")
    assert "non-expansive" in line
    assert "naive" in line
    assert "--arch" in refused("audit", tmp_path / "ne.pt", "--claim", "lipschitz<=1")
    assert list(tmp_path.glob("*.safetensors")) == [good]


def test_keys_shapes_and_types(tmp_path: Path):
    def changed(**changes: object) -> Path:
        state: dict[str, object] = {**published_state(), **changes}
        kept = {key: value for key, value in state.items() if value is not None}
        torch.save(kept, tmp_path / "changed.pt")
        return tmp_path / "changed.pt"

    cases = [
        ({"seq.0.u": None}, "lacks 'seq.0.u'"),
        ({"extra": torch.zeros(1)}, "unexpected 'extra'"),
        ({"seq.0.u": torch.zeros(3)}, "shape"),
        ({"FC.1.weight": torch.zeros(7, 2048)}, "7 rows"),
        ({"seq.0.u": torch.ones(4, dtype=torch.float64)}, "float64"),
        ({"seq.0.u": [1.0]}, "not a state dict"),
        ({"FC.1.weight": None}, "missing"),
        ({"seq.2.conv1.0.weight": torch.zeros(0, 64, 3, 3)}, "'seq.2.conv1.0.weight' is .*empty"),
    ]
    for changes, expected in cases:
        with pytest.raises(UserError, match=expected):
            load(changed(**changes), "non-expansive")


def test_safetensors_with_other_shapes_or_metadata(tmp_path: Path, good: Path):
    state, metadata = load_file(good), CARD.metadata()

    def rewritten(state: dict[str, torch.Tensor], metadata: dict[str, str] | None) -> Path:
        save_file(state, tmp_path / "other.safetensors", metadata)
        return tmp_path / "other.safetensors"

    for missing in metadata:
        kept = {key: value for key, value in metadata.items() if key != missing}
        with pytest.raises(UserError, match=missing):
            load(rewritten(state, kept))
    with pytest.raises(UserError, match="no metadata"):
        load(rewritten(state, None))
    for name, value in [
        ("std", "[0, 1, 1]"),
        ("mean", "[1, 2]"),
        ("mean", "[NaN, 0, 0]"),
        ("mean", "[1e39, 0, 0]"),  # infinite where it is executed
        ("std", "[1e39, 1, 1]"),
        ("signed_steps", "maybe"),
        ("arch", "transformer"),
        ("dataset", "cifar100"),
        ("dataset", "10"),
        ("dataset", ""),
        ("margin", "-0.1"),
        ("margin", '"wide"'),
        ("margin", "9" * 400),
        ("std", f"[1, 1, {10**400}]"),
        ("arch", "[" * 5000),
    ]:
        with pytest.raises(UserError, match=str(tmp_path)):
            load(rewritten(state, {**metadata, name: value}))
    for name in ("head.bias", "stages.0.flow.0.u", "stages.1.lift.operator.weight"):
        with pytest.raises(UserError, match=r"not non-expansive|missing"):
            load(rewritten({k: v for k, v in state.items() if k != name}, metadata))
    for name, empty in [
        ("head.weight", torch.zeros(0, 64)),
        ("stages.2.lift.operator.weight", torch.zeros(0, 4, 3, 3)),
    ]:
        with pytest.raises(UserError, match=f"'{name}' is .*empty"):
            load(rewritten(state | {name: empty}, metadata))
    huge = state | {"stages.0.lift.operator.weight": torch.zeros(100_000, 3, 3, 3)}
    with pytest.raises(UserError, match="not non-expansive"):
        load(rewritten(huge, metadata))  # compared by shape: nothing of that size is built


@pytest.mark.parametrize("command", [["convert"], ["audit", "--claim", "lipschitz<=1"]])
def test_unwritable_output(tmp_path: Path, good: Path, refused, command: list[str]):
    file = tmp_path / "file"
    file.write_text("kept")
    if command[0] == "convert":
        torch.save(published_state(), tmp_path / "ne.pt")
        arguments = ["convert", tmp_path / "ne.pt", "--arch", "non-expansive", "--out"]
        line = refused(*arguments, file / "sub" / "x.safetensors")
        assert ".safetensors" in refused(*arguments, tmp_path / "x.bin")
        same = [
            tmp_path / "x.safetensors",
            "--json",
            tmp_path / "." / "sub" / ".." / "x.safetensors",
        ]
        assert "would write over another file" in refused(*arguments, *same)
    else:
        line = refused(*command[:1], good, *command[1:], "--json", file / "sub" / "x.json")
    assert "cannot write" in line
    assert file.read_text() == "kept"


def test_metadata_are_json(good: Path):
    metadata = CARD.metadata()
    assert metadata["arch"] == "non-expansive"
    assert json.loads(metadata["std"]) == list(STD)
    assert json.loads(metadata["signed_steps"]) is True
