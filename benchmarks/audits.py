"""Whole audits of the published networks: what is found, how long it takes, how much memory."""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.norms import published_files

CLAIMS = ("stages.*.flow:lipschitz<=1", "lipschitz<=1", "lipschitz[pixel]<=1")


def run() -> list[dict[str, object]]:
    """A row per published file and depth: the default bounds, and every operator factorised."""
    depths = ("default", "--tight")
    return [_audit(path, arch, depth) for path, arch in published_files() for depth in depths]


def _audit(path: Path, arch: str, depth: str) -> dict[str, object]:
    """One `dsnn audit` as a user runs it, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "audit.json"
        command = [sys.executable, "-m", "dsnn", "audit", str(path), "--arch", arch]
        command += [word for claim in CLAIMS for word in ("--claim", claim)]
        command += ["--json", str(report), *([] if depth == "default" else [depth])]
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1, 3):
            raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
        claims = json.loads(report.read_text())["claims"]
    flows = [claim for claim in claims if claim["module"]]
    network, pixel = (claim for claim in claims if not claim["module"])
    return {
        "weights": path.stem,
        "depth": depth,
        **{claim["module"]: _words(claim) for claim in flows},
        "network": _words(network),
        "per pixel": _words(pixel),
        "whole process [s]": round(seconds, 1),
        "peak memory [MB]": round(usage.ru_maxrss / 1024),
    }


def _words(claim: dict[str, Any]) -> str:
    low, high = claim["bound"]
    return f"{claim['verdict']} [{low:.4g}, {high:.4g}]"
