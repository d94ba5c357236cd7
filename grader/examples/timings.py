"""Generated timings: what the parent would have seen of each kind of program, on a machine of two cores.

In unit tests the verdict is fed these; real ones need the 124M and a quiet machine (make grade-selftest).
"""

import random

from grader.inside import Inside
from grader.rounds import Round, Sample, Timing
from grader.timing import SETS

TOKENS = 4
KERNEL = 0.13  # seconds of one thread for the products of a token
TURN = 0.018  # seconds of the capacity's work on one thread


def timing(
    serial: float = 0.65, one: float = 0.60, many: float = 0.35, capacity: float = 1.85, k: int = 2, busy: float = 1.0,
    main: float = 0.08, cpu_many: float | None = None, shares: tuple[float, ...] | None = None,
    ones: tuple[float, ...] = (1.0,), waits: float = 0.0, bursts: float = 0.0, slow_ones: float = 0.0,
    inside: Inside | None = None, rounds: int = 4, noise: float = 0.01, hit: float = 0.0, steal: float = 0.0,
    seed: int = 1, disturbed: str = "",
) -> Timing:  # fmt: skip
    """Rounds around the given times, in seconds for all tokens (serial: for the first).

    busy: the share of T_1 that is computed; shares and ones: of the workers' CPU time, at k and at 1; waits: the share of
    T_1 in which a thread waits for a core; bursts: CPU seconds burned by both workers in one token of each run at k, not
    always the same; slow_ones: the share of the runs on 1 worker that take three times as long; hit: the share of all
    tokens that take half as long again, because of something else on the machine; steal: the share of k cores' time that
    is stolen.
    """
    rng = random.Random(seed)

    def around(value: float) -> float:
        return value * (1 + rng.gauss(0, noise)) * (1.5 if rng.random() < hit else 1.0)

    def tokens(seconds: float) -> list[float]:
        return [around(seconds / TOKENS) for _ in range(TOKENS)]

    shares = (1 / k,) * k if shares is None else shares
    ones = ones if shares else ()
    cores = (one * busy if cpu_many is None else cpu_many) / many
    seen_inside = {} if inside is None else {k: inside}
    found = Timing("generated", 2 if k == 2 else 4, [k], whole=KERNEL / TURN, inside=seen_inside)
    for _ in range(rounds):
        manys = [
            with_burst(sample(tokens(many), cores, main, shares, k * steal), rng.randrange(TOKENS), bursts)
            for _ in range(SETS)
        ]
        turns = [[[around(TURN), around(TURN / capacity)] for _ in range(TOKENS)] for _ in range(SETS)]
        trusted = sample(tokens(TOKENS * serial), 1.0, main, ())
        one_samples = [
            sample(tokens(one * (3.0 if rng.random() < slow_ones else 1.0)), busy, main, ones, waits=waits)
            for _ in range(SETS)
        ]
        found.rounds.append(Round(trusted, one_samples, {k: manys}, {k: turns}, disturbed=disturbed))
    return found


def sample(
    tokens: list[float], busy: float, main: float, shares: tuple[float, ...], steal: float = 0.0, waits: float = 0.0
) -> Sample:
    """A run whose tokens take so many seconds, of which the main thread computes its share, and the workers the rest."""
    cpu = [token * busy for token in tokens]
    by_main = [spent * main if shares else spent for spent in cpu]
    threads = [[(c - m) * share for c, m in zip(cpu, by_main, strict=True)] for share in shares]
    delay = [0.0005 + token * waits for token in tokens]
    return Sample(tokens, cpu, by_main, delay, threads, steal=steal * sum(tokens))


def with_burst(found: Sample, token: int, seconds: float) -> Sample:
    """The run, in one token of which two workers burn so many seconds of CPU time together."""
    found.tokens[token] += seconds / 2
    found.cpu[token] += seconds
    for thread in found.threads:
        thread[token] += seconds / 2
    return found


def seen(weights: tuple[float, ...], used: tuple[bool, ...], cpu: tuple[float, ...], main: float = 0.02) -> Inside:
    """What a run with watched arrays showed; cpu: of the first token."""
    return Inside(len(weights), list(weights), main, list(weights), list(used), list(cpu))


HONEST = seen((0.49, 0.49), (True, True), (0.15, 0.15))
NAMED = {
    "reference": {},
    "slow_but_parallel": {"one": 2.4, "many": 1.35, "inside": seen((0.49, 0.49), (True, True), (0.31, 0.31))},
    "serial_copy": {"one": 2.6, "many": 2.6, "shares": ()},
    "batch_split": {"many": 0.60, "shares": (1.0, 0.0)},
    "interpreter_bound": {"one": 2.0, "many": 2.1, "cpu_many": 2.2},
    "uneven": {"many": 0.47, "shares": (0.7, 0.3), "inside": seen((0.7, 0.28), (True, True), (0.12, 0.05))},
    "sleeps": {"one": 1.5, "many": 1.2, "busy": 0.45},
    "slower_than_serial": {"one": 12.0, "many": 7.0},
    "sleep_at_one": {"one": 1.2, "many": 0.35, "busy": 0.5},
    "burn_at_one": {"one": 1.2, "many": 0.35, "cpu_many": 0.63},
    "one_thread_cache": {"one": 0.25, "many": 0.25, "main": 1.0, "shares": (0.0, 0.0)},
    "cache_asleep_at_one": {"one": 0.75, "many": 0.25, "busy": 0.33, "main": 1.0, "shares": (0.0, 0.0)},
    "threads_anew": {"shares": (0.0, 0.0), "ones": (0.0,)},
    "more_threads": {"shares": (0.25, 0.25, 0.25, 0.25)},
    "more_cores": {"many": 0.18, "cpu_many": 0.66, "shares": (0.25, 0.25, 0.25, 0.25)},
    # one thread computes, the other burns as much, and so does the one worker
    "burn_beside": {"one": 1.2, "many": 0.6, "inside": seen((1.0, 0.0), (True, False), (0.15, 0.15))},
    # the second computes a half of its own, and nobody uses it
    "unused_work": {"one": 1.2, "many": 0.6, "inside": seen((0.98, 0.5), (True, False), (0.15, 0.15))},
    "nothing_used": {"one": 1.2, "many": 0.6, "inside": seen((0.9, 0.9), (False, False), (0.07, 0.07), main=1.0)},
    # honest while it is watched
    "two_faces": {"one": 1.2, "many": 0.6, "inside": seen((0.49, 0.49), (True, True), (0.07, 0.07))},
    "uneven_when_timed": {
        "one": 1.2, "many": 0.64, "shares": (0.85, 0.15), "inside": seen((0.49, 0.49), (True, True), (0.15, 0.15)),
    },
    "crowd_at_one": {"one": 1.2, "many": 0.6, "busy": 0.5, "ones": (0.8, 0.2), "waits": 0.5},
    "busy_crowd_at_one": {"one": 1.2, "many": 0.6, "ones": (0.5, 0.5)},
    "nice_crowd_at_one": {"one": 1.2, "many": 0.6, "busy": 0.5, "ones": (0.96, 0.04), "waits": 0.5},
    "bursts": {"one": 1.2, "many": 0.6, "cpu_many": 0.62, "bursts": 0.6},
    "some_slow_ones": {"one": 0.6, "many": 0.6, "slow_ones": 0.3, "inside": HONEST},
    "too_good": {"one": 1.3, "many": 0.6, "cpu_many": 1.25, "inside": HONEST},
}  # fmt: skip


def named(name: str, **changes: object) -> Timing:
    """The timing of that name, with changes."""
    return timing(**{**NAMED[name], **changes})
