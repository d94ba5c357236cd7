"""What synchronisation costs: of a region with nothing to do, and of the Python around a task's numpy calls.

Both are bound to the interpreter lock, so they do not get cheaper with more cores, and a machine with few cores can
measure what they would be with many workers.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType
from typing import Any

from lab import parallel, threadlib
from lab.engines import start
from lab.models import synthetic_parameters
from lab.serial import GPT2

HEAD_SIZE = 2  # channels per head of the small model: next to no arithmetic


def empty_region(workers_class: Any, k: int, repeats: int = 60) -> float:
    """Seconds of a region of k tasks that do nothing, on k workers: the median of `repeats`."""

    def nothing(task: int) -> None:
        pass

    times = []
    with threadlib.use(threadlib.Runtime()), workers_class(k) as team:
        for _ in range(repeats):
            begin = time.perf_counter()
            team.run(nothing, range(k))
            times.append(time.perf_counter() - begin)
    return statistics.median(times)


def bodies(engine: ModuleType, model: GPT2, prompt: Sequence[int], n: int, k: int, recorder: Any) -> dict[str, float]:
    """Seconds of Python in a task of each operation: the median on a model with as many heads and few channels."""
    heads = model.config.num_heads
    config = replace(model.config, num_layers=2, channels=heads * HEAD_SIZE, vocab_size=256, padded_vocab_size=256)
    small = GPT2(config, synthetic_parameters(config, seed=1))
    with threadlib.use(recorder):
        for _ in start(engine, small, [token % 256 for token in prompt], n, k):
            pass
    times: dict[str, list[int]] = defaultdict(list)
    for event in recorder.events():
        if event.kind == "task":
            times[event.name].append(event.end - event.begin)
    return {name: statistics.median(values) / 1e9 for name, values in times.items()}


def measure(
    engine: ModuleType, model: GPT2, prompt: Sequence[int], n: int, counts: Sequence[int], recorder: Any
) -> dict:
    """{"regions": {k: seconds}, "bodies": {operation: seconds}}"""
    workers_class = getattr(engine, "Workers", parallel.Workers)
    return {
        "regions": {str(k): empty_region(workers_class, k) for k in sorted(set(counts))},
        "bodies": bodies(engine, model, prompt, n, max(counts), recorder),
    }
