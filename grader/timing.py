"""The stage of scaling: rounds of trusted serial, submission on 1 worker, submission on k workers, and the capacity
beside them.

One round has one new prompt, and a fresh process for every run:

    even round    serial   1   k   capacity   k   1          odd round    serial   k   1   capacity   1   k

so that a machine that gets slower or faster meanwhile favours neither. All times are taken by the parent, from the
prompt to the last token. T_1 and T_k of a round are the shorter of its two runs, E_k = T_1 / T_k, S_k = T_s / T_k.
A round in which other programs took part of the cores, or the hypervisor took them away, is disturbed: it is
repeated, and in the end "inconclusive", never a lost point.
"""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from grader.cases import MARGIN, timing_prompts
from grader.child import Child, Patience, Run
from grader.points import Points, gain
from grader.sandbox import MB, Limits, Sandbox, SandboxError
from lab.checkpoint import read_header
from lab.measure.stats import Estimate, estimate

PROMPT_LENGTH, N = 8, 18  # a prompt of 8 tokens, 10 more are made
LEAST_ROUNDS, MOST_ROUNDS = 3, 8
BUDGET = 60.0  # seconds after which no further round is begun, once there are LEAST_ROUNDS
OTHERS = 0.10  # share of the cores that other programs took, from which on a run is disturbed
STEAL = 0.02  # share of the time that the hypervisor took
WAITING = 0.05  # share of its time that a trusted one-thread program waited for a core
SLOWEST = 4.0  # times the serial program's time, plus 5 seconds: a submission that takes longer is stopped


@dataclass
class Sample:
    """One timed run, seen from outside. Times in seconds."""

    seconds: float
    cpu: float = 0.0  # all threads
    delay: float = 0.0  # ready to run, but without a core
    main: float = 0.0  # CPU time of the main thread
    threads: list[float] = field(default_factory=list)  # of the others, busiest first
    threads_at_ready: int = 0  # besides the main thread, before the prompt was sent
    others: float = 0.0  # share of the cores that other programs used
    steal: float = 0.0  # share of the time the hypervisor took
    pressure: float = 0.0  # share of the time in which something on this machine waited for a core (PSI)


@dataclass
class Round:
    """All samples for one prompt. many and capacity are by number of workers."""

    serial: Sample
    one: list[Sample] = field(default_factory=list)
    many: dict[int, list[Sample]] = field(default_factory=dict)
    capacity: dict[int, float] = field(default_factory=dict)
    disturbed: str = ""  # why, or "" for a quiet round

    def best_one(self) -> Sample:
        """The shorter run on one worker."""
        return min(self.one, key=lambda sample: sample.seconds)

    def best(self, k: int) -> Sample:
        """The shorter run on k workers."""
        return min(self.many[k], key=lambda sample: sample.seconds)


@dataclass
class Timing:
    """What was measured; failure is a run that did not give the serial program's tokens."""

    model: str
    cores: int
    measured: list[int]  # numbers of workers
    not_measured: dict[int, str] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)  # rounds that others made so slow that they were given up: why
    failure: Run | None = None
    expected: list[int] = field(default_factory=list)  # of the failed run
    failed_workers: int = 0
    limit: str = ""  # what stopped the failed run
    recorded: dict = field(default_factory=dict)  # k -> what the recorder noted, for the explanation only

    def quiet(self) -> list[Round]:
        """The rounds that nothing disturbed."""
        return [round_ for round_ in self.rounds if not round_.disturbed]

    def to_json(self) -> dict:
        """As plain data: the rounds and their circumstances."""
        return {
            "model": self.model, "cores": self.cores, "measured": self.measured,
            "not_measured": {str(k): why for k, why in self.not_measured.items()},
            "rounds": [asdict(r) for r in self.rounds],
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: dict) -> "Timing":
        """The timing that to_json() gave."""
        timing = cls(
            data["model"], data["cores"], list(data["measured"]), {int(k): v for k, v in data["not_measured"].items()}
        )
        for entry in data["rounds"]:
            timing.rounds.append(
                Round(
                    Sample(**entry["serial"]),
                    [Sample(**sample) for sample in entry["one"]],
                    {int(k): [Sample(**sample) for sample in samples] for k, samples in entry["many"].items()},
                    {int(k): float(c) for k, c in entry["capacity"].items()},
                    entry["disturbed"],
                )
            )
        return timing


