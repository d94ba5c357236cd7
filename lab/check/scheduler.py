"""One thread at a time: a runtime for lab.threadlib whose threads run only when they are told to.

Every thread is a real one and waits for its own baton, a lock. The thread that runs comes to a *point* before each
operation of a primitive, says what it is about to do and under what condition that is possible, and the strategy picks
who goes on, among the threads that can. A decision that has more than one answer is counted; the schedule is the list
of decisions that differ from the default (the running thread goes on, else the one with the lowest number), as "12=2":
at decision 12, thread 2. Thread 0 is the main program. Nothing in it depends on time, on addresses or on the order of
sets, so the same decisions give the same run everywhere.

A thread that goes round a loop for long without letting others run must yield, whatever the strategy says; and a run
that does not end within a number of steps goes on under a fair schedule, all threads in turn, before it counts as
endless: a program that would end if only the others got a turn is not a livelock.

When a run is over, by its end or by a failure, threads that are still parked are ended by an exception (Unwind) raised
where they wait.
"""

import ctypes
import sys
import time
from _thread import allocate_lock, get_ident
from collections.abc import Callable
from contextvars import Context
from typing import Any, ClassVar, NamedTuple

from lab import threadlib
from lab.check.clock import Clock
from lab.check.names import frame_place, label_of, operation_name, site_order, user_frame
from lab.check.primitives import Cond, Mutex, Semaphore
from lab.check.report import grouped, place
from lab.check.runner import STUBBORN, Carrier, Failure, Runner, Unwind, idle, nothing, raised, ran
from lab.check.schedule import PRIMITIVES, STATEMENTS
from lab.check.strategies import Fair, Strategy, after
from lab.check.switches import WHILE_ROUND
from lab.check.vector_clocks import Clocks
from lab.check.waiting import can_go_on, deadlock, describe_wait, find_cycle, first_cycle, waits_for
from lab.command import tidy
from lab.threadlib import Runtime, Thread, WorkerFailed

STEP_LIMIT = 20_000  # points in one run, after which it goes on under a fair schedule
STATEMENT_LIMIT = 200_000  # the same where statements are points
FAIR_STEPS = 80_000  # points under the fair schedule, after which it counts as endless
SILENT_SECONDS = 10.0  # real time without a point after which a thread is hopelessly busy
LAST_SECONDS = 1.0  # real time that a thread told to end is waited for
SPINS = 1000  # rounds without another thread before a thread must let others run
AGAIN = 100  # further rounds before it must do so again
PATIENT = 20 * AGAIN  # rounds without a point in any thread, after which all threads get their turns
IDLE_ROUNDS = 20_000_000  # rounds without a point in any thread, after which the run counts as endless


class Event(NamedTuple):
    """A point of a traced run: who does what (verb, object or line) at which place; was it possible to go on?"""

    runner: Runner
    verb: str
    what: Any
    site: str


