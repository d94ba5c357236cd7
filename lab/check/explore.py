"""Run a program under many schedules; when one fails, say why, and find the simplest schedule that fails in the same
way.

A run that fails is run again, with the same decisions, tracing every operation and tracking every array: programs are
deterministic but for their schedule, so the failure comes again, and this time its circumstances are on record.
"""

import os
import re
import time
import traceback
import types
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from lab.check import picture, tiny
from lab.check.blame import TOLERANCE, blame
from lab.check.program import Program
from lab.check.races import Detector, Race
from lab.check.report import Finding, Findings, ProgramError, counted, listed, place
from lab.check.scheduler import STEP_LIMIT, Failure, Runner, Scheduler, Strategy
from lab.check.strategies import PCT, Bounded, Default, Exhaustive, RandomWalk, Replay, ReplayByPlace, Segments, seeded

PRIMITIVES, STATEMENTS = 0, 1  # where threads can switch
STATEMENT_LIMIT = 200_000
SHRINK_RUNS = 400
SHRINK_SECONDS = 5.0
TRACKED_SCHEDULES = 24


@dataclass(frozen=True)
class Setting:
    """What a schedule string says besides the decisions."""

    workers: int
    case: int = 0  # of tiny.CASES
    level: int = PRIMITIVES
    spurious: bool = False

    def string(self, deviations: list[tuple[int, int]]) -> str:
        """k3c1s:12=2,15=0 : 3 workers, case 1, statements; decision 12 goes to thread 2, decision 15 to the main
        thread."""
        case = f"c{self.case}" if self.case else ""
        marks = ("s" if self.level else "") + ("w" if self.spurious else "")
        return f"k{self.workers}{case}{marks}:" + ",".join(f"{at}={number}" for at, number in deviations)


def parse_schedule(text: str) -> tuple[Setting, list[tuple[int, int]]]:
    """The inverse of Setting.string. Raises ProgramError."""
    match = re.fullmatch(r"k(\d+)(?:c(\d+))?(s?)(w?):((?:\d+=\d+(?:,\d+=\d+)*)?)", text.strip())
    if not match or int(match[2] or 0) >= len(tiny.CASES) or int(match[1]) < 1:
        raise ProgramError(f"{text!r} is not a schedule; one looks like k3:12=2,15=0")
    setting = Setting(int(match[1]), int(match[2] or 0), STATEMENTS if match[3] else PRIMITIVES, bool(match[4]))
    pairs = (pair.split("=") for pair in match[5].split(",") if pair)
    return setting, [(int(at), int(number)) for at, number in pairs]


@dataclass
class Run:
    """One run, over."""

    setting: Setting
    scheduler: Scheduler
    failure: Failure | None
    detector: Detector | None
    tokens: list[list[int]] = field(default_factory=list)
    model: Any = None
    wrong: list[str] = field(default_factory=list)  # blame, found while it ran
    wrong_sites: list[str] = field(default_factory=list)

    @property
    def kind(self) -> str:
        """The kind of failure; "" for none. Exceptions of different types are different failures."""
        if self.failure is None:
            return ""
        exception = self.failure.exception
        return self.failure.kind if exception is None else f"{self.failure.kind}:{type(exception).__name__}"


# ---------------------------------------------------------------------------------------------------------- one program


