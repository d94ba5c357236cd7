"""Who does which task? Decided beforehand (static) or when a worker is free (dynamic).

16 tasks, the last of which takes 16 times as long as the first: row t of attention looks at t positions. Then equal
work, cut into more and more tasks: what handing them out costs.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import experiment
import numpy as np

from lab.measure import style
from lab.threadlib import Mutex

K, TASKS = 2, 16
COUNTS = [2, 8, 64, 512, 4096]
Span = tuple[int, float, float]  # task, begin, end


def work(size: int) -> None:
    """A task of that many products."""
    a, b, out = np.ones((3, 96, 96), dtype=np.float32)
    for _ in range(size):
        np.matmul(a, b, out=out)


def blocks(tasks: Sequence[int]) -> list[Iterable[int]]:
    """Static: worker i has the i-th block of tasks."""
    size = -(-len(tasks) // K)
    return [range(len(tasks))[i * size : (i + 1) * size] for i in range(K)]


def in_turn(tasks: Sequence[int]) -> list[Iterable[int]]:
    """Static: worker i has tasks i, i+K, i+2K ..."""
    return [range(i, len(tasks), K) for i in range(K)]


def queue(tasks: Sequence[int], order: Sequence[int] | None = None) -> list[Iterable[int]]:
    """Dynamic: whoever is free takes the next task of one queue."""
    left, mutex = iter(order or range(len(tasks))), Mutex("queue")

    def take() -> int | None:
        with mutex:
            return next(left, None)

    return [iter(take, None) for _ in range(K)]


def longest_first(tasks: Sequence[int]) -> list[Iterable[int]]:
    """Dynamic, the longest task first."""
    return queue(tasks, sorted(range(len(tasks)), key=lambda task: -tasks[task]))


def run(schedule: Callable[..., list], tasks: Sequence[int]) -> tuple[float, list[list[Span]]]:
    """Seconds from the first begin to the last end, and each worker's tasks."""
    done: list[list[Span]] = [[] for _ in range(K)]

    def work_through(mine: Iterable[int], spans: list[Span]) -> None:
        for task in mine:
            begin = time.perf_counter()
            work(tasks[task])
            spans.append((task, begin, time.perf_counter()))

    workers = [partial(work_through, mine, spans) for mine, spans in zip(schedule(tasks), done, strict=True)]
    experiment.machine.seconds_together(workers)
    spans = [span for worker in done for span in worker]
    return max(span[2] for span in spans) - min(span[1] for span in spans), done


def best(schedule: Callable[..., list], tasks: Sequence[int], repeats: int) -> tuple[float, list[list[Span]]]:
    """The quickest of several runs."""
    return min((run(schedule, tasks) for _ in range(repeats)), key=lambda result: result[0])


def measure(quick: bool) -> dict[str, tuple[float, list[list[Span]]]]:
    """For each schedule the seconds of its quickest run, and who did which task when."""
    unit, repeats = (1, 1) if quick else (60, 7)
    unequal = [unit * (t + 1) for t in range(TASKS)]
    schedules = {
        "static, in blocks": blocks,
        "static, in turn": in_turn,
        "dynamic": queue,
        "dynamic, longest first": longest_first,
    }
    found = {name: best(schedule, unequal, repeats) for name, schedule in schedules.items()}
    ideal = min(sum(end - begin for spans in done for _, begin, end in spans) for _, done in found.values()) / K
    rows = [(name, f"{took * 1e3:.1f} ms", f"{ideal / took:.0%}") for name, (took, _) in found.items()]
    experiment.table(["16 unequal tasks", "time", "of the ideal"], rows)
    print()
    total = 4096 * (1 if quick else 3)
    cut = [(count, best(queue, [total // count] * count, repeats)[0]) for count in COUNTS]
    experiment.table(["equal tasks", "time"], [(count, f"{took * 1e3:.1f} ms") for count, took in cut])
    return found


def draw(found: dict[str, tuple[float, list[list[Span]]]]) -> Any:
    """Each schedule's workers as rows, their tasks as boxes with the task's number."""
    fig, axes = experiment.figure(7.6, 3.4)
    ticks, labels = [], []
    for row, (name, (_, done)) in enumerate(found.items()):
        start = min(spans[0][1] for spans in done if spans)
        for i, spans in enumerate(done):
            y = -(row * (K + 0.6) + i)
            for task, begin, end in spans:
                colour = style.BLUE if i == 0 else style.ORANGE
                axes.barh(
                    y, (end - begin) * 1e3, left=(begin - start) * 1e3, height=0.85, color=colour, edgecolor="white"
                )
                if task >= 2:
                    middle = ((begin + end) / 2 - start) * 1e3
                    axes.text(middle, y, task + 1, ha="center", va="center", fontsize=7, color=style.ink(colour))
        ticks.append(-(row * (K + 0.6) + (K - 1) / 2))
        labels.append(name)
    axes.set_yticks(ticks, labels)
    axes.set_xlabel("milliseconds (blue: worker 1, orange: worker 2; the number is the task's length)")
    return fig


if __name__ == "__main__":
    experiment.main(__doc__, measure, draw)
