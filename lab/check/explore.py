"""Run a program under many schedules; when one fails, say why, and find the simplest schedule that fails in the same
way.

A run that fails is run again, with the same decisions, tracing every operation and tracking every array: programs are
deterministic but for their schedule, so the failure comes again, and this time its circumstances are on record.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from lab.check import picture, tiny
from lab.check.causes import tell
from lab.check.explorer import Explorer, Run, prepared
from lab.check.hunt import LAST_WORDS, look_for_races, tell_failed
from lab.check.program import Program
from lab.check.report import Finding, Findings, Progress
from lab.check.schedule import EXPRESSIONS, PRIMITIVES, ROUNDS, STATEMENTS, Setting
from lab.check.shrink import shrink, simpler
from lab.check.strategies import (
    PCT,
    Default,
    Exhaustive,
    PartialOrder,
    RandomWalk,
    Replay,
    Strategy,
    Weighted,
    about,
    seeded,
)
from lab.command import counted

TRACKED_SCHEDULES = 24


@dataclass
class Plan:
    """What is to be explored."""

    schedules: int = 2000
    seed: int = 1
    seconds: float | None = None
    strategy: str = "mix"  # or random, pct, pos, weighted, exhaustive
    bound: int = 2  # preemptions, for exhaustive
    races: bool = True
    level: str = "mix"  # mix, primitives, statements, expressions
    picture: str | None = None
    spurious: str = "mix"  # mix, always, never: may waits end without a signal?
    stop_early: bool = True  # when nothing new has appeared for long
    progress: Progress = lambda *_: None


LEVELS = {"primitives": PRIMITIVES, "statements": STATEMENTS, "expressions": EXPRESSIONS}
TURN = (  # of the mix: strategy, where threads can switch, spurious wakeups; what finds most comes first, from 1 on
    ("pos", PRIMITIVES, False), ("pct", STATEMENTS, False), ("weighted", STATEMENTS, False),
    ("weighted", EXPRESSIONS, False), ("weighted", STATEMENTS, False), ("pos", EXPRESSIONS, False),
    ("pct", EXPRESSIONS, False), ("weighted", PRIMITIVES, False), ("random", PRIMITIVES, False),
    ("weighted", PRIMITIVES, False), ("exhaustive", PRIMITIVES, False), ("random", PRIMITIVES, False),
    ("weighted", PRIMITIVES, False), ("random", PRIMITIVES, True), ("random", EXPRESSIONS, False),
    ("weighted", STATEMENTS, True), ("weighted", PRIMITIVES, False), ("random", PRIMITIVES, False),
)  # fmt: skip
CASES = {1: 3, 2: 4, 3: 1, 7: 2, 11: 1, 15: 2}  # of sixteen runs of generate(): those with another prompt or end
STAY = 0.8  # the running thread goes on with this probability where statements are switching points
WITHOUT = 100  # schedules without spurious wakeups, to look for a better failure after one with
STALE = 256  # schedules without a new one, after which a search may stop


def explore(program: Program, workers: int = 3, plan: Plan | None = None) -> Findings:
    """Look for a schedule that fails; stops at the first, after the tracked runs that look for races."""
    plan = plan or Plan()
    result = Findings(program.name, "explore", workers, plan.seed)

    def search(explorer: Explorer, first: Run) -> None:
        failed = None
        if plan.races and first.kind in ("", "tokens", "values") and first.scheduler.spawned:
            until = time.monotonic() + 0.3 * plan.seconds if plan.seconds is not None else float("inf")
            failed = look_for_races(
                explorer, plan.seed, min(TRACKED_SCHEDULES, plan.schedules), until, result,
                lambda found, *_: plan.progress(found, plan.schedules, explorer.deadline),
            )  # fmt: skip
        Search(explorer, plan, result).run(first)
        if failed is not None and all(finding.kind == "race" for finding in result.findings):
            finding = tell_failed(explorer, failed, plan.seed)
            if finding.kind == "refused":  # the other runs stand
                result.notes.append(finding.message)
            else:
                result.findings.append(finding)

    if from_default(program, result, plan.seconds, search):
        result.notes.append(conclusion(plan, result))
    return result


def races(
    program: Program,
    workers: int = 3,
    schedules: int = 60,
    seed: int = 1,
    seconds: float | None = None,
    progress: Progress = lambda *_: None,
) -> Findings:
    """Look for races only."""
    result = Findings(program.name, "races", workers, seed)

    def search(explorer: Explorer, first: Run) -> None:
        if first.kind in ("livelock", "timeout"):  # it would take far more time while its arrays are tracked
            failed, result.schedules = first, 1
        else:
            failed = look_for_races(explorer, seed, schedules, explorer.deadline, result, progress)
        if failed is not None:
            result.findings.append(tell_failed(explorer, failed, seed))
        if not result.findings:
            result.notes.append(
                f"no race in {counted(result.schedules, 'schedule')}; this is not a proof that there is none"
            )

    from_default(program, result, seconds, search)
    return result


def from_default(
    program: Program, result: Findings, seconds: float | None, search: Callable[[Explorer, Run], None]
) -> bool:
    """Run the default schedule, and go on with a search; False, and a finding, if the program cannot be run."""
    result.findings += program.refused()
    if result.findings:
        return False
    begin = time.monotonic()
    with prepared(program):
        explorer = Explorer(program, result.workers, begin + seconds if seconds is not None else float("inf"))
        first = explorer.run(Default(), Setting(result.workers))
        problem = setup_problem(program, first)
        if problem is not None:
            result.findings.append(problem)
            return False
        search(explorer, first)
    if program.beside:
        unseen = "its variables are not watched, and no thread is stopped between its statements"
        result.notes[:0] = [f"{file} is run as it is: {unseen}" for file in sorted(program.beside)]
    result.seconds = time.monotonic() - begin
    return True


def setup_problem(program: Program, first: Run) -> Finding | None:
    """Why the program cannot even be started, if no thread has anything to do with it."""
    failure = first.failure
    if failure is None or failure.exception is None or first.scheduler.spawned or failure.runner != "main":
        return None
    exception = failure.exception
    if first.imported and not isinstance(exception, SystemExit):
        return None
    return program.cannot_be_run(exception)


class Search:
    """Runs schedules, by all strategies in turn, until one fails."""

    def __init__(self, explorer: Explorer, plan: Plan, result: Findings) -> None:
        self.explorer, self.plan, self.result = explorer, plan, result
        self.generate = explorer.program.entry == "generate"
        self.known: set[int] = set()  # hashes of settings and decisions
        self.newest = 0  # the schedule that was the last new one
        self.depth: dict[int, int] = {}  # most decisions in a schedule, by level
        self.counts: dict[int, dict[Any, Counter[int]]] = {}  # who comes to what how often, by level
        self.exhaustive: Exhaustive | None = Exhaustive(plan.bound)
        self.jolted: Run | None = None  # the first that failed, if waits could end without a signal in it
        self.exhausting = False  # is the schedule that runs one of the exhaustive search?

    def run(self, run: Run) -> None:
        """`run` is that of the default schedule."""
        result, most = self.result, self.plan.schedules
        if self.generate and not run.scheduler.spawned:
            most = min(most, len(tiny.CASES))
            result.notes.append("generate() starts no threads: there is only one schedule for each prompt")
        if self.plan.strategy == "exhaustive":
            run = self.one(0)
        for index in count(1):
            self.count(run, index)
            if run.failure is not None:
                if not run.scheduler.spurious or self.plan.spurious != "mix":
                    self.fail(run)
                    return
                if self.jolted is None:  # a failure in which no wait ends without a signal says more about the program
                    self.jolted, most = run, min(most, index + WITHOUT)
            over = self.exhausting and not self.more() and self.plan.strategy == "exhaustive"
            if over or index >= most or time.monotonic() > self.explorer.deadline or self.stale(index):
                break
            run = self.one(index)
        if self.jolted is not None:
            self.fail(self.jolted)

    def more(self) -> bool:
        """Is anything left of the exhaustive search?"""
        if self.exhaustive is not None and self.exhaustive.advance():
            return True
        self.exhaustive = None
        self.result.notes.append(
            f"these are all schedules with at most {counted(self.plan.bound, 'preemption')} at primitives"
        )
        return False

    def count(self, run: Run, index: int) -> None:
        """Keep what was run."""
        result, scheduler = self.result, run.scheduler
        result.schedules += 1
        self.known.add(hash((run.setting.case, run.setting.level, *scheduler.deviations)))
        if len(self.known) > result.distinct:
            result.distinct, self.newest = len(self.known), index
        result.depth = max(result.depth, scheduler.decisions)
        level = run.setting.level
        self.depth[level] = max(self.depth.get(level, 1), scheduler.decisions)
        self.plan.progress(result, self.plan.schedules, self.explorer.deadline)

    def stale(self, index: int) -> bool:
        """Has nothing new appeared for as long as it took to find what is known, and for STALE schedules?"""
        since = index - self.newest
        if not self.plan.stop_early or since < max(STALE, index // 2):
            return False
        self.result.notes.append(f"stopped early: the last {counted(since, 'schedule')} brought none that was new")
        return True

    def fail(self, run: Run) -> None:
        """The search is over."""
        if run.fault.kind == "timeout" and self.result.schedules > 1:
            self.result.notes.append("the last schedule was broken off: the time was over")
            return
        self.explorer.deadline = max(self.explorer.deadline, time.monotonic() + LAST_WORDS)
        self.result.findings.insert(0, explain(self.explorer, run, self.plan))

    def one(self, index: int) -> Run:
        """Choose the next schedule and run it."""
        explorer, plan = self.explorer, self.plan
        name, level, spurious = TURN[index % len(TURN)]
        name = plan.strategy if plan.strategy != "mix" else name
        level = LEVELS.get(plan.level, level)
        spurious = spurious and self.jolted is None if plan.spurious == "mix" else plan.spurious == "always"
        case = CASES.get(index % 16, 0) if self.generate else 0
        if level == EXPRESSIONS and explorer.program.goes_through_shared:
            level = ROUNDS
        exhaustive = self.exhaustive if name == "exhaustive" else None
        self.exhausting = exhaustive is not None
        if self.exhausting:
            level, spurious, case = LEVELS.get(plan.level, PRIMITIVES), plan.spurious == "always", 0
        setting = Setting(explorer.workers, case, level, spurious)
        if exhaustive is not None and index and not exhaustive.path:  # it begins with the default, which has been run
            explorer.run(exhaustive, setting)
            exhaustive = exhaustive if self.more() else None
            self.exhausting = exhaustive is not None
        if self.generate and case not in explorer.reference:
            run = explorer.run(Default(), Setting(explorer.workers, case))
            if run.failure is not None:
                self.exhausting = False
                return run
        return explorer.run(exhaustive or self.strategy(name, index, level), setting)

    def strategy(self, name: str, index: int, level: int) -> Strategy:
        """A new one, with the random numbers of this schedule; PCT goes through its depths 2 to 5."""
        random = seeded(self.plan.seed, index)
        if name in ("pct", "weighted") and level not in self.counts:
            self.counts[level] = self.profile(level)
        match name:
            case "pct":
                return PCT(random, 2 + index // 6 % 4, self.depth[level])
            case "pos":
                return PartialOrder(random)
            case "weighted":
                return Weighted(random, self.counts[level])
        return RandomWalk(random, STAY if level >= STATEMENTS else 0.0)

    def profile(self, level: int) -> dict[Any, Counter[int]]:
        """For each object (at statements: line), how often each thread comes to it in the default schedule, which also
        says how many decisions there are."""
        counts: dict[Any, Counter[int]] = defaultdict(Counter)
        run = self.explorer.run(Default(), Setting(self.explorer.workers, 0, level), traced=True)
        for event in run.scheduler.trace:
            counts[about(event)][event.runner.number] += 1
        counts.pop(None, None)
        self.depth[level] = max(self.depth.get(level, 1), run.scheduler.decisions)
        return counts


def conclusion(plan: Plan, result: Findings) -> str:
    """What was done, and what it means."""
    rate = result.schedules / max(result.seconds, 1e-9)
    tried = (
        f"{counted(result.schedules, 'schedule')}, "
        + (f"{result.distinct:,} of them distinct, " if result.schedules > 1 else "")
        + f"up to {counted(result.depth, 'decision')} deep, seed {plan.seed}, {result.seconds:.1f} s ({rate:,.0f}/s)"
    )
    return tried if result.findings else f"{tried}: nothing found, which is not a proof that nothing is wrong"


def explain(explorer: Explorer, run: Run, plan: Plan) -> Finding:
    """Shrink the schedule, run it once more with everything on record, and put the failure into words."""
    failure, kind = run.fault, run.kind
    if failure.kind == "timeout" or failure.silent:  # it would take its time again
        given = "no end within the time given: " if failure.kind == "timeout" else ""
        return Finding("livelock", given + failure.message, where=failure.where, seed=plan.seed)
    run = simpler(explorer, run, plan.seed)
    setting, deviations = run.setting, shrink(explorer, run, plan.seed)
    tracked = kind != "livelock"  # a million rounds are too many to look at what each reads
    again = explorer.again(setting, Replay(dict(deviations)), traced=True, tracked=tracked, blamed=tracked)
    if again.kind != kind:  # tracking must change nothing; if it does, tell what can be told without it
        again = explorer.again(setting, Replay(dict(deviations)), traced=True)
    if again.kind == "timeout":
        return Finding(
            failure.kind,
            f"{failure.message or kind.split(':')[0]}; there was no time left to find out more: replay it",
            schedule=setting.string(deviations),
            seed=plan.seed,
        )
    if again.kind != kind:
        return Finding(
            "exception",
            f"{kind.split(':')[0]} but it cannot be reproduced with the same schedule: the program is not "
            "deterministic (random numbers, id(), the order of a set?)",
            seed=plan.seed,
        )
    finding = tell(explorer, again)
    finding.seed, finding.schedule = plan.seed, setting.string(again.scheduler.deviations)
    finding.preemptions = again.scheduler.preemptions
    finding.trace = picture.lines(again.scheduler)
    if plan.picture:
        picture.write_svg(
            Path(plan.picture), again.scheduler, f"{explorer.program.name}: {finding.kind}", finding.schedule
        )
    return finding