class Explorer:
    """Runs one program under chosen schedules."""

    def __init__(self, program: Program, workers: int = 3, spurious: bool = False) -> None:
        self.program, self.workers, self.spurious = program, workers, spurious
        self.reference: dict[
            int, list[np.ndarray]
        ] = {}  # per case: the activations after each token in the default schedule

    def run(
        self, strategy: Strategy, setting: Setting, *, traced: bool = False, tracked: bool = False, blamed: bool = False
    ) -> Run:
        """One run of the program; blamed: the activations are compared with serial's, and each element's last writer is
        known."""
        detector = Detector(blame=blamed) if tracked else None
        scheduler = Scheduler(
            strategy,
            traced=traced or tracked,
            clocks=detector.clocks if detector else None,
            spurious=setting.spurious,
            user_file=self.program.file,
            limit=STATEMENT_LIMIT if setting.level == STATEMENTS else STEP_LIMIT,
        )
        scheduler.switching = setting.level == STATEMENTS
        if detector:
            detector.scheduler = scheduler
        run = Run(setting, scheduler, None, detector)
        body = self.generate_body if self.program.entry == "generate" else self.main_body
        run.failure = scheduler.run(lambda: body(run))
        self.judge(run)
        return run

    def fresh(self, run: Run) -> types.ModuleType:
        """The program, executed anew; called inside the run, so that what importing it does is explored too."""
        scheduler, detector = run.scheduler, run.detector
        additions: dict[str, Any] = {
            "__step__": scheduler.step, "__middle__": scheduler.middle, "__loop__": scheduler.loop,
        }  # fmt: skip
        stand_ins: dict[str, Any] = {"time": PatientTime(scheduler)}
        if detector:
            additions |= detector.additions()
            stand_ins["numpy"] = detector.numpy()
        return self.program.fresh(
            additions, run.setting.level == STATEMENTS or scheduler.traced, detector is not None, stand_ins
        )

    def main_body(self, run: Run) -> None:
        """A program with main()."""
        module = self.fresh(run)
        result = module.main()
        self.end_of_program(run)
        if self.program.has_check:
            module.check(result)

    def generate_body(self, run: Run) -> None:
        """A submission: run generate() on the tiny model, compare every token."""
        module = self.fresh(run)
        self.none_running(run, "importing the program")
        case = tiny.CASES[run.setting.case]
        expected = tiny.expected(case)
        for _ in range(case.times):
            memory = np.zeros(tiny.acts_size(case.n), dtype=np.float32)
            model = run.model = tiny.fresh_model(memory)
            if run.detector:
                tracked = run.detector.track(memory, "acts", lambda model=model: vars(model.acts))
                model.acts_memory = tracked
            tokens: list[int] = []
            run.tokens.append(tokens)
            spawned = run.scheduler.spawned
            iterator = iter(module.generate(model, list(case.prompt), case.n, run.setting.workers))
            try:
                for token in iterator:
                    tokens.append(int(token))
                    self.look(run, memory, expected, tokens)
                    if len(tokens) in (case.stop_after, len(expected.tokens) + 1):
                        break
            finally:
                close = getattr(iterator, "close", None)
                if close is not None:
                    close()
            stopped = bool(case.stop_after)
            if not stopped and len(tokens) < len(expected.tokens):
                self.wrong_tokens(run, expected, tokens)
            self.end_of_program(run, "closing the iterator" if stopped else "generate()")
            run.scheduler.spawned -= spawned
            if run.scheduler.spawned > run.setting.workers:
                self.too_many_threads(run)
            run.scheduler.spawned += spawned

    # ---- looking at a run while it goes on (in its main thread)

    def look(self, run: Run, memory: np.ndarray, expected: tiny.Expected, tokens: list[int]) -> None:
        """After each token: is it serial's, and are the activations what they are under the default schedule?"""
        scheduler, index = run.scheduler, len(tokens) - 1
        detector = run.detector
        if detector and detector.blame:
            run.wrong, run.wrong_sites = blame(
                detector, run.model, expected.activations[min(index, len(expected.tokens) - 1)]
            )
        if index >= len(expected.tokens) or tokens[index] != expected.tokens[index]:
            self.wrong_tokens(run, expected, tokens)
        if len(run.tokens) > 1:
            return
        known = self.reference.setdefault(run.setting.case, [])
        if index == len(known):
            known.append(agreeing(memory, run.model, expected.activations[index]))
        reference = known[index]
        if not np.array_equal(memory, reference) and not close_enough(memory, reference):
            scheduler.fail_run(Failure("values", f"token {index + 1} is right, but activations depend on the schedule"))
        if detector:
            detector.now += 1

    def wrong_tokens(self, run: Run, expected: tiny.Expected, tokens: list[int]) -> None:
        """End the run."""
        wanted = list(expected.tokens)
        if tokens[: len(wanted)] == wanted[: len(tokens)]:
            words = f"too {'few' if len(tokens) < len(wanted) else 'many'} tokens: {tokens} instead of {wanted}"
        else:
            words = f"tokens {tokens} instead of serial's {wanted[: len(tokens)]}"
        run.scheduler.fail_run(Failure("tokens", words))

    def none_running(self, run: Run, when: str) -> None:
        """Importing starts nothing."""
        if run.scheduler.spawned:
            names = [runner.name for runner in run.scheduler.everyone if runner.number]
            where = list(dict.fromkeys(runner.spawned_at for runner in run.scheduler.everyone if runner.spawned_at))
            at = f" at {listed(where)}" if where else ""
            message = f"{when} starts {listed(names)}{at}: threads are started by generate() only"
            run.scheduler.fail_run(Failure("contract", message, where=where))

    def end_of_program(self, run: Run, what: str = "main()") -> None:
        """Every thread must have been joined."""
        left = [thread.system for thread in run.scheduler.threads if isinstance(thread.system, Runner)]
        if not left or run.scheduler.failure is not None:
            return
        words = [f"{runner.name}, spawned at {runner.spawned_at}, {describe_left(runner)}" for runner in left]
        where = [site for runner in left for site in (runner.spawned_at, runner.site) if site]
        message = f"{what} is over, but nobody has joined {'; '.join(words)}"
        run.scheduler.fail_run(Failure("unjoined", message, where=list(dict.fromkeys(where))))

    def too_many_threads(self, run: Run) -> None:
        """k workers are started once."""
        scheduler = run.scheduler
        sites = [site for _runner, verb, _what, site in scheduler.trace if verb == "spawns"]
        k = run.setting.workers
        message = (
            f"generate(workers={k}) started {scheduler.spawned} threads instead of {k}"
            + (f", at {listed(list(dict.fromkeys(sites)))}" if sites else "")
            + ": the workers are started once, at its beginning, and get their work through a queue"
        )
        scheduler.fail_run(Failure("contract", message, where=list(dict.fromkeys(sites))))

    def judge(self, run: Run) -> None:
        """Give exceptions their kind."""
        failure = run.failure
        if failure is not None and isinstance(failure.exception, AssertionError):
            failure.kind = "assertion"

    # ---- the default schedule, once

    def prepare(self) -> Run:
        """The default schedule of case 0; its activations are what others are compared with. Returns that run."""
        return self.run(Default(), Setting(self.workers))

    def rerun(self, setting: Setting, deviations: list[tuple[int, int]], **options: Any) -> Run:
        """A schedule again."""
        if self.program.entry == "generate" and setting.case not in self.reference:
            self.run(Default(), Setting(setting.workers, setting.case))
        return self.run(Replay(dict(deviations)), setting, **options)


