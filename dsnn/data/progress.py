"""A progress bar for downloads: on stderr, and only on a terminal."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from dsnn.data.fetch import Report


@contextmanager
def download_progress() -> Iterator[Report]:
    """Yield a Report that draws a bar a file, or does nothing where stderr is no terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    visible = sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=not visible) as progress:
        tasks = {}

        def report(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=total or None)
            progress.update(tasks[name], completed=done)

        yield report
