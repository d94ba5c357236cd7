"""Capacity C_k: the speedup that k trusted threads reach on this machine at this moment.

No program can scale better than the machine does just now: cores share memory bandwidth, clock frequency falls when
more of them work, and somebody else may be using them. The threads here do nothing but the products of a forward pass,
over more weights than a cache holds and without a word to each other: the layers' weights times all positions, and the
last position alone for the logits, where memory sets the pace. Each has its share of the rows of every matrix.

The time of one thread also says what the products alone cost a program that does nothing else: `Kernel.whole` times it
for a whole pass.
"""

from functools import partial

import numpy as np

from lab.checkpoint import Config
from lab.measure.machine import seconds_together
from lab.models import GPT2_124M

POSITIONS = 32
MOST_BYTES = 130 << 20  # of weights: more than a cache holds, and soon multiplied


class Kernel:
    """The work: the matrix products of some of a model's layers at `positions` positions, and as much of the logits.

    config: the model's (default: GPT-2 124M). whole: how many times this work a forward pass has.
    """

    def __init__(self, positions: int = POSITIONS, config: Config | None = None) -> None:
        from lab import kernels  # measures when it is imported

        self.kernels = kernels
        config = config or GPT2_124M
        random = np.random.default_rng(0)
        C, L = config.channels, config.num_layers
        layers = layers_of(config)
        self.whole = L / layers
        self.products = []  # (weights, inputs, result)
        inputs = {width: numbers(random, (width, positions)) for width in (C, 4 * C)}
        for _ in range(layers):
            for rows, width in ((3 * C, C), (C, C), (4 * C, C), (C, 4 * C)):  # qkvw, attprojw, fcw, fcprojw
                result = np.empty((rows, positions), dtype=np.float32)
                self.products.append((numbers(random, (rows, width)), inputs[width], result))
        self.vocabulary = numbers(random, (round(config.padded_vocab_size / self.whole), C))
        self.last = inputs[C][:, -1].copy()
        self.logits = np.empty(len(self.vocabulary), dtype=np.float32)

    def seconds(self, k: int) -> float:
        """How long k threads, each with its share of the rows, take for all."""
        return seconds_together([partial(self.multiply, number, k) for number in range(k)])

    def one_and(self, k: int, one_first: bool) -> tuple[float, float]:
        """The seconds of one thread and of k, measured one after the other."""
        first, second = map(self.seconds, (1, k) if one_first else (k, 1))
        return (first, second) if one_first else (second, first)

    def multiply(self, number: int, k: int) -> None:
        """The work of thread `number` of k."""
        for weights, inputs, result in self.products:
            rows = share(len(weights), number, k)
            self.kernels.matmul(weights[rows], inputs, result[rows])
        rows = share(len(self.vocabulary), number, k)
        self.kernels.matvec(self.vocabulary[rows], self.last, self.logits[rows])


def layers_of(config: Config) -> int:
    """How many layers' products the work has: as many as, with their part of the logits, have MOST_BYTES of weights."""
    C, L = config.channels, config.num_layers
    return max(1, min(L, MOST_BYTES * L // (4 * (12 * L * C * C + config.padded_vocab_size * C))))


def share(count: int, number: int, k: int) -> slice:
    """Part `number` of k of range(count)."""
    return slice(count * number // k, count * (number + 1) // k)


def numbers(random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Any numbers of about the size that occurs: a few random rows again and again, for random numbers take long."""
    some = random.standard_normal((min(32, shape[0]), shape[1]), dtype=np.float32)
    return np.resize(some, shape)


def capacity(k: int, kernel: Kernel, repeats: int = 5) -> float:
    """Measure C_k: one thread and k threads in turn (A B B A), medians of both. Raises ValueError for k < 1."""
    if k < 1:
        raise ValueError(f"capacity of {k} threads: at least 1")
    kernel.seconds(1)  # pages and caches as they will be
    pairs = [kernel.one_and(k, one_first=repeat % 2 == 0) for repeat in range(repeats)]
    alone, together = np.median(pairs, axis=0)
    return float(alone / together)