def describe_left(runner: Runner) -> str:
    """What an unjoined thread is doing."""
    if runner.over_before_the_end:
        return "which has ended"
    doing = {
        "locks": "waiting for a mutex",
        "wakes": "waiting for a condition",
        "P": "waiting in P",
        "starts": "not yet started",
    }
    return doing.get(runner.verb, "still running") + (f" at {runner.site}" if runner.site else "")


class PatientTime(types.ModuleType):
    """Stands in for the module time: sleeping lets the others run, and takes no time."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__("time")
        self.sleep = lambda seconds: scheduler.yield_point("sleeps", seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)


def agreeing(memory: np.ndarray, model: Any, expected: dict[str, np.ndarray]) -> np.ndarray:
    """A copy of the memory in which all is NaN that does not agree with serial's activations: the rest must not
    change."""
    result = np.full_like(memory, np.nan)
    start_of_memory = memory.__array_interface__["data"][0]
    for name, array in vars(model.acts).items():
        if not isinstance(array, np.ndarray) or name not in expected or expected[name].shape != array.shape:
            continue
        start = (array.__array_interface__["data"][0] - start_of_memory) // 4
        if not 0 <= start <= memory.size - array.size:
            continue
        found = memory[start : start + array.size]
        same = np.isclose(found, expected[name].reshape(-1), rtol=TOLERANCE, atol=TOLERANCE)
        result[start : start + array.size] = np.where(same, found, np.nan)
    return result


def close_enough(memory: np.ndarray, reference: np.ndarray) -> bool:
    """Do all numbers agree for which there is a reference?"""
    with np.errstate(invalid="ignore"):
        different = np.abs(memory - reference) > TOLERANCE + TOLERANCE * np.abs(reference)
    return not different.any() and not (np.isnan(memory) & ~np.isnan(reference)).any()


# ------------------------------------------------------------------------------------------------------- many schedules


@dataclass
class Plan:
    """What is to be explored."""

    schedules: int = 2000
    seed: int = 1
    seconds: float | None = None
    strategy: str = "mix"  # mix, random, pct, exhaustive
    bound: int = 2  # preemptions, for exhaustive
    races: bool = True
    level: str = "mix"  # mix, primitives, statements
    picture: str | None = None


@contextmanager
def one_core() -> Iterator[None]:
    """Stay on one core: only one thread runs at a time, and handing over to a thread on another core takes three times
    as long."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {sorted(before)[os.getpid() % len(before)]})
    except OSError:
        before = set()
    try:
        yield
    finally:
        if before:
            os.sched_setaffinity(0, before)


