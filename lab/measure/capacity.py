"""Capacity C_k: the speedup that k trusted threads reach on this machine at this moment.

No program can scale better than the machine does just now: cores share memory bandwidth, clock frequency falls when
more of them work, and somebody else may be using them. The threads here do nothing but the program's main work, blocked
matrix products over more weights than a cache holds, without a word to each other from start to end.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from lab.measure.machine import seconds_together

BLOCKS, ROWS, CHANNELS, POSITIONS = 1344, 32, 768, 8  # 132 MB of weights, in blocks that stay in a core's cache


class Capacity(NamedTuple):
    """C_k with the times it was computed from, in seconds for the same work."""

    k: int
    capacity: float
    one: float
    together: float


class Kernel:
    """The work: `weights` times `inputs`, block by block."""

    def __init__(self, seed: int = 0) -> None:
        random = np.random.default_rng(seed)
        self.weights = np.empty((BLOCKS, ROWS, CHANNELS), dtype=np.float32)
        self.weights[:] = random.standard_normal((ROWS, CHANNELS), dtype=np.float32)
        self.inputs = random.standard_normal((CHANNELS, POSITIONS), dtype=np.float32)
        self.out = np.empty((BLOCKS, ROWS, POSITIONS), dtype=np.float32)

    def seconds(self, k: int) -> float:
        """How long k threads, each with its share of the blocks, take for all."""
        shares = [slice(BLOCKS * i // k, BLOCKS * (i + 1) // k) for i in range(k)]
        return seconds_together([partial(self.multiply, share) for share in shares])

    def multiply(self, share: slice) -> None:
        """One thread's work."""
        np.matmul(self.weights[share], self.inputs, out=self.out[share])


def capacity(k: int, repeats: int = 5, kernel: Kernel | None = None) -> Capacity:
    """Measure C_k, in about `repeats` * 30 ms: one thread and k threads in turn (A B B A), medians of both.

    Keep a Kernel and hand it in when measuring again and again. Raises ValueError for k < 1.
    """
    if k < 1:
        raise ValueError(f"capacity of {k} threads: at least 1")
    kernel = kernel or Kernel()
    kernel.seconds(1)  # pages and caches as they will be
    one, together = [], []
    for repeat in range(repeats):
        turns = [(one, 1), (together, k)]
        for times, threads in turns if repeat % 2 == 0 else turns[::-1]:
            times.append(kernel.seconds(threads))
    alone, shared = float(np.median(one)), float(np.median(together))
    return Capacity(k, alone / shared, alone, shared)
