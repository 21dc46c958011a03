"""Files that are written whole or not at all."""

import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from dsnn.errors import UserError


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary path that replaces `path` when the block ends without error.

    Parent folders are created. A link is followed, and what is no file, as /dev/null, is written
    to and not replaced. Raises UserError where the folder cannot be written or is full.
    """
    target = path.resolve() if path.is_symlink() else path
    special = is_special(target)
    try:
        if not special:
            target.parent.mkdir(parents=True, exist_ok=True)
        folder = None if special else target.parent
        handle, name = tempfile.mkstemp(dir=folder, prefix=f".{target.name}.")
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; choose a folder you can write to"
        ) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if special:
            target.write_bytes(temporary.read_bytes())
        else:
            temporary.chmod(0o644)
            temporary.replace(target)
    except IsADirectoryError as error:
        raise UserError(f"cannot write {path}: it is a folder; name a file in it") from error
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"cannot write {path}: {reason}; make room, or choose another") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` to `path` as UTF-8, whole or not at all. Raises UserError as `atomic`."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(target: str | Path, content: Any) -> None:
    """Write `content` as indented JSON (no NaN, no infinity) to file `target`, as UTF-8; `-` is
    stdout, whose encoding may be any: it gets ASCII, as does a file where UTF-8 has no such text
    (a path that is no text holds surrogates)."""
    plain = str(target) == "-"
    text = json.dumps(content, indent=2, allow_nan=False, ensure_ascii=plain) + "\n"
    if plain:
        sys.stdout.write(text)
        return
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    write_text(Path(target), text)


def check_outputs(outputs: Mapping[str, str | Path | None], *inputs: str | Path | None) -> None:
    """Raise UserError now, before any long work, where one of the `outputs`, by option, could not
    be written later, or would write over one of the `inputs` or over another of them.

    None is not asked for, and the text `-` is stdout, as for `write_json`.
    """
    taken = {place for path in inputs if path is not None and (place := place_of(Path(path)))}
    for option, asked in outputs.items():
        if asked in (None, "-"):
            continue
        path = Path(str(asked))
        check_writable(path)
        place = place_of(path)
        if place in taken:
            raise UserError(
                f"{option} {path} would write over another file: name a file of its own"
            )
        if place and not is_special(place):
            taken.add(place)


def place_of(path: Path) -> Path | None:
    """Where a path leads; None for one that leads nowhere, or is no path."""
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # a loop of links, a NUL
        return None


def is_special(path: Path) -> bool:
    """Whether something is there that is neither file nor folder, as /dev/null."""
    return path.exists() and not path.is_file() and not path.is_dir()


def check_writable(path: Path) -> None:
    """Raise UserError now, before any long work, where `atomic` could not write `path` later: a
    file is made in the folder that it leads to, or in the nearest that there is, and removed."""
    try:
        if path.is_dir():
            raise UserError(f"cannot write {path}: it is a folder; name a file in it")
        special, folder = is_special(path), (place_of(path) or path).parent
        while not folder.exists():
            folder = folder.parent
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}; choose another name") from error
    if place_of(path) is None:
        raise UserError(f"cannot write {path}: it leads nowhere; choose another name")
    try:
        if not special:
            tempfile.TemporaryFile(dir=folder).close()
        elif not os.access(path, os.W_OK):
            raise PermissionError
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {folder} is not a folder you can write to"
        ) from error
