"""Do two threads that call numpy run side by side? It depends on how long each call takes.

Two threads each multiply two arrays, again and again. A speedup of 2 means that neither waits for the other.
"""

from collections.abc import Sequence
from typing import Any

import experiment
import numpy as np

from lab.measure import style

LENGTHS = [8, 64, 256, 512, 1024, 4096, 16384, 65536]


def adding(count: int) -> None:
    """The same in Python itself, number by number."""
    total = 0.0
    for _ in range(count):
        total += 1.0


def numbers_for(length: int, numbers: int) -> list[experiment.Job]:
    """Two jobs, each with arrays of its own: out = x * y, until that many numbers are done."""
    arrays = [np.ones((3, length), dtype=np.float32) for _ in range(2)]
    return [experiment.repeat(max(1, numbers // length), np.multiply, x, y, out=out) for x, y, out in arrays]


def measure(quick: bool) -> list[tuple[int, float]]:
    """For each length of an array the speedup of two threads."""
    calls, numbers, repeats = (200, 10_000, 1) if quick else (20_000, 50_000_000, 5)
    rows, points = [], []
    for length in [0, *LENGTHS]:
        times = 1 if not length else min(calls * 5, max(calls // 10, numbers // length))
        jobs = numbers_for(length, times * length) if length else [experiment.repeat(1, adding, numbers // 20)] * 2
        one, two = experiment.best([jobs[:1], jobs], repeats)
        speedup = 2 * one / two
        rows.append((length or "Python", f"{one / times * 1e6:.2f} µs" if length else "-", f"{speedup:.2f}"))
        if length:
            points.append((length, speedup))
    experiment.table(["numbers a call", "one call takes", "speedup of 2 threads"], rows)
    return points


def draw(points: Sequence[tuple[int, float]]) -> Any:
    """The speedup against the length of an array."""
    fig, axes = experiment.figure(6.4, 3.2)
    axes.plot(*zip(*points, strict=True), "o-", color=style.BLUE)
    axes.axhline(1, color=style.GREY, lw=1)
    axes.axhline(2, color=style.GREY, lw=1, ls="--")
    axes.axvline(500, color=style.VERMILLION, lw=1, ls=":")
    axes.text(530, 0.12, "above 500 numbers numpy\nreleases the lock", color=style.VERMILLION, fontsize=9)
    axes.set_xscale("log", base=2)
    axes.set_xticks([length for length, _ in points], [f"{length:,}" for length, _ in points])
    axes.set(ylim=(0, 2.2), xlabel="numbers in one numpy call", ylabel="speedup of 2 threads")
    return fig


if __name__ == "__main__":
    experiment.main(__doc__, measure, draw)
