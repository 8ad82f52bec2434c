"""What a benchmark returns, and how repetitions become one line."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Measure:
    """One measured quantity: ours and the peer's median, and how far apart repetitions were.

    `floor` is what nobody can beat here (None where there is no such thing); `spread` is the larger
    of both sides' (max - min) / median.
    """

    measure: str
    ours: float
    peer: float
    unit: str
    floor: float | None
    spread: float

    @property
    def ratio(self) -> float:
        """Peer ÷ ours: above 1 ours is smaller (faster, leaner)."""
        return self.peer / self.ours if self.ours else float("inf")

    def as_json(self) -> str:
        return json.dumps({**asdict(self), "ratio": round(self.ratio, 3)})


def compare(
    measure: str,
    unit: str,
    ours: Callable[[], float],
    peer: Callable[[], float],
    *,
    repetitions: int = 3,
    floor: Callable[[], float] | None = None,
) -> Measure:
    """Measure both sides in turn, `repetitions` times, so that both see the same noise."""
    a, b, c = [], [], []
    for _ in range(repetitions):
        a.append(ours())
        b.append(peer())
        if floor:
            c.append(floor())
    return summarise(measure, unit, a, b, c)


def summarise(
    measure: str, unit: str, ours: list[float], peer: list[float], floor: list[float]
) -> Measure:
    def spread(values: list[float]) -> float:
        return (max(values) - min(values)) / (statistics.median(values) or 1)

    return Measure(
        measure,
        statistics.median(ours),
        statistics.median(peer),
        unit,
        statistics.median(floor) if floor else None,
        round(max(spread(ours), spread(peer)), 3),
    )