# --------------------------------------------------------------------------------------------------------- the weather


@dataclass
class Weather:
    """Counters of the machine at one moment, for the given cores; differences of two say who else was at work."""

    at: float
    busy: float  # seconds of all these cores together
    steal: float
    own: float  # the grader's own CPU time
    pressure: float  # seconds in which something waited for a core

    @classmethod
    def now(cls, cores: list[int]) -> "Weather":
        """Read /proc/stat."""
        busy = steal = 0.0
        tick = os.sysconf("SC_CLK_TCK")
        try:
            with open("/proc/stat") as file:
                for line in file:
                    name, *numbers = line.split()
                    if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
                        user, nice, system, _, _, irq, softirq, stolen = (int(number) / tick for number in numbers[:8])
                        busy += user + nice + system + irq + softirq
                        steal += stolen
        except (OSError, ValueError):
            pass  # without /proc/stat nothing is known of the others
        return cls(time.perf_counter(), busy, steal, time.process_time(), cpu_pressure())

    def since(self, before: "Weather", cpu: float, cores: int) -> tuple[float, float, float]:
        """Shares of these cores' time that others used and that was stolen between the two moments, and the pressure.

        cpu: the program's own CPU time.
        """
        wall = max(1e-6, self.at - before.at)
        others = (self.busy - before.busy) - cpu - (self.own - before.own)
        stolen, pressure = self.steal - before.steal, self.pressure - before.pressure
        return max(0.0, others / wall / cores), max(0.0, stolen / wall / cores), max(0.0, pressure / wall)


def cpu_pressure() -> float:
    """Seconds since boot in which something was ready to run and had no core; 0 where the kernel does not say."""
    try:
        with open("/proc/pressure/cpu") as file:
            return int(file.readline().rpartition("total=")[2]) / 1e6
    except (OSError, ValueError):
        return 0.0


def disturbance(round_: Round) -> str:
    """Why a round does not count, or "". Only what the submission cannot cause:
    other programs, the hypervisor, trusted runs that waited.
    """
    samples = [round_.serial, *round_.one, *(sample for runs in round_.many.values() for sample in runs)]
    others = max(sample.others for sample in samples)
    steal = max(sample.steal for sample in samples)
    waiting = round_.serial.delay / max(round_.serial.seconds, 1e-9)
    if not all(round_.capacity.values()):
        return "the capacity could not be measured"
    if others > OTHERS:
        pressure = max(sample.pressure for sample in samples)
        told = f", something waited for a core {pressure:.0%} of the time" if pressure > others else ""
        return f"other programs used {others:.0%} of the cores{told}"
    if steal > STEAL:
        return f"the hypervisor took {steal:.0%} of the time (steal)"
    if waiting > WAITING:
        return f"the serial program waited {waiting:.0%} of its time for a core"
    return ""


# ----------------------------------------------------------------------------------------------------------- measuring


