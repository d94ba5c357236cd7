"""Capacity C_k: the speedup that k trusted threads reach on this machine at this moment.

No program can scale better than the machine does just now: cores share memory bandwidth, clock frequency falls when
more of them work, and somebody else may be using them. The threads here do nothing but the products of a forward pass,
over more weights than a cache holds and without a word to each other: blocks of weights times several positions in the
layers, and the last position alone for the logits, where memory sets the pace.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from lab.measure.machine import seconds_together

BLOCKS, ROWS, CHANNELS, POSITIONS = 1344, 32, 768, 32  # 132 MB of weights, in blocks that stay in a core's cache
LAYERS = 0.69  # the part of GPT-2 124M's weights that is in the layers; the rest makes the logits


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
        self.last = self.inputs[:, -1].copy()
        self.out = np.empty((BLOCKS, ROWS, POSITIONS), dtype=np.float32)
        self.logits = np.empty((BLOCKS, ROWS), dtype=np.float32)

    def seconds(self, k: int) -> float:
        """How long k threads, each with its share of the blocks, take for all."""
        return seconds_together([partial(self.multiply, number, k) for number in range(k)])

    def one_and(self, k: int, one_first: bool) -> tuple[float, float]:
        """The seconds of one thread and of k, measured one after the other."""
        first, second = map(self.seconds, (1, k) if one_first else (k, 1))
        return (first, second) if one_first else (second, first)

    def multiply(self, number: int, k: int) -> None:
        """The work of thread `number` of k: its share of the layers' blocks, then of the logits'."""
        edge = int(LAYERS * BLOCKS)
        layers = slice(edge * number // k, edge * (number + 1) // k)
        np.matmul(self.weights[layers], self.inputs, out=self.out[layers])
        rest = BLOCKS - edge
        logits = slice(edge + rest * number // k, edge + rest * (number + 1) // k)
        np.einsum("oc,c->o", self.weights[logits].reshape(-1, CHANNELS), self.last, out=self.logits[logits].reshape(-1))


def capacity(k: int, repeats: int = 5, kernel: Kernel | None = None) -> Capacity:
    """Measure C_k, in about `repeats` * 30 ms: one thread and k threads in turn (A B B A), medians of both.

    Keep a Kernel and hand it in when measuring again and again. Raises ValueError for k < 1.
    """
    if k < 1:
        raise ValueError(f"capacity of {k} threads: at least 1")
    kernel = kernel or Kernel()
    kernel.seconds(1)  # pages and caches as they will be
    pairs = [kernel.one_and(k, one_first=repeat % 2 == 0) for repeat in range(repeats)]
    alone, shared = map(float, np.median(pairs, axis=0))
    return Capacity(k, alone / shared, alone, shared)
