"""What does a serial part cost? Amdahl's question, and Gustafson's, with real threads.

The work is matrix products. A part s of them is done by the main thread alone, the rest is shared out over 2 threads:
once the same work for both (Amdahl), once with twice as much to share (Gustafson).
"""

from collections.abc import Sequence
from typing import Any

import experiment
import numpy as np

from lab.measure import style

PARTS = [0.0, 0.1, 0.25, 0.5]
K = 2
TICKS = [1, 2, 4, 8, 16, 32, 64]


def amdahl(s: float, k: float) -> float:
    """The speedup of k workers on the same work."""
    return 1 / (s + (1 - s) / k)


def gustafson(s: float, k: float) -> float:
    """How much more work k workers do in the same time; s is the serial part of the time on k workers."""
    return s + (1 - s) * k


def products(count: int) -> experiment.Job:
    """A job: that many products of matrices that stay in the core's cache."""
    a, b, out = np.ones((3, 128, 128), dtype=np.float32)
    return experiment.repeat(count, np.matmul, a, b, out=out)


def seconds(parts: Sequence[Sequence[experiment.Job]], repeats: int) -> float:
    """One group of jobs after the other."""
    return sum(experiment.best(parts, repeats))


def measured(s: float, units: int, repeats: int) -> tuple[float, float]:
    """The speedup on the same work, and how much more work is done in the same time, both on K threads."""
    serial, shared = round(s * units), units - round(s * units)
    alone = seconds([[products(serial)], [products(shared)]], repeats)
    same = seconds([[products(serial)], [products(shared // K) for _ in range(K)]], repeats)
    more = seconds([[products(serial)], [products(shared) for _ in range(K)]], repeats)
    return alone / same, alone * gustafson(s, K) / more


def measure(quick: bool) -> list[tuple[float, float]]:
    """For each serial part the speedup on the same work."""
    units, repeats = (40, 1) if quick else (3000, 5)
    rows, points = [], []
    for s in PARTS:
        same, more = measured(s, units, repeats)
        points.append((s, same))
        two = (amdahl(s, K), same, gustafson(s, K), more)
        many = (amdahl(s, 64), gustafson(s, 64))
        rows.append((f"{s:.0%}", *(f"{value:.2f}" for value in two), *(f"{value:.1f}" for value in many)))
    heads = ["serial", "Amdahl, 2", "measured", "Gustafson, 2", "measured", "Amdahl, 64", "Gustafson, 64"]
    experiment.table(heads, rows)
    return points


def draw(points: Sequence[tuple[float, float]]) -> Any:
    """Both laws from 1 to 64 workers, and what was measured."""
    fig, panels = experiment.figure(8.4, 3.4, panels=2)
    workers = np.geomspace(1, 64, 200)
    colours = [style.INK, style.BLUE, style.GREEN, style.VERMILLION]
    for (s, speedup), colour in zip(points, colours, strict=True):
        panels[0].plot(workers, [amdahl(s, k) for k in workers], color=colour, label=f"{s:.0%} serial")
        panels[0].plot([K], [speedup], "o", color=colour)
        panels[1].plot(workers, [gustafson(s, k) for k in workers], color=colour)
    for axes, title in zip(panels, ("Amdahl: the same work", "Gustafson: the same time"), strict=True):
        axes.set(title=title, xlabel="workers")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xticks(TICKS, TICKS)
        axes.set_yticks(TICKS, TICKS)
    panels[0].set_ylabel("speedup (dots: measured)")
    panels[1].set_ylabel("work done")
    panels[0].legend(fontsize=9)
    return fig


if __name__ == "__main__":
    experiment.main(__doc__, measure, draw)
