"""From rounds of timings to T_s, T_1, T_k, E_k and C_k, with intervals.

A disturbance, be it another program or the hypervisor, makes a token slower and never faster, and it hits some tokens
and not others. So a program's time for a token is taken to be the lower quartile of all its runs' times for that token,
and the time for all tokens is the sum of those; CPU times are taken in the same way, over the same tokens. Intervals
are bootstrap intervals (Efron 1979): the sets of a round are drawn again, each with its capacity, and everything is
computed from what was drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from grader.points import gain
from lab.measure.stats import Estimate

QUARTILE = 0.25
RESAMPLES = 1000


@dataclass
class Scaling:
    """What was found for one number of workers. Times in seconds for a token (T_s: the first one's)."""

    k: int
    serial: float
    one: float
    many: float
    kernel: float  # the products of the first token alone, on one thread
    first: Estimate  # T_k of the first token
    algorithm: Estimate  # T_s / T_1
    threads: Estimate  # T_1 / T_k, E_k
    speedup: Estimate  # T_s / T_k, S_k
    capacity: Estimate  # C_k
    gain: Estimate  # (E_k - 1) / (C_k - 1)
    speed: Estimate  # of what k cores could do on the same products: the kernel's time / C_k / T_k
    steal: float  # share of its cores' time that the hypervisor took from the program with k workers
    spread: float  # how much the capacity's times vary: (upper quartile - lower quartile) / median
    sets: int


def estimate_scaling(rounds: list, k: int, whole: float = 1.0) -> Scaling:
    """All that the given rounds (grader.timing.Round, at least one) say of k workers.

    whole: how many times the capacity's work a forward pass has.
    """
    samples = [sample for round_ in rounds for sample in round_.many[k]]
    one = table([sample.tokens for round_ in rounds for sample in round_.one])  # (sets, tokens)
    many = table([sample.tokens for sample in samples])
    serial = np.array([round_.trusted.tokens[0] for round_ in rounds for _ in round_.many[k]])
    turns = table([turns for round_ in rounds for turns in round_.capacity[k]])  # (sets, tokens, 2)
    count = min(one.shape[1], many.shape[1], turns.shape[1])
    one, many, turns = one[:, :count], many[:, :count], turns[:, :count]

    def computed(picks: np.ndarray) -> dict[str, np.ndarray]:
        """Everything, from each row of sets that were picked."""
        seconds = {"one": quartile(one[picks]), "many": quartile(many[picks])}  # (draws, tokens)
        found = {name: tokens.mean(axis=-1) for name, tokens in seconds.items()}
        found["serial"], found["first"] = quartile(serial[picks]), seconds["many"][:, 0]
        found["algorithm"] = found["serial"] / seconds["one"][:, 0]
        found["threads"] = found["one"] / found["many"]
        found["speedup"] = found["serial"] / found["first"]
        alone, together = np.moveaxis(quartile(turns[picks].reshape(len(picks), -1, 2)), -1, 0)
        found["capacity"] = np.minimum(alone / together, k)
        found["gain"] = gain(found["threads"], np.maximum(found["capacity"], 1.01))
        found["kernel"] = whole * alone
        found["speed"] = found["kernel"] / found["capacity"] / found["many"]
        return found

    sets = len(samples)
    found = {name: float(value[0]) for name, value in computed(np.arange(sets)[None]).items()}
    drawn = computed(np.random.default_rng(0).integers(0, sets, (RESAMPLES, sets)))
    numbers: dict[str, Any] = {name: found[name] for name in ("serial", "one", "many", "kernel")}
    intervals: dict[str, Any] = {
        name: Estimate(found[name], *map(float, np.quantile(drawn[name], (0.025, 0.975))))
        for name in ("first", "algorithm", "threads", "speedup", "capacity", "gain", "speed")
    }
    steal = sum(sample.steal for sample in samples) / (k * max(1e-9, float(many.sum())))
    low, middle, high = np.quantile(turns.reshape(-1, 2), (0.25, 0.5, 0.75), axis=0)
    return Scaling(k, **numbers, **intervals, steal=steal, spread=float(((high - low) / middle).max()), sets=sets)


def table(rows: Sequence[Sequence]) -> np.ndarray:
    """Rows as an array, each cut to the shortest: slow programs make fewer tokens in some rounds."""
    count = min(map(len, rows))
    return np.array([row[:count] for row in rows])


def quartile(values: np.ndarray) -> np.ndarray:
    """The lower quartile over the runs: values (draws, runs, ...) -> (draws, ...)."""
    return np.quantile(values, QUARTILE, axis=1)


def typical(rows: Sequence[Sequence[float]]) -> float:
    """Seconds for all tokens, from some runs' seconds for each: the statistic that all times are taken by."""
    return float(np.quantile(table(rows), QUARTILE, axis=0).sum())
