"""Where a result came from: code, environment, machine."""

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parent.parent
SOURCES = ("dsnn", "theory", "verification", "experiments", "paper_repro", "benchmarks")


def environment(device: torch.device | None = None) -> dict[str, Any]:
    """Versions and machine, and the device where one is given, as JSON values."""
    found = {
        "python": platform.python_version(),
        **{name: version(name) for name in ("dsnn", "torch", "numpy", "scipy")},
        "system": platform.system(),
        "machine": platform.machine(),
        "processor": processor(),
        "processors": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if device is None:
        return found
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return {**found, "device": str(device), "device_name": name}


def commit() -> dict[str, Any] | None:
    """The git commit of the code, and whether a Python file of `SOURCES` was changed or added
    since, or may have been; None outside a checkout, be it in an environment that lies within a
    checkout of something else."""
    if _git("ls-files", "--error-unmatch", "--", "experiments/provenance.py") is None:
        return None
    found = _git("rev-parse", "HEAD")
    changed = _git("status", "--porcelain", "-uall", "--", *(f"{top}/*.py" for top in SOURCES))
    return None if found is None else {"commit": found, "changed": changed != ""}


def short_commit() -> str:
    """Twelve digits of the commit, with "+" where it is `changed`; "" outside a checkout."""
    found = commit()
    return "" if found is None else found["commit"][:12] + "+" * found["changed"]


def processor() -> str:
    """The name of the processor, as far as the system tells it."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
