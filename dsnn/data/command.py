"""`dsnn data`: what data is there, where it was looked for, whether it is intact; fetches the rest.

Exit 0 when everything asked for is there with the published hashes, 1 when a file has another
hash (it is never overwritten), 2 when something is missing and cannot be fetched.
"""

import sys
from typing import Annotated, Any

import typer

from dsnn.data.folder import DataFolder, data_folder
from dsnn.data.sources import Source
from dsnn.errors import UserError
from dsnn.files import check_outputs, check_writable, write_json
from dsnn.options import Data, Json


def data(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME", help="cifar10, cifar100 or weights; default: all three."),
    ] = None,
    data: Data = None,
    json: Json = None,
) -> int:
    """Say what data is there and whether its hashes match; fetch what is missing."""
    from dsnn.data import sources

    wanted = list(dict.fromkeys(names or sources.NAMES))
    for name in wanted:
        if name not in sources.NAMES:
            raise UserError(f"unknown data {name!r}: choose from {', '.join(sources.NAMES)}")
    check_outputs({"--json": json})
    folder = data_folder(data)
    entries, failures, wrong = [], [], []
    for name in wanted:
        entry, failure, bad = _settle(sources.source(name), folder)
        entries.append(entry)
        failures += failure
        wrong += bad
    if json is not None:
        write_json(json, {"folder": str(folder.path), "origin": folder.origin, "sources": entries})
    if json != "-":
        _print(folder, entries)
    if failures:
        whose, what, why = (", ".join(dict.fromkeys(part)) for part in zip(*failures, strict=True))
        raise UserError(f"cannot fetch {whose} ({why}): put {what} into {folder.path}")
    for line in wrong:
        print(f"dsnn: {line}", file=sys.stderr)
    return 1 if wrong else 0


def _settle(
    source: Source, folder: DataFolder
) -> tuple[dict[str, Any], list[tuple[str, str, str]], list[str]]:
    """The source's entry after fetching; (name, what to bring, why) of what could not be had; a
    line for each file with a wrong hash."""
    from dsnn.data.fetch import FetchError, WrongContentError, fetch
    from dsnn.data.progress import download_progress
    from dsnn.data.sources import state

    def states() -> dict[str, str]:
        return {f.path: state(folder.path, f, source.algorithm) for f in source.files}

    found, failures, wrong = states(), [], []
    missing = [file for file in source.files if found[file.path] == "missing"]
    if missing:
        check_writable(folder.path / source.folder / "file")
        try:
            with download_progress() as report:
                fetch(source, folder.path, missing, report)
        except FetchError as error:
            failures.append((source.name, _what(source), str(error)))
        except WrongContentError as error:
            wrong.append(f"{source.name} was not stored: {error}")
        found = states()
    wrong += [
        f"{folder.path / path} is not the published file: move it away and run this again"
        for path, verdict in found.items()
        if verdict == "wrong"
    ]
    files = [{"path": path, "state": verdict} for path, verdict in found.items()]
    return {"name": source.name, "algorithm": source.algorithm, "files": files}, failures, wrong


def _what(source: Source) -> str:
    """What a user without a network has to bring, in words."""
    if source.archive is not None:
        return f"{source.folder} (unpacked from {source.base}/{source.archive.remote})"
    return f"{source.folder} ({len(source.files)} files from {source.base})"


def _print(folder: DataFolder, entries: list[dict[str, Any]]) -> None:
    print(f"looked in {folder}")
    for entry in entries:
        states = [file["state"] for file in entry["files"]]
        intact = states.count("ok")
        print(f"  {entry['name']:9} {intact} of {len(states)} files, {entry['algorithm']} checked")
        for file in entry["files"]:
            if file["state"] != "ok":
                print(f"    {file['state']:8} {file['path']}")
