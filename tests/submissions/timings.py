"""Generated timings: what the parent would have seen of each kind of program, on a machine of two cores.

In unit tests the verdict is fed these; real ones need the 124M and a quiet machine (make grade-selftest).
"""

import random

from grader.timing import Round, Sample, Timing


def timing(
    serial: float = 2.6, one: float = 0.60, many: float = 0.35, capacity: float = 1.85, k: int = 2, busy: float = 1.0,
    main: float = 0.08, cpu_many: float | None = None, shares: tuple[float, ...] | None = None, rounds: int = 5,
    noise: float = 0.01, seed: int = 1, disturbed: str = "",
) -> Timing:  # fmt: skip
    """Rounds around the given times, in seconds.

    busy: the share of T_1 that is computed; shares: of the workers' CPU time, at k.
    """
    rng = random.Random(seed)

    def around(value: float) -> float:
        return value * (1 + rng.gauss(0, noise))

    def sample(seconds: float, cpu: float, shares: tuple[float, ...]) -> Sample:
        by_main = cpu * main if shares else cpu
        return Sample(seconds, cpu, 0.002, by_main, sorted(((cpu - by_main) * share for share in shares), reverse=True))

    shares = (1 / k,) * k if shares is None else shares
    found = Timing("generated", 2 if k == 2 else 4, [k])
    for _ in range(rounds):
        work = one * busy
        ones = [sample(t, t * busy, (1.0,) if shares else ()) for t in (around(one), around(one))]
        many_cpu = work if cpu_many is None else cpu_many
        manys = [sample(t, many_cpu * t / many, shares) for t in (around(many), around(many))]
        t = around(serial)
        found.rounds.append(Round(Sample(t, t), ones, {k: manys}, {k: around(capacity)}, disturbed))
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
    "more_cores": {"many": 0.18, "cpu_many": 0.66, "shares": (0.25, 0.25, 0.25, 0.25)},
}


def named(name: str, **changes: object) -> Timing:
    """The timing of that name, with changes."""
    return timing(**{**NAMED[name], **changes})
