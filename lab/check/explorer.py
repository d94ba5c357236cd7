"""Runs one program under one schedule: main(), or generate() on the tiny model, whose tokens and activations are
compared with those of lab.serial."""

import os
import types
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from lab.check import tiny
from lab.check.blame import blame, differing, tensors
from lab.check.program import NoExit, Program, unheard
from lab.check.races import Detector
from lab.check.report import grouped, listed
from lab.check.runner import Failure, Runner
from lab.check.schedule import STATEMENTS, Setting
from lab.check.scheduler import Scheduler
from lab.check.strategies import Default, Strategy
from lab.serial import GPT2


@dataclass
class Run:
    """One run, over."""

    setting: Setting
    scheduler: Scheduler
    failure: Failure | None
    detector: Detector | None
    tokens: list[list[int]] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)  # blame, found while it ran
    wrong_sites: list[str] = field(default_factory=list)
    imported: bool = False  # has the program been executed as a module, before main() or generate()?

    def leave(self, call: str, does: str) -> None:
        """Called instead of os._exit(), os.fork() and the like."""
        site = self.scheduler.site()
        what = f"{self.scheduler.current.name} at {site} {does} by {call}"
        self.scheduler.fail_run(Failure("contract", f"{what}: nothing after it is checked", where=[site]))

    @property
    def fault(self) -> Failure:
        """The failure of a run that failed."""
        return cast(Failure, self.failure)

    @property
    def seen(self) -> Detector:
        """What a tracked run saw of its arrays."""
        return cast(Detector, self.detector)

    @property
    def kind(self) -> str:
        """The kind of failure; "" for none. Exceptions of different types are different failures."""
        if self.failure is None:
            return ""
        exception = self.failure.exception
        return self.failure.kind if exception is None else f"{self.failure.kind}:{type(exception).__name__}"


class Explorer:
    """Runs one program under chosen schedules. `deadline` (time.monotonic()) breaks a run off."""

    def __init__(self, program: Program, workers: int = 3, deadline: float = float("inf")) -> None:
        self.program, self.workers, self.deadline = program, workers, deadline
        self.reference: dict[int, list[np.ndarray]] = {}  # per case: activations after each token, default schedule

    def run(
        self,
        strategy: Strategy,
        setting: Setting,
        *,
        traced: bool = False,
        tracked: bool = False,
        blamed: bool = False,
        watch: Callable[[Scheduler], Any] | None = None,
    ) -> Run:
        """One run of the program; blamed: the activations are compared with serial's, and each element's last writer is
        known; watch is called at every event of the trace, and what it returns is kept as a snapshot."""
        detector = Detector(blame=blamed) if tracked else None
        scheduler = Scheduler(
            strategy,
            traced=traced or tracked,
            clocks=detector.clocks if detector else None,
            spurious=setting.spurious,
            level=setting.level,
            user_file=self.program.file,
            deadline=self.deadline,
            watch=watch,
        )
        if detector:
            detector.scheduler = scheduler
        run = Run(setting, scheduler, None, detector)
        body = self.generate_body if self.program.entry == "generate" else self.main_body
        self.program.begin_anew()
        with unheard():
            run.failure = scheduler.run(lambda: body(run))
        return run

    def fresh(self, run: Run) -> types.ModuleType:
        """The program, executed anew; called inside the run, so that what importing it does is explored too."""
        scheduler, detector = run.scheduler, run.detector
        additions = {"__step__": scheduler.step, "__switch__": scheduler.switch, "__loop__": scheduler.loop}
        module = self.program.fresh(
            additions | (detector.additions() if detector else {}),
            run.setting.level >= STATEMENTS or scheduler.traced,
            detector is not None,
            {"time": scheduler.clock, "os": NoExit(run.leave)},
        )
        run.imported = True
        return module

    def main_body(self, run: Run) -> None:
        """A program with main()."""
        check = self.program.run_main(self.fresh(run), run.scheduler.spawned)
        self.end_of_program(run)
        check()

    def generate_body(self, run: Run) -> None:
        """A submission: run generate() on the tiny model, compare every token."""
        module = self.fresh(run)
        self.none_running(run)
        case = tiny.CASES[run.setting.case]
        for one in case.runs():
            expected = tiny.expected(one)
            model = tiny.fresh_model(memory := np.zeros(tiny.acts_size(case.n), dtype=np.float32))
            if run.detector:
                model.acts_memory = run.detector.track(memory, "acts", lambda model=model: vars(model.acts))
            tokens: list[int] = []
            run.tokens.append(tokens)
            before = run.scheduler.spawned
            iterator = iter(module.generate(model, list(one.prompt), case.n, run.setting.workers))
            try:
                for token in iterator:
                    tokens.append(int(token))
                    self.look(run, model, memory, expected)
                    if len(tokens) in (case.stop_after, len(expected.tokens) + 1):
                        break
            finally:
                getattr(iterator, "close", int)()  # an iterator of another kind than a generator has nothing to close
            stopped = bool(case.stop_after)
            if not stopped and len(tokens) < len(expected.tokens):
                self.wrong_tokens(run, expected, tokens)
            self.end_of_program(run, "closing the iterator" if stopped else "generate()")
            started = run.scheduler.spawned - before
            if started > run.setting.workers:
                self.too_many_threads(run, started)

    # ---- looking at a run while it goes on (in its main thread)

    def look(self, run: Run, model: GPT2, memory: np.ndarray, expected: tiny.Expected) -> None:
        """After each token: is it serial's, and are the activations what they are under the default schedule?"""
        detector, tokens, wanted = run.detector, run.tokens[-1], expected.tokens
        index = len(tokens) - 1
        if detector and detector.blame:
            run.wrong, run.wrong_sites = blame(detector, model, expected.activations[min(index, len(wanted) - 1)])
        if index >= len(wanted) or tokens[index] != wanted[index]:
            self.wrong_tokens(run, expected, tokens)
        if len(run.tokens) > 1:
            return
        known = self.reference.setdefault(run.setting.case, [])
        if index == len(known):
            known.append(agreeing(memory, model, expected.activations[index]))
        if differing(memory, known[index]).any():
            run.scheduler.fail_run(
                Failure("values", f"token {index + 1} is right, but activations depend on the schedule")
            )
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

    def none_running(self, run: Run) -> None:
        """Importing starts nothing."""
        if run.scheduler.spawned:
            names = [runner.name for runner in run.scheduler.everyone if runner.number]
            where = list(dict.fromkeys(runner.spawned_at for runner in run.scheduler.everyone if runner.spawned_at))
            what = listed(names) + (f" at {listed(where)}" if where else "")
            message = f"importing the program starts {what}: threads are started by generate() only"
            run.scheduler.fail_run(Failure("contract", message, where=where))

    def end_of_program(self, run: Run, what: str = "main()") -> None:
        """Every thread must have been joined."""
        left = [thread.system for thread in run.scheduler.threads if isinstance(thread.system, Runner)]
        if not left or run.scheduler.failure is not None:
            return
        names = grouped((f"spawned at {runner.spawned_at}, {describe_left(runner)}", runner.name) for runner in left)
        words = [f"{listed(those)}, {state}" for state, those in names.items()]
        where = [site for runner in left for site in (runner.spawned_at, runner.site) if site]
        run.scheduler.fail_run(
            Failure("unjoined", f"{what} ended without joining {'; '.join(words)}", where=list(dict.fromkeys(where)))
        )

    def too_many_threads(self, run: Run, started: int) -> None:
        """k workers are started once."""
        sites = list(dict.fromkeys(site for _, verb, _, site in run.scheduler.trace if verb == "spawns"))
        k, at = run.setting.workers, f", at {listed(sites)}" if sites else ""
        message = (
            f"generate(workers={k}) started {started} threads instead of {k}{at}: the workers are started once, at its "
            "beginning, and get their work through a queue"
        )
        run.scheduler.fail_run(Failure("contract", message, where=sites))

    def again(self, setting: Setting, strategy: Strategy, **options: Any) -> Run:
        """A run whose activations are compared with those of the default schedule."""
        if self.program.entry == "generate" and setting.case not in self.reference:
            self.run(Default(), Setting(setting.workers, setting.case))
        return self.run(strategy, setting, **options)


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


