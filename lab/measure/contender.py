"""Who is measured by bench.py, and what follows from the times."""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from lab.measure.stats import Estimate, estimate, ratios


class BenchError(Exception):
    """What cannot be measured; one line."""


Run = Callable[[list[int], int], tuple[list[int], list[float]]]  # (prompt, n) -> tokens, the second of each


def timed(made: Iterable[int | str], begin: float | None = None) -> tuple[list[int], list[float]]:
    """The tokens, and the second at which each was there, since `begin` or now."""
    begin, tokens, stamps = time.perf_counter() if begin is None else begin, [], []
    for token in made:
        tokens.append(int(token))
        stamps.append(time.perf_counter() - begin)
    return tokens, stamps


@dataclass
class Contender:
    """Somebody who turns (prompt, n) into tokens, and the times it took, round by round."""

    name: str
    engine: str
    k: int
    run: Run
    exact: bool = True  # must give the same tokens as all others
    other_tokens: int = 0  # how often it did not, if it need not
    seconds: list[float] = field(default_factory=list)
    per_token: list[float] = field(default_factory=list)

    def measure(self, prompt: list[int], n: int) -> list[int]:
        """Run once and note the times; returns the tokens. Raises BenchError."""
        tokens, stamps = self.run(prompt, n)
        if not tokens:
            raise BenchError(f"{self.name} gives no tokens")
        self.seconds.append(stamps[-1])
        self.per_token.append((stamps[-1] - stamps[0]) / max(1, len(stamps) - 1))
        return tokens


@dataclass
class Results:
    """All that was measured, round by round."""

    prompt: int  # tokens
    n: int
    contenders: list[Contender]
    capacity: dict[int, list[float]]
    bandwidth: dict[int, list[float]]
    bare: list[float] = field(default_factory=list)

    def find(self, engine: str, k: int) -> Contender | None:
        """The contender of an engine on k workers."""
        return next((c for c in self.contenders if (c.engine, c.k) == (engine, k)), None)

    def over(self, contender: Contender, base: Contender | None) -> Estimate | None:
        """How many times faster than `base`."""
        return estimate(ratios(base.seconds, contender.seconds)) if base else None

    def speedup(self, contender: Contender) -> Estimate | None:
        """S_k = T_s / T_k."""
        return self.over(contender, self.find("serial", 1)) if contender.engine != "serial" else None

    def scaling(self, contender: Contender) -> Estimate | None:
        """E_k = T_1 / T_k."""
        return self.over(contender, self.find(contender.engine, 1)) if contender.k > 1 else None

    def gain(self, contender: Contender) -> Estimate | None:
        """(E_k - 1) / (C_k - 1): the share of what k cores can gain over one; None where that is next to nothing."""
        one, capacities = self.find(contender.engine, 1), self.capacity.get(contender.k)
        if one is None or not capacities or min(capacities) <= 1.05:
            return None
        scaling = ratios(one.seconds, contender.seconds)
        return estimate([(e - 1) / (c - 1) for e, c in zip(scaling, capacities, strict=True)])

    def floor(self, contender: Contender, weight_bytes: int) -> Estimate | None:
        """The part of a token's time that reading all weights once, at the measured bandwidth, would take."""
        if contender.k not in self.bandwidth or len(contender.seconds) == 0 or self.n - self.prompt < 2:
            return None
        needed = [weight_bytes / (rate * 1e9) for rate in self.bandwidth[contender.k]]
        return estimate(ratios(needed, contender.per_token))
