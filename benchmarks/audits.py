"""Whole audits of the published networks: what is found, how long it takes, how much memory."""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.norms import published_files
from paper_repro.models import CLAIMS
from verification.claims import limit
from verification.wording import above, at_most


def run() -> list[dict[str, object]]:
    """A row per published file with the default bounds, and for the files of margin 0.15 one with
    every operator factorised."""
    files = published_files()
    rows = [_audit(path, arch, "default") for path, arch in files]
    return rows + [_audit(path, arch, "--tight") for path, arch in files if "0.15" in path.stem]


def _audit(path: Path, arch: str, depth: str) -> dict[str, object]:
    options = ["--arch", arch, *([] if depth == "default" else [depth])]
    claims, seconds, memory = measured([str(path), *options], CLAIMS)
    flows = [claim for claim in claims if claim["module"]]
    network, pixel = (claim for claim in claims if not claim["module"])
    return {
        "weights": path.stem,
        "depth": depth,
        **{claim["module"]: _words(claim) for claim in flows},
        "network": _words(network),
        "per pixel": _words(pixel),
        "whole process [s]": round(seconds, 1),
        "peak memory [MB]": memory,
    }


def measured(
    arguments: Sequence[str], claims: Sequence[str]
) -> tuple[list[dict[str, Any]], float, int]:
    """One `dsnn audit` as a user runs it, in a process of its own, which nothing that was finished
    before helps: its claims as JSON, seconds, and peak memory in MB. A sandbox is part of it."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "audit.json"
        command = [sys.executable, "-m", "dsnn", "audit", *arguments, "--json", str(report)]
        command += [word for claim in claims for word in ("--claim", claim)]
        environment = {**os.environ, "XDG_CACHE_HOME": folder}
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1, 3):
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
        return json.loads(report.read_text())["claims"], seconds, round(usage.ru_maxrss / 1024)


def _words(claim: dict[str, Any]) -> str:
    low, high = claim["bound"]
    high = math.inf if high is None else high
    return f"{claim['verdict']} [{above(low, limit(claim['claim']))}, {at_most(high)}]"