def explore(program: Program, workers: int = 3, plan: Plan | None = None, spurious: bool = False) -> Findings:
    """Look for a schedule that fails; stops at the first, after the tracked runs that look for races."""
    plan = plan or Plan()
    result = Findings(program.name, "explore", workers, plan.seed, findings=program.refused())
    if result.findings:
        return result
    begin = time.perf_counter()
    deadline = begin + plan.seconds if plan.seconds is not None else float("inf")
    with one_core():
        explorer = Explorer(program, workers, spurious)
        first = explorer.prepare()
        if plan.races and first.failure is None and first.scheduler.spawned:
            share = begin + 0.3 * plan.seconds if plan.seconds is not None else float("inf")
            look_for_races(explorer, plan, min(TRACKED_SCHEDULES, plan.schedules), share, result)
        search(explorer, plan, deadline, first, result)
    result.seconds = time.perf_counter() - begin
    result.notes += conclusion(explorer, plan, result)
    return result


def races(
    program: Program, workers: int = 3, schedules: int = 60, seed: int = 1, seconds: float | None = None
) -> Findings:
    """Look for races only."""
    result = Findings(program.name, "races", workers, seed, findings=program.refused())
    if result.findings:
        return result
    begin = time.perf_counter()
    deadline = begin + seconds if seconds is not None else float("inf")
    plan = Plan(schedules=schedules, seed=seed)
    with one_core():
        explorer = Explorer(program, workers)
        if program.entry == "generate":
            explorer.prepare()
        look_for_races(explorer, plan, schedules, deadline, result)
        if not result.findings:
            result.notes.append(
                f"no race in {counted(result.schedules, 'schedule')}; this is not a proof that there is none"
            )
    result.seconds = time.perf_counter() - begin
    return result


def look_for_races(explorer: Explorer, plan: Plan, schedules: int, deadline: float, result: Findings) -> None:
    """Tracked runs: half of them switch at statements."""
    found: dict[tuple, tuple[Race, str]] = {}
    writers: dict[int, int] = {}  # thread -> elements of activations written, over all runs
    threads = 0
    for index in range(schedules):
        if time.perf_counter() > deadline:
            break
        level = STATEMENTS if index % 2 else PRIMITIVES
        setting = Setting(explorer.workers, 0, level, explorer.spurious)
        strategy: Strategy = RandomWalk(seeded(plan.seed, -1 - index), 0.9 if level else 0.0) if index else Default()
        run = explorer.run(strategy, setting, tracked=True)
        result.schedules += 1
        threads = max(threads, run.scheduler.spawned)
        for race in run.detector.races.values():
            found.setdefault(race.key, (race, setting.string(run.scheduler.deviations)))
        for root in run.detector.activations:
            for slot, count in root.writers().items():
                writers[slot] = writers.get(slot, 0) + count
    result.findings += race_findings(list(found.values()), plan.seed)
    workers = [slot for slot in writers if slot > 0]
    if len(workers) == 1 and threads > 1 and result.schedules >= 4:
        result.findings.append(one_does_all(explorer, workers[0], plan, result.schedules))


