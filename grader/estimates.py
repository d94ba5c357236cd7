"""From rounds of timings to T_s, T_1, T_k, E_k and C_k, with intervals.

A disturbance, be it another program or the hypervisor, makes a token slower and never faster, and it hits some tokens
and not others. So a program's time for a token is taken to be the lower quartile of all its runs' times for that token,
and the time for all tokens is the sum of those. Intervals are bootstrap intervals (Efron 1979): the sets of a round are
drawn again, each with its capacity, and everything is computed from what was drawn.
"""

from dataclasses import dataclass

import numpy as np

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

    sets = len(samples)
    all_sets = np.arange(sets)[None]
    draws = np.random.default_rng(0).integers(0, sets, (RESAMPLES, sets))
    found, drawn = ({} for _ in range(2))
    for values, picks in ((found, all_sets), (drawn, draws)):
        values["serial"], values["one"], values["many"] = (quiet_seconds(t, picks) for t in (serial, one, many))
        values["algorithm"] = values["serial"] / values["one"]
        values["threads"] = values["one"] / values["many"]
        values["speedup"] = values["serial"] / values["many"]
        alone, together = (quartile(turns[..., i][picks].reshape(len(picks), -1)) for i in (0, 1))
        values["capacity"] = np.minimum(alone / together, k)
        values["gain"] = (values["threads"] - 1) / np.maximum(values["capacity"] - 1, 0.01)
    ratios = {
        name: Estimate(float(found[name][0]), *map(float, np.quantile(drawn[name], (0.025, 0.975))))
        for name in ("algorithm", "threads", "speedup", "capacity", "gain")
    }
    seconds = {name: float(found[name][0]) for name in ("serial", "one", "many")}
    steal = sum(sample.steal for sample in samples) / (k * max(1e-9, float(many.sum())))
    return Scaling(k, **seconds, **ratios, steal=steal, sets=sets)


def quiet_seconds(tokens: np.ndarray, picks: np.ndarray) -> np.ndarray:
    """tokens (sets, tokens) in seconds, picks (draws, sets) -> the seconds of an undisturbed run, for each draw."""
    return np.quantile(tokens[picks], QUARTILE, axis=1).sum(axis=-1)


def quartile(values: np.ndarray) -> np.ndarray:
    """The lower quartile of each row."""
    return np.quantile(values, QUARTILE, axis=1)
