"""Exercise 4: one numpy operation for each thread, each with a place of its own for its part."""

import numpy as np

from lab.threadlib import join, spawn


def parallel_sum(numbers: np.ndarray, k: int) -> float:
    """The sum of a one-dimensional array, on k threads."""
    parts = np.zeros(k)

    def work(number: int) -> None:
        begin, end = len(numbers) * (number - 1) // k, len(numbers) * number // k
        parts[number - 1] = numbers[begin:end].sum()

    join(*[spawn(work) for _ in range(k)])
    return float(parts.sum())
