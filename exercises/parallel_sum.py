"""Exercise 4: a parallel sum that scales, about 6 lines. Check it: make exercise E=4

The sum of an array, computed by k threads. As it stands it is right and no faster than one thread: every number costs a
lock and a few steps of the interpreter, which only one thread can take at a time.
"""

import numpy as np

from lab.threadlib import Mutex, join, spawn


def parallel_sum(numbers: np.ndarray, k: int) -> float:
    """The sum of a one-dimensional array, on k threads."""
    total = 0.0
    mutex = Mutex("total")

    def work(number: int) -> None:
        nonlocal total
        begin, end = len(numbers) * (number - 1) // k, len(numbers) * number // k
        for i in range(begin, end):
            with mutex:
                total += float(numbers[i])

    join(*[spawn(work) for _ in range(k)])
    return total
