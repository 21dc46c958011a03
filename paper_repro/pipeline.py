"""A plan handed to Snakemake: locally, or wherever a profile takes it.

What is to be made was decided by content before. Snakemake orders it, runs what can run at once,
and goes on with what does not depend on a failure. Its view of a run is a folder of stamps that
begins empty, and the lock is ours and ends with the processes, so a kill leaves nothing to clear.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from dsnn.errors import UserError
from dsnn.files import check_writable, write_text
from paper_repro.lock import held
from paper_repro.plan import DRAWN, Job

SNAKEFILE = Path(__file__).parent / "Snakefile"
_LOOKED_AT = 0.2
"""Seconds between two looks at what is done."""
_GRACE = 2.0
"""Seconds in which Snakemake and its jobs end by an interrupt of their own."""
_CANCELLING = 120.0
"""The same where a profile may have submitted jobs elsewhere: Snakemake cancels them, and a second
interrupt would end that and leave them at work."""


@dataclass(frozen=True)
class Failure:
    """A job that did not do its work: its exit code, and the last line that it said."""

    id: str
    code: int
    line: str


def command(plan: Path, profile: str | None = None) -> list[str]:
    """Snakemake on the plan of that file; a profile says where and how much at once."""
    where = ["--profile", profile] if profile else ["--cores", str(os.cpu_count() or 1)]
    return [
        *(sys.executable, "-m", "snakemake", "--snakefile", str(SNAKEFILE), *where),
        *("--directory", str(plan.parent), "--configfile", str(plan)),
        *("--nolock", "--rerun-incomplete", "--keep-going", "--nocolor"),
    ]


def write_plan(folder: Path, jobs: Sequence[Job], deadline: float | None) -> Path:
    """The plan as the Snakefile reads it, in `folder`, which is cleared of an earlier run's."""
    for name in ("done", "failed"):
        shutil.rmtree(folder / name, ignore_errors=True)
    place = jobs[0].place
    where = ["--out", str(place.out.resolve()), "--scale", place.scale]
    where += ["--data", str(place.data.resolve())]
    if deadline is not None:
        where += ["--deadline", repr(deadline)]
    entries: dict[str, dict[str, Any]] = {}
    for job in jobs:
        empty = {"rule": job.rule, "ids": [], "after": [], "threads": job.place.artefact.threads}
        entry = entries.setdefault(_name(job), empty)
        entry["ids"].append(job.id)
        entry["after"] += job.after
    names = {job.id: _name(job) for job in jobs}
    for name, entry in entries.items():
        entry["after"] = sorted({names[before] for before in entry["after"]} - {name})
    plan = folder.resolve() / "plan.json"
    write_text(plan, json.dumps({"where": where, "jobs": entries}, indent=1) + "\n")
    return plan


def _name(job: Job) -> str:
    """Of the Snakemake job that makes it: the drawings of a rule are one, each takes seconds."""
    return f"{job.rule}s" if job.rule in DRAWN else job.id


def _environment(folder: Path) -> dict[str, str]:
    """That of Snakemake, which cannot begin without a cache folder: where the user's cannot be
    written, as in many containers, `folder` holds one."""
    try:
        check_writable(user_cache_path("snakemake") / "file")
    except UserError:
        return {**os.environ, "XDG_CACHE_HOME": str(folder.resolve() / "cache")}
    return dict(os.environ)


def run(jobs: Sequence[Job], profile: str | None, deadline: float | None = None) -> list[Failure]:
    """Carry the jobs out; those that failed. Raises UserError where another run is at work in the
    folder, or where Snakemake itself could not begin."""
    folder = jobs[0].place.folder / "pipeline"
    with held(folder / "lock", wait=False) as lock:
        plan = write_plan(folder, jobs, deadline)
        log = folder / "snakemake.txt"
        with log.open("w", encoding="utf-8") as output:
            process = subprocess.Popen(
                command(plan, profile),
                stdout=output,
                stderr=output,
                pass_fds=(lock,),
                env=_environment(folder),
            )
            try:
                _watch(process, jobs, folder)
            except KeyboardInterrupt:
                _interrupt(process, _CANCELLING if profile else _GRACE)
                raise
            finally:
                process.wait()
        failures = [f for job in jobs if (f := _failure(job, folder))]
        if process.returncode and not failures:
            asked = f" with profile {profile}" if profile else ""
            raise UserError(f"snakemake failed{asked}: {_last_line(log)} (all of it in {log})")
    return failures


def _interrupt(process: subprocess.Popen[bytes], grace: float) -> None:
    """Pass an interrupt on after `grace` seconds. That of a terminal has reached Snakemake and its
    jobs by itself; that of `kill` this process alone, and Snakemake would wait for its jobs, for
    hours."""
    import psutil

    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(grace)
    if process.returncode is None:
        snakemake = psutil.Process(process.pid)
        for one in (snakemake, *snakemake.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                one.send_signal(signal.SIGINT)


def _watch(process: subprocess.Popen[bytes], jobs: Sequence[Job], folder: Path) -> None:
    """Wait for the end, with a bar on stderr where that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeElapsedColumn as Elapsed

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Elapsed())
    visible = sys.stderr.isatty()
    stamps = {folder / "done" / job.rule / _name(job) for job in jobs}
    with Progress(*columns, console=Console(stderr=True), disable=not visible) as progress:
        task = progress.add_task("reproduce", total=len(stamps))
        while process.poll() is None:
            if visible:
                at_work = [job.id for job in jobs if (folder / "failed" / job.id).exists()]
                text = ", ".join(at_work[:2]) or "reproduce"
                progress.update(task, completed=sum(s.exists() for s in stamps), description=text)
            time.sleep(_LOOKED_AT)


def _failure(job: Job, folder: Path) -> Failure | None:
    try:
        code, *why = (folder / "failed" / job.id).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return None
    said = "".join(why) or _last_line(folder / "log" / job.rule / f"{_name(job)}.txt")
    return Failure(job.id, int(code), said)


def _last_line(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
