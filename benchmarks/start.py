"""Start and memory: a whole platform beside its parts as stock commands."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.measure import Measure, summarise
from benchmarks.peers import MARK, folder, memory, platform, stock_services
from hub_config.node.processes import PLATFORM_MARK

REPETITIONS = 3


def run() -> Iterator[Measure]:
    seconds: tuple[list[float], list[float]] = ([], [])
    size: tuple[list[float], list[float]] = ([], [])
    with folder() as ours, folder() as theirs:
        # The first start of each makes its databases; what is measured is every later one.
        with platform(ours) as made:
            made.start()
        with stock_services(theirs):
            pass
        for _ in range(REPETITIONS):
            with platform(ours) as made:
                begun = time.monotonic()
                made.start()
                seconds[0].append(time.monotonic() - begun)
                size[0].append(memory(PLATFORM_MARK, str(made.data_dir)))
            with stock_services(theirs) as took:
                seconds[1].append(took)
                size[1].append(memory(MARK, str(theirs)))
    yield summarise("later start until ready", "s", *seconds, [])
    yield summarise("memory before the first run (PSS)", "MiB", *size, [])
