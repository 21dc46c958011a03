"""Tables as CSV that reads back unchanged."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any


def csv_table(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """One header line, then the rows; floats with all their digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[_cell(value) for value in row] for row in rows])
    return text.getvalue()


def _cell(value: Any) -> Any:
    return repr(float(value)) if isinstance(value, float) else value
