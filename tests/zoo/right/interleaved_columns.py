"""Workers write blocks of columns: in memory their parts interleave row by row, but no element has two writers."""

import numpy as np

from lab.threadlib import join, spawn

ROWS, COLUMNS, K = 4, 9, 3


def main():
    out = np.zeros((ROWS, COLUMNS), dtype=np.float32)
    weight = np.arange(COLUMNS * 2, dtype=np.float32).reshape(COLUMNS, 2)
    inp = np.ones((ROWS, 2), dtype=np.float32)

    def worker(number):
        part = slice((number - 1) * 3, number * 3)
        for row in range(ROWS):
            np.dot(weight[part], inp[row], out=out[row, part])
        out[:, part] += 1

    for _ in range(K):
        spawn(worker)
    join()
    return float(out.sum())


def check(result):
    assert result == 4 * (sum(range(18)) + 9)