@dataclass
class Stopwatch:
    """Runs programs in the sandbox and times them."""

    sandbox: Sandbox
    trusted: Path  # the grader's copy of the lab, with lab.measure
    tree: Path  # the lab with the submission in it
    model: Path
    cores: list[int]
    limits: Limits

    def serial(self, prompt: list[int], n: int) -> tuple[Run, Sample]:
        """The trusted program on one core."""
        return self.run(self.trusted, "serial", prompt, n, 1, Patience(start=60.0, token=120.0, idle=120.0))

    def submission(self, prompt: list[int], n: int, k: int, serial_seconds: float) -> tuple[Run, Sample]:
        """The submission on k workers and k cores."""
        slowest = SLOWEST * serial_seconds + 5.0
        patience = Patience(start=60.0, token=slowest, idle=max(3.0, serial_seconds), total=slowest)
        return self.run(self.tree, "submission", prompt, n, k, patience)

    def run(self, tree: Path, engine: str, prompt: list[int], n: int, k: int, patience: Patience) -> tuple[Run, Sample]:
        """One fresh process, one prompt."""
        cores = self.cores[:k]
        with Child(self.sandbox, tree, self.model, engine, cores, self.limits, patience) as child:
            failed = child.wait_ready()
            if failed is not None:
                return failed, Sample(float("nan"))
            before = Weather.now(cores)
            run = child.ask(prompt, n, k)
            weather = Weather.now(cores).since(before, run.use.cpu, len(cores))
            use = run.use
            threads = use.threads[: 2 * k + 2]
            return run, Sample(run.seconds, use.cpu, use.delay, use.main, threads, child.threads_at_ready, *weather)


def measure(
    sandbox: Sandbox, trusted: Path, tree: Path, model: Path, points: Points, seed: int,
    progress: Callable[[str], None] | None = None,
    budget: float = BUDGET,
) -> Timing:  # fmt: skip
    """Rounds until the points are decided, or the budget is used up. Stops at the first run with wrong tokens."""
    available = sorted(os.sched_getaffinity(0))
    _, config = read_header(model)
    timing = Timing(model.stem, len(available), [k for k in points.workers if k <= len(available)])
    timing.not_measured = {k: f"this machine has {len(available)} cores" for k in points.workers if k > len(available)}
    if not timing.measured:
        return timing
    memory = 2048 * MB + 3 * model.stat().st_size
    watch = Stopwatch(sandbox, trusted, tree, model, available, Limits(memory=memory))
    prompts = timing_prompts(config.vocab_size, PROMPT_LENGTH, seed)
    begin = time.perf_counter()
    capacity = {
        k: Child(sandbox, trusted, None, "capacity", available[:k], Limits(memory=memory)) for k in timing.measured
    }
    try:
        for child in capacity.values():
            if (failed := child.wait_ready()) is not None:
                raise SandboxError(f"the capacity cannot be measured: {failed.outcome} {failed.error[-1:]}")
        for number in range(MOST_ROUNDS):
            if progress:
                progress(f"round {number + 1}" + (f": {decision(timing)}" if number else ""))
            round_ = one_round(watch, prompts, timing, capacity, number)
            if timing.failure is not None:
                break
            if round_ is not None:
                timing.rounds.append(round_)
            late = time.perf_counter() - begin > budget
            if (late and enough(timing)) or decided(timing, points):
                break
    finally:
        for child in capacity.values():
            child.close()
    return timing


def one_round(
    watch: Stopwatch, prompts: Iterator[list[int]], timing: Timing, capacity: dict[int, Child], number: int
) -> Round | None:
    """One round; None when it came to nothing: `timing.failure` or `timing.given_up` says why. Raises SandboxError."""
    while True:
        prompt = next(prompts)
        trusted, sample = watch.serial(prompt, N)
        if len(trusted.tokens) != N - PROMPT_LENGTH:
            why = trusted.error[-1]["message"] if trusted.error else trusted.outcome
            raise SandboxError(f"the serial program cannot be timed on {watch.model.name}: {why}")
        round_ = Round(sample, many={k: [] for k in timing.measured})
        turns = [1, *timing.measured, 0, *reversed(timing.measured), 1]
        if number % 2:
            turns = [*reversed(timing.measured), 1, 0, 1, *timing.measured]
        usable = True
        for k in turns:
            if k == 0:
                round_.capacity = {k: one_capacity(child, k) for k, child in capacity.items()}
                continue
            run, sample = watch.submission(prompt, N, k, round_.serial.seconds)
            if run.outcome != "done" or run.tokens != trusted.tokens:
                if run.outcome == "done" and not judgeable(run.tokens, trusted):
                    usable = False  # rounding decides there: no case; another prompt
                    break
                if run.outcome in ("hang", "spin", "slow") and sample.others > OTHERS:
                    timing.given_up.append(f"other programs used {sample.others:.0%} of the cores")
                else:
                    timing.failure, timing.expected, timing.failed_workers = run, trusted.tokens, k
                return None
            (round_.one if k == 1 else round_.many[k]).append(sample)
        if usable:
            return replace(round_, disturbed=disturbance(round_))


