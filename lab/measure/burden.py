"""What a region costs beside its arithmetic, and which weights it reads; for scale.py, in the process that is measured.

Regions and tasks go by the names that the program gives them at run time.
"""

import statistics
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from lab import threadlib
from lab.engines import start
from lab.measure.recorder import Recorder, name_of
from lab.models import synthetic_parameters
from lab.serial import GPT2

HEAD_SIZE = 2  # channels per head of the small model: next to no arithmetic
TOKENS = 6  # in all, of which the first is the prompt


def overheads(engine: ModuleType, model: GPT2, counts: Sequence[int]) -> dict[str, dict[str, dict[str, float]]]:
    """{k: {region: {"region": seconds of it, "task": seconds of one of its tasks}}}, medians, without arithmetic.

    Measured on a model with as many heads and next to no channels: what is left of a region there is handing out its
    tasks and the Python in them. Both need the interpreter lock, which one thread has at a time, so they do not get
    cheaper with more cores, and a machine with few cores can measure what they would be with many workers.
    """
    config = model.config
    config = replace(config, num_layers=2, channels=config.num_heads * HEAD_SIZE, vocab_size=256, padded_vocab_size=256)
    small = GPT2(config, synthetic_parameters(config, seed=1))
    return {str(k): medians(engine, small, k) for k in sorted(set(counts))}


def medians(engine: ModuleType, small: GPT2, k: int) -> dict[str, dict[str, float]]:
    """overheads() of one k."""
    recorder = Recorder()
    with threadlib.use(recorder):
        list(start(engine, small, [0], min(TOKENS, small.config.max_seq_len), k))
    times: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for event in recorder.events():
        if event.kind in ("region", "task"):
            times[event.name][event.kind].append(event.length)
    return {
        name: {kind: statistics.median(spans) / 1e9 for kind, spans in kinds.items()} for name, kinds in times.items()
    }


class Weights(np.ndarray):
    """A view of the parameters that notes what numpy operations read of it: address and bytes of each view."""

    read: ClassVar[set[tuple[int, int]]] = set()

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        return getattr(ufunc, method)(*map(plain, inputs), **options)

    def __array_function__(self, function: Any, types: Any, arguments: Any, options: Any) -> Any:
        return function(*plain(arguments), **{name: plain(value) for name, value in options.items()})

    def dot(self, *arguments: Any, **options: Any) -> Any:
        """np.dot, which the method would not tell."""
        return np.dot(self, *arguments, **options)


def plain(value: Any) -> Any:
    """The value with ordinary arrays in place of Weights, which are noted."""
    if isinstance(value, Weights):
        Weights.read.add((value.__array_interface__["data"][0], value.nbytes))
        return value.view(np.ndarray)
    return type(value)(map(plain, value)) if type(value) in (list, tuple) else value


class Weigher(threadlib.Runtime):
    """Notes the weights that are read in each region; the same ones twice count once, for then they are in a cache."""

    def __init__(self) -> None:
        super().__init__()
        self.regions: list[tuple[str, int]] = []

    @contextmanager
    def region(self, fn: Any) -> Iterator[None]:
        """One region."""
        Weights.read.clear()
        yield
        self.regions.append((name_of(fn), sum(size for _, size in Weights.read)))


def weights(engine: ModuleType, model: GPT2, prompt: Sequence[int], n: int, k: int) -> list[tuple[str, int]]:
    """(name, bytes of weights read) of each region of a generation on k workers, in order."""
    watched = GPT2(model.config, model.params_memory.view(Weights))
    weigher = Weigher()
    with threadlib.use(weigher):
        list(start(engine, watched, prompt, n, k))
    return weigher.regions
