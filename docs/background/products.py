"""Why is one product with many positions faster than as many products with one?

W (3072,768) is the first matrix of GPT-2's feed-forward layer. It is multiplied by T vectors: one by one, as gpt.c does
it, and all in one product, W @ X with X (768,T). The operations are the same.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import experiment
import numpy as np

from lab.measure import style

OC, C = 3072, 768
POSITIONS = [1, 2, 4, 8, 16, 32, 64, 128]
COPIES = 6  # of W, 57 MB together: by the time one is used again it has left the cache


def one_by_one(weights: Sequence[np.ndarray], X: np.ndarray, out: np.ndarray) -> None:
    """out[t] = W @ X[t] for each position t; X (T,C), out (T,OC)"""
    for W in weights:
        for t in range(len(X)):
            np.dot(W, X[t], out=out[t])


def together(weights: Sequence[np.ndarray], X: np.ndarray, out: np.ndarray) -> None:
    """out = W @ X; X (C,T), out (OC,T)"""
    for W in weights:
        np.matmul(W, X, out=out)


def measure(quick: bool) -> list[tuple[int, float, float]]:
    """For each number of positions the milliseconds for one of them: one by one, and in one product."""
    rows_of_weight, repeats = (64, 1) if quick else (OC, 7)
    random = np.random.default_rng(1)
    weights = random.standard_normal((COPIES, rows_of_weight, C), dtype=np.float32)
    table, points = [], []
    for T in POSITIONS:
        X = random.standard_normal((T, C), dtype=np.float32)
        jobs = [
            [partial(one_by_one, weights, X, np.empty((T, rows_of_weight), dtype=np.float32))],
            [partial(together, weights, np.ascontiguousarray(X.T), np.empty((rows_of_weight, T), dtype=np.float32))],
        ]
        apart, joint = (seconds / COPIES / T for seconds in experiment.best(jobs, repeats))
        points.append((T, apart * 1e3, joint * 1e3))
        times = [f"{seconds * 1e3:.3f} ms" for seconds in (apart, joint)]
        rates = [f"{2 * rows_of_weight * C / seconds / 1e9:.0f}" for seconds in (apart, joint)]
        table.append((T, *times, f"{apart / joint:.1f}", *rates, f"{T / 2:g}"))
    heads = ["T", "one by one", "in one product", "ratio", "GFLOP/s", "GFLOP/s", "operations a byte of W"]
    experiment.table(heads, table)
    print("(times and operations a second for one position)")
    return points


def draw(points: Sequence[tuple[int, float, float]]) -> Any:
    """Milliseconds a position against the number of positions."""
    fig, axes = experiment.figure(6.4, 3.2)
    T, apart, joint = zip(*points, strict=True)
    axes.plot(T, apart, "s-", color=style.VERMILLION, label="T products with one position each")
    axes.plot(T, joint, "o-", color=style.BLUE, label="one product with T positions")
    axes.set_xscale("log", base=2)
    axes.set_xticks(T, T)
    axes.set(ylim=(0, max(*apart, *joint) * 1.25), xlabel="T, positions", ylabel="ms for each position")
    axes.legend(loc="upper right")
    return fig


if __name__ == "__main__":
    experiment.main(__doc__, measure, draw)
