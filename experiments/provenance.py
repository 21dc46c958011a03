"""Where a result came from: code, environment, machine."""

import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, machine and device, as JSON values."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "system": platform.system(),
        "device": str(device),
        "device_name": name,
        "threads": torch.get_num_threads(),
        "processors": os.cpu_count(),
    }


def commit() -> dict[str, Any] | None:
    """The git commit of the code and whether files differ from it; None outside a checkout."""
    folder = Path(__file__).parent
    found, changed = (
        _git(folder, "rev-parse", "HEAD"),
        _git(folder, "status", "--porcelain", "-uno"),
    )
    return None if found is None else {"commit": found, "changed": bool(changed)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
