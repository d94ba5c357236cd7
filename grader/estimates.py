"""From rounds of timings to T_s, T_1, T_k, E_k and C_k, with intervals.

A disturbance, be it another program or the hypervisor, makes a token slower and never faster, and it hits some tokens
and not others. So a program's time for a token is taken to be the lower quartile of all its runs' times for that token,
and the time for all tokens is the sum of those. Intervals are bootstrap intervals (Efron 1979): the sets of a round are
drawn again, each with its capacity, and everything is computed from what was drawn.
"""

from dataclasses import dataclass

import numpy as np

from grader.points import gain
from lab.measure.stats import Estimate

QUARTILE = 0.25
RESAMPLES = 1000


@dataclass
class Scaling:
    """What was found for one number of workers. Times in seconds, for all tokens of one prompt."""

    k: int
    serial: float
    one: float
    many: float
    algorithm: Estimate  # T_s / T_1
    threads: Estimate  # T_1 / T_k, E_k
    speedup: Estimate  # T_s / T_k, S_k
    capacity: Estimate  # C_k
    gain: Estimate  # (E_k - 1) / (C_k - 1)
    steal: float  # share of its cores' time that the hypervisor took from the program with k workers
    sets: int


def estimate_scaling(rounds: list, k: int) -> Scaling:
    """All that the given rounds (grader.timing.Round, at least one) say of k workers."""
    samples = [sample for round_ in rounds for sample in round_.many[k]]
    one = np.array([sample.tokens for round_ in rounds for sample in round_.one])  # (sets, tokens)
    many = np.array([sample.tokens for sample in samples])
    serial = np.array([round_.serial.tokens for round_ in rounds for _ in round_.many[k]])
    turns = np.array([turns for round_ in rounds for turns in round_.capacity[k]])  # (sets, tokens, 2)

    def computed(picks: np.ndarray) -> dict[str, np.ndarray]:
        """Everything, from each row of sets that were picked."""
        seconds = {"serial": serial[picks], "one": one[picks], "many": many[picks]}
        found = {name: quartile(tokens).sum(axis=-1) for name, tokens in seconds.items()}
        found["algorithm"] = found["serial"] / found["one"]
        found["threads"] = found["one"] / found["many"]
        found["speedup"] = found["serial"] / found["many"]
        alone, together = np.moveaxis(quartile(turns[picks].reshape(len(picks), -1, 2)), -1, 0)
        found["capacity"] = np.minimum(alone / together, k)
        found["gain"] = gain(found["threads"], np.maximum(found["capacity"], 1.01))
        return found

    sets = len(samples)
    found = {name: float(value[0]) for name, value in computed(np.arange(sets)[None]).items()}
    drawn = computed(np.random.default_rng(0).integers(0, sets, (RESAMPLES, sets)))
    ratios = {
        name: Estimate(found[name], *map(float, np.quantile(drawn[name], (0.025, 0.975))))
        for name in ("algorithm", "threads", "speedup", "capacity", "gain")
    }
    steal = sum(sample.steal for sample in samples) / (k * max(1e-9, float(many.sum())))
    return Scaling(k, found["serial"], found["one"], found["many"], **ratios, steal=steal, sets=sets)


def quartile(values: np.ndarray) -> np.ndarray:
    """The lower quartile over the runs: values (draws, runs, ...) -> (draws, ...)."""
    return np.quantile(values, QUARTILE, axis=1)