def race_findings(found: list[tuple[Race, str]], seed: int) -> list[Finding]:
    """One finding for each array or variable: its first race, those of two writes before others; the rest as detail."""
    by_name: dict[str, list[tuple[Race, str]]] = {}
    for race, schedule in found:
        by_name.setdefault(race.name, []).append((race, schedule))
    findings = []
    for pairs in by_name.values():
        pairs.sort(key=lambda pair: pair[0].first.kind + pair[0].second.kind)
        race, schedule = pairs[0]
        lines = [f"also {other.message()}" for other, _schedule in pairs[1:4]]
        if len(pairs) > 4:
            lines.append(f"and {counted(len(pairs) - 4, 'more pair')} of lines")
        where = list(dict.fromkeys(site for other, _schedule in pairs for site in other.where()))
        findings.append(Finding("race", race.message(), "\n".join(lines), where, schedule, seed, tool="races"))
    return findings


def one_does_all(explorer: Explorer, slot: int, plan: Plan, schedules: int) -> Finding:
    """A submission whose work is split so that there is only one piece."""
    run = explorer.run(Default(), Setting(explorer.workers), tracked=True, blamed=True)
    sites = [site for thread, site, _pass in run.detector.log if thread == f"worker-{slot}"]
    common = max(dict.fromkeys(sites), key=sites.count) if sites else ""
    at = f" (most of its writes are at {common})" if common else ""
    message = (
        f"worker {slot} does all the work{at}: of {explorer.workers} workers no other one wrote a single activation in "
        f"{counted(schedules, 'schedule')}. Is the work split over the batch? B is 1"
    )
    return Finding("contract", message, where=[common] if common else [], seed=plan.seed, tool="races")


def search(explorer: Explorer, plan: Plan, deadline: float, first: Run, result: Findings) -> None:
    """Run schedules until one fails."""
    known: set[tuple] = set()
    steps = {PRIMITIVES: max(1, first.scheduler.decisions), STATEMENTS: max(1, first.scheduler.decisions)}
    exhaustive = Exhaustive(plan.bound) if plan.strategy == "exhaustive" else None
    most = plan.schedules
    if explorer.program.entry == "generate" and not first.scheduler.spawned:
        most = min(most, len(tiny.CASES))
        result.notes.append("generate() starts no threads: there is only one schedule")
    run, index = first, 0
    if exhaustive is not None:
        run = explorer.run(exhaustive, choose_setting(explorer, plan, 0))
    while True:
        result.schedules += 1
        scheduler = run.scheduler
        known.add((run.setting, *scheduler.deviations))
        result.depth = max(result.depth, scheduler.decisions)
        steps[run.setting.level] = max(steps[run.setting.level], scheduler.decisions)
        if run.failure is not None:
            result.findings.insert(0, explain(explorer, run, plan))
            break
        index += 1
        if exhaustive is not None and not exhaustive.advance():
            result.notes.append(
                f"these are all schedules with at most {counted(plan.bound, 'preemption')} at primitives"
            )
            break
        if index >= most or time.perf_counter() > deadline:
            break
        setting = choose_setting(explorer, plan, index)
        strategy = exhaustive or choose_strategy(plan, index, setting, steps[setting.level])
        if explorer.program.entry == "generate" and setting.case not in explorer.reference:
            run = explorer.run(Default(), Setting(explorer.workers, setting.case))
            if run.failure is not None:
                continue
        run = explorer.run(strategy, setting)
    result.distinct = len(known)


def choose_setting(explorer: Explorer, plan: Plan, index: int) -> Setting:
    """Every third schedule switches at statements; of sixteen runs of generate() four are of another kind or another
    prompt."""
    case = {1: 3, 2: 4, 3: 1, 7: 2, 11: 1, 15: 2}.get(index % 16, 0) if explorer.program.entry == "generate" else 0
    level = {"primitives": PRIMITIVES, "statements": STATEMENTS}.get(plan.level, int(index % 3 == 2))
    if plan.strategy == "exhaustive":
        case, level = 0, level if plan.level != "mix" else PRIMITIVES
    return Setting(explorer.workers, case, level, explorer.spurious)


