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


def estimate(values: Sequence[float], resamples: int = 2000, seed: int = 0) -> Estimate:
    """Median and its 95 % percentile bootstrap interval (Efron 1979). Raises ValueError without values."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0:
        raise ValueError("no values to estimate from")
    picks = np.random.default_rng(seed).integers(0, array.size, size=(resamples, array.size))
    low, high = np.quantile(np.median(array[picks], axis=1), [0.025, 0.975])
    return Estimate(float(np.median(array)), float(low), float(high))


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Round by round: what was measured in one round met the same conditions. Raises ValueError on unequal lengths."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]
