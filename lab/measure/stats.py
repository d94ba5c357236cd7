"""Numbers from noisy timings: medians and bootstrap intervals of ratios taken pair by pair."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Estimate(NamedTuple):
    """A median with the interval that holds it with 95 % confidence; the unit is that of the values."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def bootstrap_interval(values: Sequence[float], resamples: int = 2000, seed: int = 0) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of the median (Efron 1979). Raises ValueError without values."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError("no values to estimate from")
    picks = np.random.default_rng(seed).integers(0, array.size, size=(resamples, array.size))
    medians = np.median(array[picks], axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(low), float(high)


def estimate(values: Sequence[float]) -> Estimate:
    """Median and 95 % bootstrap interval. Raises ValueError without values."""
    low, high = bootstrap_interval(values)
    return Estimate(float(np.median(values)), low, high)


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Round by round: what was measured in one round met the same conditions. Raises ValueError on unequal lengths."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]
