"""From a schedule that fails to the simplest one that fails in the same way."""

import time
from collections.abc import Iterator
from dataclasses import replace

from lab.check.explorer import Explorer, Run
from lab.check.strategies import Bounded, Default, ReplayByPlace, Segments, Strategy, seeded

SHRINK_RUNS = 400
SIMPLER_RUNS = 60
SHRINK_SECONDS = 5.0


def simpler(explorer: Explorer, run: Run, seed: int) -> Run:
    """A run that fails in the same way though threads switch at fewer places, if one is found at once."""
    for level in range(run.setting.level):
        setting = replace(run.setting, level=level)
        for index in range(SIMPLER_RUNS):
            other = explorer.run(Bounded(seeded(seed, 6_000_000 + index), index % 3, run.scheduler.decisions), setting)
            if other.kind == run.kind:
                return other
    return run


def shrink(explorer: Explorer, run: Run, seed: int) -> list[tuple[int, int]]:
    """The fewest preemptions, and then the fewest decisions, that give the same kind of failure."""
    until, runs = min(explorer.deadline, time.monotonic() + SHRINK_SECONDS), 0
    best, cost = run, price(run)

    def attempt(strategy: Strategy) -> bool:
        nonlocal best, cost, runs
        if runs >= SHRINK_RUNS or time.monotonic() > until:
            return False
        runs += 1
        other = explorer.run(strategy, run.setting)
        if other.kind != run.kind or price(other) >= cost:
            return False
        best, cost = other, price(other)
        return True

    attempt(Default())
    if cost[:2] == (0, 0):
        return []
    size = max(1, len(best.scheduler.local) // 2)
    while best.scheduler.local and size:  # leave out half of the decisions, a quarter, ... single ones
        parts = best.scheduler.local
        for start in range(0, len(parts), size if size > 3 else 1):
            if attempt(ReplayByPlace(dict(parts[:start] + parts[start + size :]))):
                break
        else:
            size //= 2
        size = min(size, len(best.scheduler.local))
    while any(attempt(Segments(merged)) for merged in merges(best.scheduler.segments)):
        pass  # let a thread run in one go what it ran in two
    steps = run.scheduler.decisions
    for few in (1, 2, 3):  # a schedule with few deviations, drawn at random, may be simpler still
        for index in range(40):
            if cost[0] <= few or attempt(Bounded(seeded(seed, 7_000_000 + 1000 * few + index), few, steps)):
                break
    return best.scheduler.deviations


def merges(segments: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """All ways to put two turns of a thread together, at the place of the later or of the earlier one."""
    for first, (number, _points) in enumerate(segments):
        second = next((at for at in range(first + 1, len(segments)) if segments[at][0] == number), None)
        if second is not None:
            yield segments[:first] + segments[first + 1 :]
            yield [*segments[:first], segments[second], *segments[first + 1 : second], *segments[second + 1 :]]


def price(run: Run) -> tuple[int, int, int]:
    """What makes a schedule hard to follow: preemptions, other decisions, length."""
    return run.scheduler.preemptions, len(run.scheduler.deviations), run.scheduler.steps