def one_capacity(child: Child, k: int) -> float:
    """C_k now; 0 if it did not come, so that the round does not count."""
    found = child.value(capacity=k)
    return float(found["capacity"]) if isinstance(found, dict) else 0.0


def judgeable(tokens: list[int], trusted: Run) -> bool:
    """Whether the first token that differs was made with the margin, so that the difference is a mistake and not
    rounding.
    """
    margins = trusted.values.get("margins") or []
    for step, expected in enumerate(trusted.tokens):
        if step >= len(tokens) or tokens[step] != expected:
            return not (step < len(margins) and margins[step] < 2 * MARGIN)  # margins are in float32: twice, to be sure
    return True


def record(watch: Stopwatch, k: int, seed: int) -> dict:
    """One run of the submission with the recorder of lab.threadlib:
    for the explanation of a slow program, never for points.
    """
    _, config = read_header(watch.model)
    prompt = next(timing_prompts(config.vocab_size, PROMPT_LENGTH, seed))
    with Child(
        watch.sandbox, watch.tree, watch.model, "submission", watch.cores[:k], watch.limits, Patience(60, 60, 20)
    ) as child:
        if child.wait_ready() is not None:
            return {}
        run = child.ask(prompt, PROMPT_LENGTH + 4, k, record=True)
    noted = run.values.get("recorded")
    return {"seconds": run.seconds, **noted} if isinstance(noted, dict) and run.stamps else {}


# ------------------------------------------------------------------------------------------------------------ deciding


def gains(timing: Timing, k: int, points: Points) -> list[float]:
    """Round by round, the share of the possible gain;
    rounds in which the machine could not show anything are left out.
    """
    found = []
    for round_ in timing.quiet():
        capacity = min(round_.capacity[k], float(k))
        if capacity - 1 >= points.scaling["capacity"] * (k - 1):
            found.append(gain(round_.best_one().seconds / round_.best(k).seconds, capacity))
    return found


def gain_estimate(timing: Timing, k: int, points: Points) -> Estimate | None:
    """Median and interval of the share of the possible gain; None with fewer than LEAST_ROUNDS usable rounds."""
    values = gains(timing, k, points)
    return estimate(values) if len(values) >= LEAST_ROUNDS else None


def decided(timing: Timing, points: Points) -> bool:
    """Whether the interval leaves no doubt about the points, for every number of workers."""
    for k in timing.measured:
        found = gain_estimate(timing, k, points)
        if found is None or points.credit(found.high) - points.credit(found.low) > 0.02:
            return False
    return True


def enough(timing: Timing) -> bool:
    """Whether to stop when time is up: with the least number of quiet rounds, or with hardly a hope of getting them."""
    quiet = len(timing.quiet())
    return quiet >= LEAST_ROUNDS or quiet <= (len(timing.rounds) + len(timing.given_up)) / 2


def decision(timing: Timing) -> str:
    """How it stands, for the progress line."""
    if timing.given_up:
        return timing.given_up[-1]
    last = timing.rounds[-1]
    k = timing.measured[-1]
    ratio = last.best_one().seconds / last.best(k).seconds
    text = f"E_{k} {ratio:.2f} of C_{k} {last.capacity[k]:.2f}"
    return f"{text}, disturbed: {last.disturbed}" if last.disturbed else text
