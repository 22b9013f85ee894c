"""A list as CSV (RFC 4180)."""

import csv
import io
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from fastapi.responses import Response

from server.api.lists import time

# What a spreadsheet would take for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def answer(name: str, rows: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> Response:
    """The rows as a file to save; without `columns` those of the first row."""
    text = io.StringIO()
    writer = csv.writer(text)
    wanted = list(columns) or list(rows[0] if rows else ())
    writer.writerow(wanted)
    for row in rows:
        writer.writerow([_cell(row.get(column)) for column in wanted])
    return Response(
        text.getvalue(),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _cell(value: object) -> str:
    if value is None:
        return ""
    text = (time(value) or "") if isinstance(value, datetime) else str(value)
    # An endpoint name is chosen by a device; no spreadsheet may run it.
    return f"'{text}" if text.startswith(FORMULA) else text
