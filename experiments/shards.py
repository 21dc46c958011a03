"""Results in pieces: a shard is identified by what it computes, and is written once.

The key of a shard holds everything its content depends on; the file's name is the key's hash. So a
run that was interrupted, or that several machines share, computes each shard once, and a result
is a pure function of the set of shards. A file that is torn, altered or of another key counts as
absent and is computed again.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsnn.files import write_text

Key = Mapping[str, Any]
Content = Mapping[str, Any]


@dataclass(frozen=True)
class Shard:
    """What was computed, and for which key."""

    key: Key
    content: Content


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces; floats as the shortest text that reads back exactly."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def identity(key: Key) -> str:
    """The name of a key: the SHA-256 of its canonical JSON."""
    return hashlib.sha256(canonical(key).encode()).hexdigest()


def seed_of(key: Key) -> int:
    """A random seed that belongs to the key, below 2^63, whatever the version of its `library`."""
    named = {name: value for name, value in key.items() if name != "library"}
    return int(identity(named)[:16], 16) >> 1


@dataclass(frozen=True)
class Store:
    """Shards as files below `root`."""

    root: Path

    def path(self, key: Key) -> Path:
        return self.root / f"{identity(key)}.json"

    def read(self, key: Key) -> Shard | None:
        """The shard of `key`, or None where there is no intact one."""
        try:
            found = json.loads(self.path(key).read_text(encoding="utf-8"))
            intact = (
                canonical(found["key"]) == canonical(key)
                and hashlib.sha256(canonical(found["content"]).encode()).hexdigest()
                == found["sha256"]
            )
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return Shard(key, found["content"]) if intact else None

    def write(self, shard: Shard) -> Shard:
        """Store a shard, whole or not at all. Raises UserError where `root` cannot be written."""
        digest = hashlib.sha256(canonical(shard.content).encode()).hexdigest()
        entry = {"key": shard.key, "content": shard.content, "sha256": digest}
        write_text(self.path(shard.key), canonical(entry) + "\n")
        return shard
