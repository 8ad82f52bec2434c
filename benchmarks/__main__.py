"""`python -m benchmarks [NAME] [--json]`: run one benchmark, or all."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from benchmarks.measure import Measure

NOT_BENCHMARKS = {"__init__", "__main__", "measure", "peers"}


def main() -> None:
    here = Path(__file__).parent
    names = sorted(p.stem for p in here.glob("*.py") if p.stem not in NOT_BENCHMARKS)
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("name", nargs="?", choices=names)
    parser.add_argument("--json", action="store_true", help="one object per line and measure")
    arguments = parser.parse_args()
    head = (
        f"{'measure':<44}{'ours':>10}{'peer':>10}{'unit':>8}{'ratio':>7}{'floor':>8}{'spread':>8}"
    )
    if not arguments.json:
        print(head, flush=True)
    for name in [arguments.name] if arguments.name else names:
        for measure in importlib.import_module(f"benchmarks.{name}").run():
            print(measure.as_json() if arguments.json else line(measure), flush=True)


def line(m: Measure) -> str:
    floor = "–" if m.floor is None else f"{m.floor:.3g}"
    return (
        f"{m.measure:<44}{m.ours:>10.3g}{m.peer:>10.3g}{m.unit:>8}{m.ratio:>7.2f}"
        f"{floor:>8}{m.spread:>8.2f}"
    )


if __name__ == "__main__":
    main()
