"""Files to checked structures, refusing whatever is not exactly of the documented form.

Nothing is allocated before its size was compared with that of the file it is in.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

LARGEST_JSON = 2**24
"""Bytes of a certificate, or of the header of a tensor file."""
LARGEST_VALUE, LARGEST_GRAPH = 2**26, 5000
"""Entries of one node's value, and nodes of a graph."""
DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "|b1", "U8": "|u1",
    "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
}  # fmt: skip
_FRACTION = re.compile(r"-?[0-9]{1,400}(/[1-9][0-9]{0,400})?")


class Unreadable(Exception):
    """Not a certificate: exit code 2."""


class Wrong(Exception):
    """A certificate that says something which does not follow: exit code 1."""


@dataclass(frozen=True)
class Weight:
    """The constant `factor` * `values`; `key` names the tensor."""

    key: str
    values: np.ndarray
    factor: Fraction


@dataclass(frozen=True)
class Node:
    """One value of a graph, as in `verification/graph.py`."""

    name: str
    kind: str
    inputs: tuple[str, ...]
    shape: tuple[int, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    constants: Mapping[str, Weight] = field(default_factory=dict)


def need(condition: bool, text: str) -> None:
    """Raise Unreadable unless the condition holds."""
    if not condition:
        raise Unreadable(text)


def agree(condition: bool, text: str) -> None:
    """Raise Wrong unless the condition holds."""
    if not condition:
        raise Wrong(text)


def load_bytes(path: Path, largest: int) -> bytes:
    """The bytes of a regular file of at most `largest` bytes."""
    try:
        need(path.is_file(), f"{path} is not a file")
        size = path.stat().st_size
        need(size <= largest, f"{path} has {size} bytes, more than {largest}")
        with path.open("rb") as file:
            data = file.read(size + 1)
        need(len(data) == size, f"{path} changes while it is read")
        return data
    except OSError as error:
        raise Unreadable(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:  # a NUL in the name
        raise Unreadable(f"cannot read a file of that name: {error}") from error


def parse_json(data: bytes, what: str) -> Any:
    """Strict JSON: UTF-8, no key twice, every number finite."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        need(len(found) == len(pairs), f"{what} has a key twice")
        return found

    def finite(text: str) -> float:
        value = float(text)
        need(math.isfinite(value), f"{what} holds the number {text[:20]}")
        return value

    try:
        return json.loads(
            data.decode(), object_pairs_hook=unique, parse_float=finite, parse_constant=finite
        )
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"{what} is not JSON: {str(error)[:80]}") from error


def digest(content: Any) -> str:
    """SHA-256 of the canonical JSON: sorted keys, no spaces."""
    try:
        text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    except RecursionError as error:  # some levels below those that may be read
        raise Unreadable("it is nested too deeply") from error
    return hashlib.sha256(text.encode()).hexdigest()


def tensors(data: bytes, what: str) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, which must fill it without gap or overlap and hold only
    finite numbers. They are views of `data`."""
    need(len(data) >= 8, f"{what} is too short for tensors")
    length = int.from_bytes(data[:8], "little")
    need(length <= min(LARGEST_JSON, len(data) - 8), f"{what} has a header longer than the file")
    header = parse_json(data[8 : 8 + length], f"the header of {what}")
    need(isinstance(header, dict), f"the header of {what} is not an object")
    header.pop("__metadata__", None)
    found, spans = {}, []
    for name, entry in header.items():
        need("\0" not in name, f"{what}: the name {name!r} would make its hash ambiguous")
        need(isinstance(entry, dict), f"{what}: the entry {name!r} is not an object")
        need(set(entry) == {"dtype", "shape", "data_offsets"}, f"{what}: {name!r} is malformed")
        dtype, shape, span = entry["dtype"], entry["shape"], entry["data_offsets"]
        need(isinstance(dtype, str) and dtype in DTYPES, f"{what}: {name!r} has dtype {dtype!r}")
        need(is_shape(shape, 2**40), f"{what}: {name!r} has shape {str(shape)[:60]}")
        need(is_sizes(span) and len(span) == 2, f"{what}: {name!r} has no place in the file")
        start, stop = span
        kind = np.dtype(DTYPES[dtype])
        fits = start + math.prod(shape) * kind.itemsize == stop <= len(data) - 8 - length
        need(fits, f"{what}: {name!r} does not fit its place in the file")
        values = np.frombuffer(data, kind, math.prod(shape), 8 + length + start).reshape(shape)
        need(kind.kind != "f" or bool(np.isfinite(values).all()), f"{what}: {name!r} is not finite")
        found[name] = values
        spans.append((start, stop))
    spans.sort()
    ends = [0, *(stop for _, stop in spans)]
    need([start for start, _ in spans] == ends[:-1], f"{what} has gaps or overlaps")
    need(ends[-1] == len(data) - 8 - length, f"{what} has bytes that belong to no tensor")
    return found


def canonical_sha256(state: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over, by sorted name: name, dtype, shape and little-endian data, 0-separated."""
    hashed = hashlib.sha256()
    for name in sorted(state):
        values = state[name]
        shape = ",".join(str(extent) for extent in values.shape)
        hashed.update(f"{name}\0{values.dtype.name}\0{shape}\0".encode(errors="surrogatepass"))
        hashed.update(np.ascontiguousarray(values).tobytes())
    return hashed.hexdigest()


def is_sizes(value: Any) -> bool:
    """Whether it is a list of integers from 0 to 2^40."""
    return isinstance(value, list) and all(type(v) is int and 0 <= v <= 2**40 for v in value)


def is_shape(value: Any, largest: int) -> bool:
    """Whether it is one of an array that NumPy holds: the extents but 0 are within `largest`."""
    return is_sizes(value) and len(value) <= 8 and math.prod(v for v in value if v) <= largest


def is_fraction(value: Any) -> bool:
    """Whether it is an exact number as a string: "-3/8"."""
    return isinstance(value, str) and _FRACTION.fullmatch(value) is not None


def is_number(value: Any) -> bool:
    """Whether it is a JSON number that is a double."""
    return type(value) is float or (type(value) is int and abs(value) <= 2**53)


def record(value: Any, what: str, **fields: Callable[[Any], bool]) -> dict[str, Any]:
    """`value` as an object with exactly these fields, each of which passes its test."""
    need(isinstance(value, dict), f"{what} is not an object")
    need(set(value) == set(fields), f"{what} has not the fields {', '.join(sorted(fields))}")
    for name, test in fields.items():
        need(test(value[name]), f"{what}: {name!r} is malformed")
    return value


def of(kind: type) -> Callable[[Any], bool]:
    """The test for a JSON type."""
    return lambda value: isinstance(value, kind)


def listed(test: Callable[[Any], bool]) -> Callable[[Any], bool]:
    """The test for a list of such values."""
    return lambda value: isinstance(value, list) and all(test(v) for v in value)


def _pairs(value: Any) -> bool:
    return listed(lambda v: is_sizes(v) and len(v) == 2)(value)


_CONVOLUTION: dict[str, Callable[[Any], bool]] = {
    "stride": is_sizes,
    "padding": _pairs,
    "dilation": is_sizes,
    "groups": lambda v: type(v) is int and 1 <= v <= 2**20,
    "circular": of(bool),
}
_WINDOWS: dict[str, Callable[[Any], bool]] = {"dims": is_sizes, "windows": listed(_pairs)}
ATTRIBUTES: dict[str, dict[str, Callable[[Any], bool]]] = {
    "conv": _CONVOLUTION,
    "adjoint": {**_CONVOLUTION, "extent": is_sizes},
    "combine": {"coefficients": listed(is_fraction)},
    "concat": {"dim": lambda v: is_sizes([v])},
    "window_sum": {**_WINDOWS, "weights": listed(listed(is_fraction))},
    "window_max": _WINDOWS,
    "activation": {"function": of(str), "parameters": lambda v: isinstance(v, dict)
                   and all(x is None or is_fraction(x) for x in v.values())},
    "sort": {"dim": lambda v: is_sizes([v])},
    "softmax": {"dim": lambda v: is_sizes([v])},
    "log_softmax": {"dim": lambda v: is_sizes([v])},
    "logsumexp": {"dims": is_sizes},
    "norm": {"dims": is_sizes},
    "normalise": {"dims": is_sizes, "epsilon": is_fraction},
    "unknown": {"operator": of(str)},
}  # fmt: skip
"""By kind of node, its attributes and the test that each passes."""
KINDS = {
    "input", "constant", "linear", "scale", "gather", "reshape", "maximum", "minimum", "product",
    "quotient", "matmul", *ATTRIBUTES,
}  # fmt: skip
CONSTANTS = {
    "constant": {"value"}, "linear": {"weight", "bias"}, "conv": {"weight", "bias"},
    "adjoint": {"weight", "bias"}, "scale": {"weight", "bias"}, "gather": {"index"},
    "combine": {"bias"}, "activation": {"slope"},
}  # fmt: skip


def graph(content: Any, stored: Mapping[str, np.ndarray]) -> tuple[dict[str, Node], str]:
    """A graph's nodes by name, in order, and the name of its output."""
    record(
        content, "a graph", module=of(str), output=of(str), nodes=of(list),
        normalisation=lambda v: v is None or isinstance(v, dict),
    )  # fmt: skip
    need(len(content["nodes"]) <= LARGEST_GRAPH, "a graph is too large")
    found: dict[str, Node] = {}
    for entry in content["nodes"]:
        record(
            entry, "a node", name=of(str), kind=of(str), inputs=listed(of(str)), shape=is_sizes,
            attributes=of(dict), constants=of(dict),
        )  # fmt: skip
        name, kind = entry["name"], entry["kind"]
        need(name not in found, f"two nodes are called {name!r}")
        need(kind in KINDS, f"node {name!r} is of the unknown kind {kind!r}")
        need((kind == "input") == (not found), f"the input is not the first node: {name!r}")
        need(all(i in found for i in entry["inputs"]), f"an input of {name!r} does not precede it")
        need(is_shape(entry["shape"], LARGEST_VALUE), f"node {name!r} is too large")
        attributes = record(entry["attributes"], f"node {name!r}", **ATTRIBUTES.get(kind, {}))
        constants = {}
        for use, value in entry["constants"].items():
            need(use in CONSTANTS.get(kind, ()), f"node {name!r} has a constant {use!r}")
            record(value, f"{use} of {name!r}", tensor=of(str), factor=is_fraction)
            need(value["tensor"] in stored, f"there is no tensor {value['tensor']!r}")
            key = value["tensor"]
            constants[use] = Weight(key, stored[key], Fraction(value["factor"]))
        found[name] = Node(
            name, kind, tuple(entry["inputs"]), tuple(entry["shape"]), attributes, constants
        )
    need(content["output"] in found, "the output of a graph is none of its nodes")
    need(sum(math.prod(n.shape) for n in found.values()) <= 2**28, "a graph is too large")
    return found, content["output"]