class Scheduler(Runtime):
    """One run of a program, whose threads can switch at the places of `level` (lab.check.schedule). `clocks` is the
    race detector's, if any; `traced` looks for sites and keeps a trace (slower); at `deadline` (time.monotonic()) the
    run is broken off."""

    kinds: ClassVar = {threadlib.Mutex: Mutex, threadlib.Cond: Cond, threadlib.Semaphore: Semaphore}

    def __init__(
        self,
        strategy: Strategy,
        *,
        traced: bool = False,
        clocks: Clocks | None = None,
        level: int = PRIMITIVES,
        spurious: bool = False,
        user_file: str = "",
        deadline: float = float("inf"),
        watch: "Callable[[Scheduler], Any] | None" = None,
    ) -> None:
        super().__init__()
        self.strategy, self.clocks, self.level, self.spurious = strategy, clocks, level, spurious
        self.limit = STATEMENT_LIMIT if level >= STATEMENTS else STEP_LIMIT
        self.user_file, self.deadline, self.traced, self.watch = user_file, deadline, traced, watch
        self.trace: list[Event] = []
        self.accesses: list[tuple[int, Runner, str, str, bool]] = []  # events before it, who, variable, site, a write?
        self.snapshots: list[Any] = []  # what `watch` returns at each event of the trace
        self.clock = Clock(self)
        self.live: list[Runner] = []  # by number
        self.semaphores: list[Semaphore] = []  # in the order of making
        self.everyone: list[Runner] = []
        self.current: Runner = None  # type: ignore[assignment]
        self.steps = self.decisions = self.preemptions = self.spawned = self.made = self.idle_rounds = 0
        self.spun_at = -1  # steps when a thread last went round for long
        self.deviations: list[tuple[int, int]] = []
        self.local: list[tuple[tuple[int, int, int], int]] = []  # the same, with the decision's place (see decide)
        self.visits: dict[tuple[int, int], int] = {}
        self.segments: list[tuple[int, int]] = []  # who ran, in order: (thread, its points by then)
        self.outcome: Failure | None = None
        self.last: Any = None  # the snapshot when it failed
        self.stood: dict[str, str] = {}  # where each other thread was when one failed
        self.ending = False
        self.chained = False  # has a thread joined others that might be waited for itself?
        self.over = allocate_lock()
        self.labels: dict[str, int] = {}  # of primitives -> how many there are
        self.told = False  # has the main thread seen the worker's failure?
        self.place = (0, 0, 0)
        strategy.attach(self)

    # ---- a run

    def run(self, body: Callable[[], object]) -> Failure | None:
        """Run body as the main thread and wait until all threads have ended; returns the failure, if there is one."""
        self.over.acquire()
        with threadlib.use(self):
            self.current = self.add(0, "main", body)
            self.current.baton.release()
            self.wait_for_end()
        return self.outcome

    def wait_for_end(self) -> None:
        """Wait until the run is over; a thread that is silent for too long is ended, or left behind."""
        progress, patience = -1, SILENT_SECONDS
        while not self.over.acquire(timeout=max(0.0, min(patience, self.deadline - time.monotonic()))):
            late = time.monotonic() >= self.deadline
            if late or progress == self.steps + self.idle_rounds:
                if self.ending and patience == LAST_SECONDS:
                    return
                self.break_off(late)
                patience, self.deadline = LAST_SECONDS, float("inf")
            progress = self.steps + self.idle_rounds
        if patience == LAST_SECONDS:
            idle.clear()  # the end may have reached one of them between two jobs

    def break_off(self, late: bool) -> None:
        """End the running thread from outside, if Python can."""
        runner = self.current
        site = frame_place(user_frame(sys._current_frames().get(runner.ident), self.user_file))
        if late:
            self.set_outcome(Failure("timeout", f"{runner.name} was at {site}", where=[site]))
        else:
            silent = f"for {SILENT_SECONDS:.0f} seconds without any operation of lab.threadlib"
            self.set_outcome(
                Failure("livelock", f"{runner.name} has been at {site} {silent}", where=[site], silent=True)
            )
        self.ending = True
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(runner.ident), ctypes.py_object(Unwind))

    def add(self, number: int, name: str, fn: Callable[[], object]) -> Runner:
        """A new runner, not started yet."""
        runner = Runner(number, name, fn)
        carrier = idle.pop() if idle else Carrier()
        carrier.job = lambda: self.carry(runner, carrier)
        runner.baton = carrier.baton
        self.live.insert(sum(other.number < number for other in self.live), runner)
        self.everyone.append(runner)
        return runner

    def carry(self, runner: Runner, carrier: Carrier) -> None:
        """The life of a runner on its carrier."""
        runner.ident, runner.began = get_ident(), len(self.trace)
        if self.clocks:
            self.clocks.begin(runner)
        try:
            if not self.ending:
                Context().run(runner.fn)  # a new one, as in a new thread: what another runner has left is not in it
                self.finished(runner)
        except Unwind:
            pass
        except BaseException as exception:
            self.failed(runner, exception)
        if runner.unwound > STUBBORN:
            return  # it was left behind; whoever waits for it has gone on
        runner.fn = nothing
        runner.ended = True
        runner.over_before_the_end = not self.ending
        self.live.remove(runner)
        if self.clocks:
            self.clocks.tick(runner)
        carrier.job = nothing
        idle.append(carrier)
        self.pass_on(runner)

    def finished(self, runner: Runner) -> None:
        """A thread returned in the ordinary way."""
        if runner.held and not self.ending and self.failure is None:
            held = " and ".join(f"{mutex.label}, locked at {mutex.since}" for mutex in runner.held)
            where = [mutex.since for mutex in runner.held]
            self.fail_run(Failure("misuse", f"{runner.name} has ended with {held}", where=where))

    def failed(self, runner: Runner, exception: BaseException) -> None:
        """A thread was left by an exception."""
        if self.ending:
            return
        if not self.stood:
            others = [one for one in self.live if one is not runner and (one.number or can_go_on(one))]
            self.stood = {one.name: one.site for one in others if one.site or one.verb == "starts"}
        if runner.number == 0:
            cause = exception.__cause__ if isinstance(exception, WorkerFailed) and exception.__cause__ else exception
            self.set_outcome(raised(cause, self.failed_name if cause is not exception else "main"))
            self.ending = True
        elif not isinstance(exception, WorkerFailed) and self.failure is None:
            self.failure = WorkerFailed(f"{runner.name} failed: {type(exception).__name__}: {exception}")
            self.failure.__cause__ = exception
            self.failed_name = runner.name
            for state in runner.held:
                state.holder = None

    def pass_on(self, runner: Runner) -> None:
        """A runner has ended: the next one goes on, or the run is over."""
        self.segments.append((runner.number, runner.points + 1))
        if not self.live:
            if self.failure is not None and not self.told and self.outcome is None:
                self.outcome = raised(self.failure.__cause__, self.failed_name)
            self.ending = True  # for what is left of generators and the like
            self.over.release()
            return
        try:
            following = self.live[0] if self.ending else self.pick(None)
        except Unwind:
            following = self.live[0]
        self.current = following
        following.baton.release()

    def set_outcome(self, failure: Failure) -> None:
        """Keep the first failure."""
        if self.outcome is None:
            self.outcome = failure
            self.last = self.watch(self) if self.watch is not None else None

    def fail_run(self, failure: Failure) -> None:
        """The run is over. Raises Unwind in the running thread."""
        self.set_outcome(failure)
        self.ending = True
        raise Unwind

    # ---- points

    def point(self, verb: str, what: Any, ready: Callable[[], bool] | None = None) -> Runner:
        """The running thread is about to do something: maybe others go first. Returns the running thread."""
        me = self.arrive(verb, what, ready)
        self.let_others(me)
        if self.traced:
            self.put_down(Event(me, verb, what, me.site))
        return me

    def yield_point(self, verb: str, what: Any, ready: Callable[[], bool] | None = None) -> None:
        """A point at which going on is not the default: the thread waits for something that others must do."""
        me = self.arrive(verb, what, ready)
        self.strategy.yielded(me)
        if self.traced:
            self.put_down(Event(me, verb, what, me.site))
        self.let_others(me, tired=True)

    def arrive(self, verb: str, what: Any, ready: Callable[[], bool] | None) -> Runner:
        """The running thread has come to a point; it can go on when it is `ready`."""
        me = self.current
        if self.ending:
            self.unwind(me)
        me.verb, me.what, me.ready = verb, what, ready
        me.points += 1
        self.steps += verb != "spins"  # those are counted as rounds
        if self.traced:
            me.site = self.site()
        return me

    def let_others(self, me: Runner, tired: bool = False) -> None:
        """Whoever is picked runs, until it is me's turn."""
        following = self.pick(me, tired)
        if following is not me:
            self.hand_over(me, following)
        me.ready = None

    def put_down(self, event: Event) -> None:
        """One more line of the trace."""
        self.trace.append(event)
        if self.watch is not None:
            self.snapshots.append(self.watch(self))

    def hand_over(self, me: Runner, following: Runner) -> None:
        """following runs, me waits for its turn."""
        self.segments.append((me.number, me.points))
        self.current = following
        following.baton.release()
        me.baton.acquire()
        me.rounds = 0
        if self.ending:
            self.unwind(me)

    def unwind(self, me: Runner) -> None:
        """End this thread; one that catches even that is left behind."""
        me.unwound += 1
        if me.unwound > STUBBORN and not me.ended:
            self.live.remove(me)
            self.pass_on(me)
            while True:
                time.sleep(3600)
        raise Unwind

    def pick(self, me: Runner | None, tired: bool = False) -> Runner:
        """Which thread runs next. Raises Unwind when nobody can."""
        if self.steps > self.limit:
            self.reach_limit()
        able = [runner for runner in self.live if runner.ready is None or runner.ready()]
        if self.failure is not None and len(able) < len(self.live):
            able = self.able_after_failure(able)
        if not able:
            if self.clock.leap(self.live):
                return self.pick(me, tired)
            self.fail_run(deadlock(self.live, first_cycle(self.live, waits_for)))
        if me is not None and me.ready is not None and self.failure is None and me not in able:
            self.look_for_cycle(me)
        extra = self.spuriously_able() if self.spurious else []
        if len(able) == 1 and not extra:
            return able[0]
        running = me in able
        default = able[0]
        if me is not None and running:
            default = me if not tired else after(able, me.number)
        if extra:
            able = sorted(able + extra, key=lambda runner: runner.number)
        chosen = self.decide(able, default, tired or not running)
        if chosen is not default and running and not tired:
            self.preemptions += 1
        if extra and chosen in extra:
            chosen.signalled = chosen.jolted = True
            chosen.jolted_at = chosen.site
        return chosen

    def decide(self, able: list[Runner], default: Runner, free: bool) -> Runner:
        """One counted decision. Its place says where in the program it is made (the default thread, that thread's
        points so far, which decision of this kind), so that it stays the same when an earlier decision is changed."""
        self.decisions += 1
        at = (default.number, default.points)
        visit = self.visits[at] = self.visits.get(at, 0) + 1
        self.place = (*at, visit)
        in_turn = self.spun_at == self.steps and self.idle_rounds > PATIENT  # no strategy lets others spin for ever
        chosen = default if in_turn else self.strategy.choose(able, default, free)
        if chosen is not default:
            self.deviations.append((self.decisions, chosen.number))
            self.local.append((self.place, chosen.number))
        return chosen

    def spuriously_able(self) -> list[Runner]:
        """Waiting threads that could wake up for no reason, each once in a run."""
        return [
            runner
            for runner in self.live
            if runner.verb == "wakes" and not runner.signalled and not runner.jolted and runner.what[1].holder is None
        ]

    def able_after_failure(self, able: list[Runner]) -> list[Runner]:
        """After a worker's failure whoever waits is told, as soon as it can be: waits and P first, join() when nothing
        else can go on, and at last those that wait for what a dead thread holds."""
        waits = [
            runner
            for runner in self.live
            if runner in able or runner.verb == "P" or (runner.verb == "wakes" and runner.what[1].holder is None)
        ]
        others = [runner for runner in waits if runner.verb != "joins"]
        return others or [runner for runner in self.live if runner.verb == "joins"] or list(self.live)

    # ---- what an instrumented program calls at its statements and loops (lab.check.instrument puts the calls there)

    def step(self, line: int) -> None:
        """A statement of the program: a point if statements are."""
        if self.traced and not self.ending:
            self.current.line = line
        if self.level >= STATEMENTS and not self.ending:
            self.point("at", line)

    def switch(self, value: Any, line: int, level: int) -> Any:
        """Inside a statement, at the places of a level: a point if those are. Returns the value."""
        if level <= self.level or level == STATEMENTS:
            self.step(line)
        return value

    def loop(self, line: int, weight: int) -> bool:
        """A round of a loop: others must get a turn if this is all the thread does. Always true."""
        me = self.current
        me.rounds += weight
        if me.rounds >= SPINS:
            self.spin(me, line)
        return True

    def spin(self, me: Runner, line: int) -> None:
        """Many rounds without another thread. If no thread does anything but go round, the rounds become ever more, and
        time flies."""
        more = AGAIN if me.spun_at == me.points else SPINS
        if self.spun_at == self.steps:
            more = max(AGAIN, self.idle_rounds // 100)
            self.idle_rounds += more
            self.clock.leapt += 1e-6 * self.idle_rounds
            if self.idle_rounds > IDLE_ROUNDS:
                self.stop_livelock(f"{IDLE_ROUNDS // WHILE_ROUND:,} loop iterations")
        else:
            self.idle_rounds, self.spun_at = 0, self.steps
        self.yield_point("spins", line)
        me.rounds, me.spun_at = SPINS - more, me.points

    # ---- threads

    def spawn(self, thread: Thread, fn: Callable[[int], object]) -> None:
        """The parent goes on first, by default."""
        me = self.point("spawns", thread.name)
        self.spawned += 1
        thread.system = self.add(thread.number, thread.name, lambda: ran(fn(thread.number)))
        thread.system.spawned_at = me.site
        if self.clocks:
            self.clocks.spawn(me, thread.system)

    def join(self, threads: list[Thread]) -> None:
        """Possible when all have ended. Raises WorkerFailed if one of them failed."""
        runners = [thread.system for thread in threads if thread.system is not None]
        if self.ending:
            self.unwind(self.current)
        self.chained = self.chained or self.current.number > 0 or bool(self.current.held)
        me = self.point("joins", runners, lambda: all(runner.ended for runner in runners))
        if self.clocks:
            for runner in runners:
                self.clocks.acquire(me, self.clocks.of[runner.number])
        if self.failure is not None:
            failure, self.told = self.failure, True
            raise failure

    def perform(self, fn: Callable[[Any], object], task: Any) -> None:
        """fn(task), with a line in the trace."""
        if self.traced:
            self.put_down(Event(self.current, "performs", f"{operation_name(fn)}({tidy(task)})", self.site()))
        fn(task)

    # ---- endings

    def misuse(self, what: str, where: list[str]) -> None:
        """The running thread does something it must not."""
        me = self.current
        site = self.site() if self.traced else ""
        self.fail_run(Failure("misuse", f"{me.name} at {site} {what}", where=[site, *where], runner=me.name))

    def look_for_cycle(self, me: Runner) -> None:
        """me is about to wait: for itself, through others?"""
        if me.verb == "wakes" or not (me.held or self.chained):
            return  # nobody waits for it
        cycle = find_cycle(me, waits_for)
        if cycle:
            self.fail_run(deadlock(cycle, cycle))

    def reach_limit(self) -> None:
        """Too many points: first all threads get their turns."""
        if isinstance(self.strategy, Fair):
            del self.deviations[self.strategy.before :]
            self.stop_livelock(f"{self.limit:,} steps")
        self.strategy, self.limit = Fair(len(self.deviations)), self.limit + FAIR_STEPS

    def stop_livelock(self, amount: str) -> None:
        """The run is endless."""
        last = grouped((event.runner.name, event.site) for event in self.trace[-400:])
        last = last or {self.current.name: [self.site()]}  # without a trace
        sites = {name: sorted(set(found), key=site_order) for name, found in last.items()}
        rounds = "; ".join(f"{name} loops at {', '.join(found)}" for name, found in sorted(sites.items()))
        waiting = [describe_wait(runner) for runner in self.live if not can_go_on(runner)]
        where = [site for found in sites.values() for site in found]
        self.fail_run(Failure("livelock", f"no end after {amount}: {rounds}", "\n".join(waiting), where))

    # ---- places and names

    def site(self) -> str:
        """file:line of the innermost frame of the program under check, of any program if that one is not there."""
        return frame_place(user_frame(sys._getframe(1), self.user_file))

    def describe(self, primitive: threadlib.Primitive) -> tuple[str, str]:
        """("mutex queue", "pool.py:12"), if names are looked for."""
        return label_of(primitive, self.labels) if self.traced else ("", "")

    def access(self, name: str, line: int, write: bool) -> None:
        """The running thread reads or writes a variable."""
        if self.traced and not self.ending:
            self.accesses.append((len(self.trace), self.current, name, place(self.user_file, line), write))