def choose_strategy(plan: Plan, index: int, setting: Setting, steps: int) -> Strategy:
    """Random walk and PCT in turn; PCT goes through its depths 2 to 5."""
    random = seeded(plan.seed, index)
    if plan.strategy == "pct" or (plan.strategy == "mix" and index % 2 == 0):
        return PCT(random, 2 + index // 2 % 4, steps)
    return RandomWalk(random, 0.8 if setting.level == STATEMENTS else 0.0)


def conclusion(explorer: Explorer, plan: Plan, result: Findings) -> list[str]:
    """What was done, and what it means."""
    rate = result.schedules / max(result.seconds, 1e-9)
    tried = (
        f"{counted(result.schedules, 'schedule')}, {result.distinct:,} of them distinct, "
        f"up to {counted(result.depth, 'decision')} deep, seed {plan.seed}, {result.seconds:.1f} s ({rate:,.0f}/s)"
    )
    if result.findings:
        return [tried]
    return [f"{tried}: nothing found, which is not a proof that nothing is wrong"]


# ------------------------------------------------------------------------------------------------------------ a failure


def explain(explorer: Explorer, run: Run, plan: Plan) -> Finding:
    """Shrink the schedule, run it once more with everything on record, and put the failure into words."""
    setting, kind = run.setting, run.kind
    deviations = shrink(explorer, run, plan.seed)
    again = explorer.rerun(setting, deviations, traced=True, tracked=True, blamed=True)
    if again.kind != kind:  # tracking must change nothing; if it does, tell what can be told without it
        again = explorer.rerun(setting, deviations, traced=True)
    if again.kind != kind:
        message = (
            f"{kind.split(':')[0]} under a schedule that does not give it again: the program is not deterministic "
            "(time, random numbers, id(), the order of a set?)"
        )
        return Finding("exception", message, schedule=setting.string(deviations), seed=plan.seed)
    finding = tell(explorer, again)
    finding.seed, finding.schedule = plan.seed, setting.string(again.scheduler.deviations)
    finding.preemptions = again.scheduler.preemptions
    finding.trace = picture.lines(again.scheduler)
    if plan.picture:
        picture.write_svg(
            Path(plan.picture), again.scheduler, f"{explorer.program.name}: {finding.kind}", finding.schedule
        )
    return finding


def shrink(explorer: Explorer, run: Run, seed: int) -> list[tuple[int, int]]:
    """The fewest preemptions, and then the fewest decisions, that give the same kind of failure."""
    begin, runs = time.perf_counter(), 0
    best, cost = run, price(run)

    def attempt(strategy: Strategy) -> bool:
        nonlocal best, cost, runs
        if runs >= SHRINK_RUNS or time.perf_counter() - begin > SHRINK_SECONDS:
            return False
        runs += 1
        other = explorer.run(strategy, run.setting)
        if other.kind != run.kind or price(other) >= cost:
            return False
        best, cost = other, price(other)
        return True

    attempt(Default())
    if cost[:2] == (0, 0):
        return []
    size = max(1, len(best.scheduler.local) // 2)
    while best.scheduler.local and size:  # leave out half of the decisions, a quarter, ... single ones
        parts = best.scheduler.local
        for start in range(0, len(parts), size if size > 3 else 1):
            if attempt(ReplayByPlace(dict(parts[:start] + parts[start + size :]))):
                break
        else:
            size //= 2
        size = min(size, len(best.scheduler.local))
    improved = True
    while improved:  # let a thread run in one go what it ran in two
        improved = any(attempt(Segments(merged)) for merged in merges(best.scheduler.segments))
    steps = run.scheduler.decisions
    for few in (1, 2, 3):  # a schedule with few deviations, drawn at random, may be simpler still
        for index in range(40):
            if cost[0] <= few or attempt(Bounded(seeded(seed, 7_000_000 + 1000 * few + index), few, steps)):
                break
    return best.scheduler.deviations


def merges(segments: list[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    """All ways to put two turns of a thread together, at the place of the later or of the earlier one."""
    for first, (number, _points) in enumerate(segments):
        second = next((at for at in range(first + 1, len(segments)) if segments[at][0] == number), None)
        if second is not None:
            yield segments[:first] + segments[first + 1 :]
            yield [*segments[:first], segments[second], *segments[first + 1 : second], *segments[second + 1 :]]


def price(run: Run) -> tuple[int, int, int]:
    """What makes a schedule hard to follow: preemptions, other decisions, length."""
    return run.scheduler.preemptions, len(run.scheduler.deviations), run.scheduler.steps


def tell(explorer: Explorer, run: Run) -> Finding:
    """The failure in words."""
    failure = run.failure
    assert failure is not None
    finding = Finding(failure.kind, failure.message, failure.detail, [site for site in failure.where if site])
    lines = [finding.detail] if finding.detail else []
    if failure.exception is not None:
        tell_exception(explorer, failure, finding, lines)
    if failure.kind in ("tokens", "values") and run.wrong:
        finding.message += ": " + run.wrong[0]
        lines += run.wrong[1:]
        finding.where = run.wrong_sites
    related = list(run.detector.races.values()) if run.detector else []
    if related and failure.exception is not None:
        finding.message += f"; perhaps because of {related[0].message()}"
    for race in related[1 if failure.exception is not None else 0 :][:3]:
        lines.append(race.message())
    for race in related[:4]:
        finding.where += [site for site in race.where() if site not in finding.where]
    if run.wrong and len(run.wrong) <= 2 and "nobody has written" in run.wrong[0]:
        lines += meanwhile(run)
    lines += hints(explorer, run, finding)
    if failure.kind in ("assertion", "tokens") and not lines[1:]:
        lines += how_they_ended(explorer, run, finding)
    finding.detail = "\n".join(lines)
    return finding


def tell_exception(explorer: Explorer, failure: Failure, finding: Finding, lines: list[str]) -> None:
    """Which exception, where in the program, in which thread."""
    exception = failure.exception
    frames = [
        frame for frame in traceback.extract_tb(exception.__traceback__) if frame.filename == explorer.program.file
    ]
    sites = [place(frame.filename, frame.lineno or 0) for frame in reversed(frames)]
    name = type(exception).__name__
    text = str(exception).strip() or (frames[-1].line if frames else "") or ""
    first = text.splitlines()[0] if text else ""
    at = f" at {sites[0]}" if sites else ""
    if isinstance(exception, AssertionError):
        finding.message = f"assertion failed in {failure.runner}{at}: {first}"
    else:
        finding.message = f"{name} in {failure.runner}{at}: {first}"
    finding.where = list(dict.fromkeys(sites))
    lines += [f"{place(frame.filename, frame.lineno or 0)} in {frame.name}: {frame.line}" for frame in frames]


def meanwhile(run: Run) -> list[str]:
    """What the workers were about to do when the run was stopped."""
    words = []
    for runner in run.scheduler.everyone:
        if runner.number and not runner.over_before_the_end:
            verb = "had not begun" if not runner.points else f"was {describe_left(runner)}"
            words.append(f"{runner.name} {verb}")
    return [f"meanwhile {listed(words)}"] if words else []


def how_they_ended(explorer: Explorer, run: Run, finding: Finding) -> list[str]:
    """The last line of each worker: work that was not done may have been left undone there."""
    ends: dict[int, list[str]] = {}
    for runner in run.scheduler.everyone:
        if runner.number and runner.ready is None and runner.line:
            ends.setdefault(runner.line, []).append(runner.name)
    sites = {line: f"{explorer.program.name}:{line}" for line in ends}
    finding.where += [site for site in sites.values() if site not in finding.where]
    return [f"{listed(names)} ended at {sites[line]}" for line, names in sorted(ends.items())]


def hints(explorer: Explorer, run: Run, finding: Finding) -> list[str]:
    """What often stands behind such a failure, if the program looks like it."""
    found = []
    name = explorer.program.name
    for line, around in sorted(explorer.program.bare_waits.items()):
        site = f"{name}:{line}"
        overtaken = overtaken_after_wake(run, site)
        if overtaken:
            inside = "stands in an if" if around == "if" else "stands in no loop"
            found.append(
                f"the wait at {site} {inside}: {overtaken}, and what was true at the signal need not be true after "
                "the wait: wait in a while loop"
            )
            finding.where += [site] if site not in finding.where else []
    for runner in run.scheduler.everyone:
        sites = went_back_to_sleep(run, runner)
        if sites and finding.kind == "deadlock":
            signal, wait, label = sites
            found.append(
                f"the signal of {label} at {signal} woke {runner.name}, which found its own condition still false and "
                f"waited again at {wait}: threads that wait for different things share one Cond; signal wakes only "
                "one of them"
            )
            finding.where += [site for site in (signal, wait) if site not in finding.where]
    return found


def overtaken_after_wake(run: Run, site: str) -> str:
    """Did another thread lock the mutex between the signal for a wait at `site` and the end of that wait?"""
    trace = run.scheduler.trace
    for end, (runner, verb, what, at) in enumerate(trace):
        if verb != "wakes" or at != site:
            continue
        for other, other_verb, other_what, other_site in reversed(trace[:end]):
            if other is runner:
                break
            if other_verb in ("locks", "wakes"):
                mutex = other_what[1] if other_verb == "wakes" else other_what
                if mutex is what[1]:
                    return f"{other.name} had the mutex (at {other_site}) just before {runner.name} woke from it"
    return ""


def went_back_to_sleep(run: Run, runner: Runner) -> tuple[str, str, str] | None:
    """If the last thing a waiting thread did was to wake, by a signal, and wait again on the same condition: (signal,
    wait, condition)."""
    trace = run.scheduler.trace
    if runner.ready is None or runner.verb != "wakes" or runner.signalled:
        return None
    state = runner.what[0]
    mine = [(verb, what) for other, verb, what, _site in trace if other is runner and verb != "at"]
    if len(mine) < 2 or mine[-1] != ("waits for", state) or mine[-2][0] != "wakes" or mine[-2][1][0] is not state:
        return None
    signals = [(site, verb) for _name, site, _step, woken, verb in state.woke if woken == runner.name]
    if not signals or signals[-1][1] != "signal":
        return None
    return signals[-1][0], runner.site, state.label


def replay(program: Program, schedule: str, picture_file: str | None = None) -> Findings:
    """Run one schedule, with everything on record."""
    setting, deviations = parse_schedule(schedule)
    result = Findings(program.name, "explore", setting.workers, findings=program.refused())
    if result.findings:
        return result
    begin = time.perf_counter()
    with one_core():
        explorer = Explorer(program, setting.workers, setting.spurious)
        run = explorer.rerun(setting, deviations, traced=True, tracked=True, blamed=True)
    result.schedules = result.distinct = 1
    result.depth = run.scheduler.decisions
    if run.failure is not None:
        result.findings.append(tell(explorer, run))
    else:
        result.findings += race_findings([(race, schedule) for race in run.detector.races.values()], 0)
    for finding in result.findings:
        finding.schedule, finding.preemptions = setting.string(run.scheduler.deviations), run.scheduler.preemptions
        finding.trace = picture.lines(run.scheduler)
    strategy: Any = run.scheduler.strategy
    if strategy.impossible:
        result.notes.append(
            f"at decision {strategy.impossible[0]} the schedule names a thread that cannot go on there: it was made "
            "for another version of the program"
        )
    if picture_file:
        kind = result.findings[0].kind if result.findings else "no failure"
        picture.write_svg(
            Path(picture_file), run.scheduler, f"{program.name}: {kind}", setting.string(run.scheduler.deviations)
        )
    if not result.findings:
        result.notes.append("this schedule runs without a failure")
    result.seconds = time.perf_counter() - begin
    return result


__all__ = ["Explorer", "Plan", "Program", "explore", "parse_schedule", "races", "replay"]
