"""Generated timings: what the parent would have seen of each kind of program, on a machine of two cores.

In unit tests the verdict is fed these; real ones need the 124M and a quiet machine (make grade-selftest).
"""

import random

from grader.timing import SETS, Round, Sample, Timing

TOKENS = 6


def timing(
    serial: float = 2.6, one: float = 0.60, many: float = 0.35, capacity: float = 1.85, k: int = 2, busy: float = 1.0,
    main: float = 0.08, cpu_many: float | None = None, shares: tuple[float, ...] | None = None, rounds: int = 4,
    noise: float = 0.01, hit: float = 0.0, steal: float = 0.0, seed: int = 1, disturbed: str = "",
) -> Timing:  # fmt: skip
    """Rounds around the given times, in seconds for all tokens.

    busy: the share of T_1 that is computed; shares: of the workers' CPU time, at k; hit: the share of all tokens that
    take half as long again, because of something else on the machine; steal: the share of k cores' time that is stolen.
    """
    rng = random.Random(seed)

    def around(value: float) -> float:
        return value * (1 + rng.gauss(0, noise)) * (1.5 if rng.random() < hit else 1.0)

    def sample(seconds: float, busy: float, shares: tuple[float, ...], steal: float = 0.0) -> Sample:
        tokens = [around(seconds / TOKENS) for _ in range(TOKENS)]
        cpu = sum(tokens) * busy
        by_main = cpu * main if shares else cpu
        threads = sorted(((cpu - by_main) * share for share in shares), reverse=True)
        return Sample(tokens, cpu, 0.002, by_main, threads, steal=steal * sum(tokens))

    def capacity_turns() -> list[list[float]]:
        return [[around(0.018), around(0.018 / capacity)] for _ in range(TOKENS)]

    shares = (1 / k,) * k if shares is None else shares
    cores = (one * busy if cpu_many is None else cpu_many) / many
    found = Timing("generated", 2 if k == 2 else 4, [k])
    for _ in range(rounds):
        ones = [sample(one, busy, (1.0,) if shares else ()) for _ in range(SETS)]
        manys = [sample(many, cores, shares, k * steal) for _ in range(SETS)]
        turns = [capacity_turns() for _ in range(SETS)]
        found.rounds.append(Round(sample(serial, 1.0, ()), ones, {k: manys}, {k: turns}, disturbed=disturbed))
    return found


NAMED = {
    "reference": {},
    "serial_copy": {"one": 2.6, "many": 2.6, "shares": ()},
    "batch_split": {"many": 0.60, "shares": (1.0, 0.0)},
    "interpreter_bound": {"one": 2.0, "many": 2.1, "cpu_many": 2.2},
    "uneven": {"many": 0.50, "shares": (0.7, 0.3)},
    "sleeps": {"one": 1.5, "many": 1.2, "busy": 0.45},
    "slower_than_serial": {"one": 12.0, "many": 7.0},
    "sleep_at_one": {"one": 1.2, "many": 0.35, "busy": 0.5},
    "burn_at_one": {"one": 1.2, "many": 0.35, "cpu_many": 0.63},
    "one_thread_cache": {"one": 0.25, "many": 0.25, "main": 1.0, "shares": (0.0, 0.0)},
    "cache_asleep_at_one": {"one": 0.75, "many": 0.25, "busy": 0.33, "main": 1.0, "shares": (0.0, 0.0)},
    "more_threads": {"shares": (0.25, 0.25, 0.25, 0.25)},
    "more_cores": {"many": 0.18, "cpu_many": 0.66, "shares": (0.25, 0.25, 0.25, 0.25)},
}


def named(name: str, **changes: object) -> Timing:
    """The timing of that name, with changes."""
    return timing(**{**NAMED[name], **changes})