def agreeing(memory: np.ndarray, model: GPT2, expected: dict[str, np.ndarray]) -> np.ndarray:
    """A copy of the memory in which all is NaN that does not agree with serial's activations: the rest must not
    change."""
    result = np.full_like(memory, np.nan)
    for part, wanted in tensors(model, memory, expected):
        found, expectation = memory[part], wanted.reshape(-1)
        result[part] = np.where(differing(found, expectation) | np.isnan(expectation), np.nan, found)
    return result


@contextmanager
def prepared(program: Program) -> Iterator[None]:
    """The surroundings in which a program is run many times: on Linux, on one core, with threads that do not interrupt
    the one that wakes them. Only one thread runs at a time, and handing over to one on another core takes three times
    as long; who wakes another is about to wait for it anyway, and interrupting it before it has let the interpreter go
    means two switches more, which doubles the cost of handing over."""
    with ExitStack() as stack:
        if hasattr(os, "sched_setaffinity"):
            cores = os.sched_getaffinity(0)
            one = {sorted(cores)[os.getpid() % len(cores)]}
            stack.enter_context(changed(lambda wanted: os.sched_setaffinity(0, wanted), one, cores))
        if hasattr(os, "SCHED_BATCH") and os.sched_getscheduler(0) == os.SCHED_OTHER:
            schedule = lambda policy: os.sched_setscheduler(0, policy, os.sched_getparam(0))  # noqa: E731
            stack.enter_context(changed(schedule, os.SCHED_BATCH, os.SCHED_OTHER))
        stack.enter_context(program.alone())
        yield


@contextmanager
def changed(put: Callable[[Any], None], value: Any, before: Any) -> Iterator[None]:
    """put(value), and at the end put(before), where the system allows it."""
    with suppress(OSError):
        put(value)
    try:
        yield
    finally:
        with suppress(OSError):
            put(before)
