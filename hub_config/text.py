"""How the command line writes times, sizes and tables."""

from __future__ import annotations

import time
from datetime import datetime


def ago(moment: float | str | None) -> str:
    """`moment` (seconds since the epoch or ISO 8601) as a time ago: `3 min ago`."""
    if moment is None:
        return "–"
    at = datetime.fromisoformat(moment).timestamp() if isinstance(moment, str) else moment
    seconds = max(0, time.time() - at)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit} ago"
    return f"{int(seconds)} s ago"


def duration(seconds: float | None) -> str:
    """`1 h 02 min`, `2 min 05 s`, `4.2 s`; a dash for None."""
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60):02d} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60):02d} min"


def mebibytes(size: int) -> str:
    return f"{size / 2**20:.0f} MiB"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Columns as wide as their widest cell, two spaces between."""
    lines = [head, *rows] if head else rows
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))] if lines else []
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
