"""One thread at a time: a runtime for lab.threadlib whose threads run only when they are told to.

Every thread is a real one and waits for its own baton, a lock. The thread that runs comes to a *point* before each
operation of a primitive, says what it is about to do and under what condition that is possible, and the strategy picks
who goes on, among the threads that can. A decision that has more than one answer is counted; the schedule is the list
of decisions that differ from the default (the running thread goes on, else the one with the lowest number), as "12=2":
at decision 12, thread 2. Thread 0 is the main program. Nothing in it depends on time, on addresses or on the order of
sets, so the same decisions give the same run everywhere.

When a run is over, by its end or by a failure, threads that are still parked are ended by an exception (Unwind) raised
where they wait.
"""

import sys
from _thread import allocate_lock, get_ident, start_new_thread
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from lab import threadlib
from lab.check import seam
from lab.check.report import place
from lab.threadlib import Cond, Mutex, Runtime, Semaphore, Thread, WorkerFailed

STEP_LIMIT = 20_000  # points in one run, after which it counts as endless
SPINS = 100  # rounds of while loops without a point before a thread must let others run
STUBBORN = 100  # Unwinds a thread may swallow before it is left behind
STUCK = ("locks", "P", "wakes", "joins")  # what threads wait for, what is most telling first
SILENT_SECONDS = 10.0  # real time without a point after which a thread is hopelessly busy


class Unwind(BaseException):
    """Ends a thread of a run that is over. Not an Exception: programs should not catch it."""


class Strategy(Protocol):
    """Decides who goes on."""

    def choose(self, able: list["Runner"], default: "Runner", free: bool) -> "Runner":
        """One of `able` (two or more, by number); free: no choice would be a preemption."""

    def attach(self, scheduler: "Scheduler") -> None:
        """A run of this scheduler begins."""

    def yielded(self, runner: "Runner") -> None:
        """The runner only waits for others (it spins or sleeps)."""


class Runner:
    """A thread of the program under check."""

    __slots__ = (
        "baton", "ended", "fn", "held", "ident", "jolted", "line", "name", "number", "over_before_the_end", "points",
        "ready", "signalled", "site", "spawned_at", "spins", "unwound", "verb", "what",
    )  # fmt: skip

    def __init__(self, number: int, name: str, fn: Callable[[], object]) -> None:
        self.number, self.name, self.fn = number, name, fn
        self.baton: Any = None
        self.ready: Callable[[], bool] | None = None  # None: it can go on at any time
        self.verb, self.what = "starts", None  # what it is about to do, and with which primitive
        self.site = ""  # where, when sites are looked for
        self.held: list[MutexState] = []
        self.ended = self.over_before_the_end = self.signalled = self.jolted = (
            False  # jolted: its one spurious wakeup is used up
        )
        self.spins = self.unwound = self.ident = self.points = self.line = 0
        self.spawned_at = ""


# ------------------------------------------------------------------------------------------------- what primitives know


KIND_NAMES = {"Mutex": "mutex", "Cond": "condition", "Semaphore": "semaphore"}


class PrimitiveState:
    """What messages say about any primitive."""

    __slots__ = ("clock", "label", "made_at")

    def __init__(self, primitive: Any, scheduler: "Scheduler") -> None:
        self.label, self.made_at = scheduler.describe(primitive, KIND_NAMES[type(primitive).__name__])
        self.clock: Any = None  # the race detector's


class MutexState(PrimitiveState):
    """holder is None when free."""

    __slots__ = ("free", "holder", "last_holder", "since")

    def __init__(self, mutex: Mutex, scheduler: "Scheduler") -> None:
        super().__init__(mutex, scheduler)
        self.holder: Runner | None = None
        self.last_holder: tuple[str, str] | None = None
        self.since = ""  # where it was locked
        self.free = lambda: self.holder is None


class CondState(PrimitiveState):
    """waiters in order of arrival; signals are remembered for messages, those that woke nobody apart from the
    others."""

    __slots__ = ("lost", "mutex", "waiters", "woke")

    def __init__(self, cond: Cond, scheduler: "Scheduler") -> None:
        super().__init__(cond, scheduler)
        self.waiters: list[Runner] = []
        self.lost: list[tuple[str, str, int]] = []  # (thread, site, step)
        self.woke: list[tuple[str, str, int, str, str]] = []  # the same, woken thread, "signal" or "broadcast"
        self.mutex: MutexState | None = None  # what its waiters wait with


class SemaphoreState(PrimitiveState):
    """count units; with the race detector, the clock of each unit, oldest first (None for units there from the
    beginning)."""

    __slots__ = ("count", "initial", "last_P", "last_V", "positive", "units")

    def __init__(self, semaphore: Semaphore, n: int, scheduler: "Scheduler") -> None:
        super().__init__(semaphore, scheduler)
        self.count = self.initial = n
        self.units: deque[Any] = deque([None] * n)
        self.last_P: tuple[Runner, str] | None = None
        self.last_V: tuple[Runner, str] | None = None
        self.positive = lambda: self.count > 0


# --------------------------------------------------------------------------------------------------------- real threads


class Carrier:
    """A real thread that carries one runner after another; making a thread for each would take most of the time."""

    def __init__(self, idle: "list[Carrier]") -> None:
        self.idle = idle
        self.job: Callable[[], None] = lambda: None
        self.baton = allocate_lock()
        self.baton.acquire()
        start_new_thread(self._life, ())

    def _life(self) -> None:
        while True:
            self.baton.acquire()
            self.job()


_idle: list[Carrier] = []


# -------------------------------------------------------------------------------------------------------- the scheduler


@dataclass
class Failure:
    """Why a run went wrong, as far as the scheduler can tell."""

    kind: str
    message: str
    detail: str = ""
    where: list[str] = field(default_factory=list)
    exception: BaseException | None = None
    runner: str = ""


class Scheduler(Runtime):
    """One run of a program. `clocks` is the race detector, if any; `traced` looks for sites and keeps a trace
    (slower)."""

    kinds = seam.KINDS

    def __init__(
        self,
        strategy: Strategy,
        *,
        traced: bool = False,
        clocks: Any = None,
        limit: int = STEP_LIMIT,
        spurious: bool = False,
        user_file: str = "",
    ) -> None:
        super().__init__()
        self.strategy, self.clocks, self.limit, self.spurious, self.user_file = (
            strategy,
            clocks,
            limit,
            spurious,
            user_file,
        )
        self.traced = traced
        self.trace: list[tuple[Runner, str, Any, str]] = []
        self.live: list[Runner] = []  # by number
        self.everyone: list[Runner] = []
        self.current: Runner = None  # type: ignore[assignment]
        self.steps = self.decisions = self.preemptions = self.spawned = 0
        self.deviations: list[tuple[int, int]] = []
        self.local: list[tuple[tuple[int, int, int], int]] = []  # the same, with the decision's place (see decide)
        self.visits: dict[tuple[int, int], int] = {}
        self.segments: list[tuple[int, int]] = []  # who ran, in order: (thread, its points by then)
        self.outcome: Failure | None = None
        self.ending = False
        self.over = allocate_lock()
        self.labels: dict[str, int] = {}
        self.told = False  # the main thread has seen the worker's failure
        self.switching = False  # are statements switching points?
        self.place = (0, 0, 0)
        strategy.attach(self)

    # ---- a run

    def run(self, body: Callable[[], object]) -> Failure | None:
        """Run body as the main thread and wait until all threads have ended; returns the failure, if there is one."""
        self.over.acquire()
        before = threadlib.install(self)
        try:
            self.current = self.add(0, "main", body)
            self.current.baton.release()
            steps = -1
            while not self.over.acquire(timeout=SILENT_SECONDS):
                if steps == self.steps and not self.abandon_silent():
                    break
                steps = self.steps
        finally:
            threadlib.install(before)
        return self.outcome

    def add(self, number: int, name: str, fn: Callable[[], object]) -> Runner:
        """A new runner, not started yet."""
        runner = Runner(number, name, fn)
        carrier = _idle.pop() if _idle else Carrier(_idle)
        carrier.job = lambda: self.carry(runner, carrier)
        runner.baton = carrier.baton
        position = sum(other.number < number for other in self.live)
        self.live.insert(position, runner)
        self.everyone.append(runner)
        return runner

    def carry(self, runner: Runner, carrier: Carrier) -> None:
        """The life of a runner on its carrier."""
        runner.ident = get_ident()
        if self.clocks:
            self.clocks.begin(runner)
        try:
            if not self.ending:
                runner.fn()
                self.finished(runner)
        except Unwind:
            pass
        except BaseException as exception:
            self.failed(runner, exception)
        if runner.unwound > STUBBORN:
            return  # it was left behind; whoever waits for it has gone on
        runner.fn = _nothing
        runner.ended = True
        runner.over_before_the_end = not self.ending
        self.live.remove(runner)
        if self.clocks:
            self.clocks.end(runner)
        carrier.job = _nothing
        carrier.idle.append(carrier)
        self.pass_on(runner)

    def finished(self, runner: Runner) -> None:
        """A thread returned in the ordinary way."""
        if runner.held and not self.ending and self.failure is None:
            states = runner.held
            names = " and ".join(f"{state.label}, locked at {state.since}" for state in states)
            self.fail_run(
                Failure("misuse", f"{runner.name} has ended with {names}", where=[state.since for state in states])
            )

    def failed(self, runner: Runner, exception: BaseException) -> None:
        """A thread was left by an exception."""
        if self.ending:
            return
        if runner.number == 0:
            cause = exception.__cause__ if isinstance(exception, WorkerFailed) and exception.__cause__ else exception
            name = self.failed_name if cause is not exception else "main"
            self.set_outcome(Failure("exception", "", exception=cause, runner=name))
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
                cause = self.failure.__cause__
                self.outcome = Failure("exception", "", exception=cause, runner=self.failed_name)
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

    def fail_run(self, failure: Failure) -> None:
        """The run is over. Raises Unwind in the running thread."""
        self.set_outcome(failure)
        self.ending = True
        raise Unwind

    def abandon_silent(self) -> bool:
        """The running thread has not come to a point for a long time: end it if Python can. False: it cannot be
        reached."""
        import ctypes

        runner = self.current
        site = self.site_of(sys._current_frames().get(runner.ident))
        silent = f"for {SILENT_SECONDS:.0f} seconds without any operation of lab.threadlib"
        self.set_outcome(Failure("livelock", f"{runner.name} has been at {site} {silent}", where=[site]))
        if self.ending:
            return False
        self.ending = True
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(runner.ident), ctypes.py_object(Unwind))
        return True

    # ---- points

    def point(self, verb: str, what: Any, ready: Callable[[], bool] | None = None) -> Runner:
        """The running thread is about to do something: maybe others go first. Returns the running thread."""
        me = self.current
        if self.ending:
            self.unwind(me)
        me.verb, me.what, me.ready = verb, what, ready
        me.spins = 0
        me.points += 1
        self.steps += 1
        if self.traced:
            me.site = self.site()
        if self.steps > self.limit:
            self.stop_livelock()
        following = self.pick(me)
        if following is not me:
            self.hand_over(me, following)
        me.ready = None
        if self.traced:
            self.trace.append((me, verb, what, me.site))
        return me

    def hand_over(self, me: Runner, following: Runner) -> None:
        """following runs, me waits for its turn."""
        self.segments.append((me.number, me.points))
        self.current = following
        following.baton.release()
        me.baton.acquire()
        if self.ending:
            self.unwind(me)

    def unwind(self, me: Runner) -> None:
        """End this thread; one that catches even that is left behind."""
        me.unwound += 1
        if me.unwound > STUBBORN and not me.ended:
            self.live.remove(me)
            self.pass_on(me)
            while True:
                lock = allocate_lock()
                lock.acquire()
                lock.acquire()
        raise Unwind

    def pick(self, me: Runner | None, tired: bool = False) -> Runner:
        """Who goes on. Raises Unwind when nobody can."""
        able = [runner for runner in self.live if runner.ready is None or runner.ready()]
        if self.failure is not None and len(able) < len(self.live):
            able = self.able_after_failure(able)
        if not able:
            self.stop_deadlock()
        extra = self.spuriously_able() if self.spurious else []
        if len(able) == 1 and not extra:
            return able[0]
        running = me in able
        if running and not tired:
            default = me
        elif running:
            default = next((runner for runner in able if runner.number > me.number), able[0])
        else:
            default = able[0]
        if extra:
            able = sorted(able + extra, key=lambda runner: runner.number)
        chosen = self.decide(able, default, tired or not running)
        if chosen is not default and running and not tired:
            self.preemptions += 1
        if extra and chosen in extra:
            chosen.signalled = chosen.jolted = True
        return chosen

    def decide(self, able: list[Runner], default: Runner, free: bool) -> Runner:
        """One counted decision. Its place says where in the program it is made (the default thread, that thread's
        points so far, which decision of this kind), so that it stays the same when an earlier decision is changed."""
        self.decisions += 1
        at = (default.number, default.points)
        visit = self.visits[at] = self.visits.get(at, 0) + 1
        self.place = (*at, visit)
        chosen = self.strategy.choose(able, default, free)
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
        """After a worker's failure everything that waits goes on (and is told), but join() only when nothing else
        can."""
        able = [runner for runner in self.live if runner in able or runner.verb != "joins"]
        return able or list(self.live)

    def step(self, line: int) -> None:
        """A statement of the program: a point if statements are."""
        if self.traced and not self.ending:
            self.current.line = line
        if self.switching and not self.ending:
            me = self.current
            spins = me.spins
            self.point("at", line)
            me.spins = spins

    def middle(self, value: Any, line: int) -> Any:
        """Between the reading and the writing of an assignment."""
        self.step(line)
        return value

    def loop(self, line: int) -> None:
        """A round of a while loop: others must get a turn if this is all the thread does."""
        me = self.current
        if self.ending or me is None:
            return
        me.spins += 1
        if me.spins >= SPINS:
            self.yield_point("spins", line)

    def yield_point(self, verb: str, what: Any) -> None:
        """A point at which going on is not the default: the thread waits for something that others must do."""
        me = self.current
        if self.ending:
            self.unwind(me)
        self.strategy.yielded(me)
        me.verb, me.what, me.ready = verb, what, None
        me.points += 1
        self.steps += 1
        if self.traced:
            me.site = self.site()
            self.trace.append((me, verb, what, me.site))
        if self.steps > self.limit:
            self.stop_livelock()
        following = self.pick(me, tired=True)
        if following is not me:
            self.hand_over(me, following)

    # ---- the seam of threadlib

    def spawn(self, thread: Thread, fn: Callable[[int], object]) -> None:
        """The parent goes on first, by default."""
        me = self.point("spawns", thread.name)
        self.spawned += 1
        thread.system = self.add(thread.number, thread.name, lambda: fn(thread.number))
        thread.system.spawned_at = me.site
        if self.clocks:
            self.clocks.spawn(me, thread.system)

    def join(self, threads: list[Thread]) -> None:
        """Possible when all have ended."""
        runners = [thread.system for thread in threads if thread.system is not None]
        if self.ending:
            self.unwind(self.current)
        me = self.point("joins", runners, lambda: all(runner.ended for runner in runners))
        if self.clocks:
            for runner in runners:
                self.clocks.joined(me, runner)
        if self.failure is not None:
            failure, self.told = self.failure, True
            raise failure

    def mutex(self, mutex: Mutex) -> tuple[Callable, Callable]:
        """(lock, unlock)"""
        state = mutex.state = MutexState(mutex, self)

        def lock() -> None:
            if state.holder is self.current and not self.ending and self.failure is None:
                self.misuse(f"locks {state.label} again, which it has held since {state.since}", [state.since])
            self.take(self.point("locks", state, state.free), state)

        def unlock() -> None:
            if self.ending:
                return
            me = self.point("unlocks", state)
            if state.holder is not me:
                if self.failure is not None:
                    return  # the failure has let everybody go
                self.misuse(f"unlocks {state.label}, {holder_in_words(state)}", [])
            self.release(me, state)

        return lock, unlock

    def take(self, me: Runner, state: MutexState) -> None:
        """me is the holder now."""
        state.holder, state.since = me, me.site
        me.held.append(state)
        if self.clocks:
            self.clocks.acquire(me, state)

    def release(self, me: Runner, state: MutexState) -> None:
        """Nobody is the holder now."""
        state.holder, state.last_holder = None, (me.name, me.site)
        if state in me.held:
            me.held.remove(state)
        if self.clocks:
            self.clocks.release(me, state)

    def cond(self, cond: Cond) -> tuple[Callable, Callable, Callable]:
        """(wait, signal, broadcast)"""
        state = cond.state = CondState(cond, self)

        def wait(mutex: Mutex) -> None:
            me = self.point("waits for", state)
            if self.failure is not None:
                self.told = self.told or me.number == 0
                raise self.failure
            held = mutex.state
            if held.holder is not me:
                self.misuse(f"waits for {state.label} with {held.label}, {holder_in_words(held)}", [])
            if state.waiters and state.mutex is not held:
                self.misuse(
                    f"waits for {state.label} with {held.label}, but others wait for it with {state.mutex.label}",
                    [runner.site for runner in state.waiters],
                )
            state.mutex = held
            self.release(me, held)
            me.signalled = False
            state.waiters.append(me)
            self.point("wakes", (state, held), lambda: me.signalled and held.holder is None)
            if me in state.waiters:
                state.waiters.remove(me)
            self.take(me, held)
            if self.clocks:
                self.clocks.acquire(me, state)
            if self.failure is not None:
                self.told = self.told or me.number == 0
                raise self.failure

        def wake(me: Runner, verb: str) -> None:
            if len(state.waiters) == 1 or verb == "broadcast":
                woken = state.waiters[0]
            else:
                woken = self.decide(sorted(state.waiters, key=lambda runner: runner.number), state.waiters[0], True)
            state.waiters.remove(woken)
            woken.signalled = True
            if self.traced:
                state.woke.append((me.name, me.site, self.steps, woken.name, verb))

        def signal() -> None:
            if self.ending:
                return
            me = self.point("signals", state)
            if self.clocks:
                self.clocks.publish(me, state)
            if state.waiters:
                wake(me, "signal")
            else:
                state.lost.append((me.name, me.site, self.steps))

        def broadcast() -> None:
            if self.ending:
                return
            me = self.point("broadcasts", state)
            if self.clocks:
                self.clocks.publish(me, state)
            if not state.waiters:
                state.lost.append((me.name, me.site, self.steps))
            while state.waiters:
                wake(me, "broadcast")

        return wait, signal, broadcast

    def semaphore(self, semaphore: Semaphore, n: int) -> tuple[Callable, Callable]:
        """(P, V)"""
        state = semaphore.state = SemaphoreState(semaphore, n, self)

        def P() -> None:
            me = self.point("P", state, state.positive)
            if state.count == 0:
                self.told = self.told or me.number == 0
                raise self.failure or Unwind
            state.count -= 1
            state.last_P = (me, me.site)
            if self.clocks:
                self.clocks.take_unit(me, state)

        def V() -> None:
            if self.ending:
                return
            me = self.point("V", state)
            state.count += 1
            state.last_V = (me, me.site)
            if self.clocks:
                self.clocks.give_unit(me, state)

        return P, V

    def perform(self, fn: Callable[[Any], object], task: Any) -> None:
        """fn(task), with a line in the trace."""
        if self.traced:
            self.trace.append((self.current, "performs", f"{threadlib.operation_name(fn)}({task})", self.site()))
        fn(task)

    # ---- endings

    def misuse(self, what: str, where: list[str]) -> None:
        """The running thread does something it must not."""
        me = self.current
        site = self.site() if self.traced else ""
        self.fail_run(Failure("misuse", f"{me.name} at {site} {what}", where=[site, *where], runner=me.name))

    def stop_livelock(self) -> None:
        """Too many points."""
        last: dict[str, list[str]] = {}
        for runner, _verb, _what, site in self.trace[-400:]:
            sites = last.setdefault(runner.name, [])
            if site not in sites:
                sites.append(site)
        rounds = [
            f"{name} goes round {', '.join(sorted(sites, key=site_order))}" for name, sites in sorted(last.items())
        ]
        where = [site for sites in last.values() for site in sorted(sites, key=site_order)]
        waiting = [describe_wait(runner, self) for runner in self.live if runner.ready is not None]
        message = f"no end after {self.limit:,} steps: " + "; ".join(rounds)
        self.fail_run(Failure("livelock", message, "\n".join(waiting), where))

    def stop_deadlock(self) -> None:
        """Nobody can go on."""
        circle = find_circle(self.live)
        stuck = sorted(self.live, key=lambda runner: (runner not in circle, STUCK.index(runner.verb)))
        waiting = [describe_wait(runner, self) for runner in stuck]
        where = [runner.site for runner in stuck]
        self.fail_run(Failure("deadlock", "; ".join(waiting), deadlock_detail(self), where))

    # ---- places and names

    def site(self) -> str:
        """file:line of the innermost frame of the program under check, of any program if that one is not there."""
        return self.site_of(sys._getframe(1))

    def site_of(self, frame: Any) -> str:
        """The same, from a frame on."""
        fallback = ""
        while frame is not None:
            filename = frame.f_code.co_filename
            if filename == self.user_file:
                return place(filename, frame.f_lineno)
            if not fallback and not is_ours(filename):
                fallback = place(filename, frame.f_lineno)
            frame = frame.f_back
        return fallback

    def describe(self, primitive: Any, kind: str) -> tuple[str, str]:
        """("mutex queue", "pool.py:12"): the name is the one given, or the variable it was assigned to."""
        if not self.traced:
            return kind, ""
        frame = sys._getframe(1)
        while frame is not None and is_ours(frame.f_code.co_filename):
            frame = frame.f_back
        made_at = self.site()
        name = primitive.name or variable_name(frame, type(primitive).__name__)
        if not name:
            return f"the {kind} made at {made_at}", made_at
        label = name if kind in name.lower() else f"{kind} {name}"
        number = self.labels[label] = self.labels.get(label, -1) + 1
        if name.endswith("[]"):
            label = f"{label[:-1]}{number}]"
        elif number:
            label = f"{label}#{number + 1}"
        return label, made_at


def _nothing() -> None:
    """What a carrier does between two jobs."""


def outside(frame: Any) -> Any:
    """The innermost frame from here on that is a program's; the outermost if there is none."""
    while frame.f_back is not None and is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def is_ours(filename: str) -> bool:
    """Is this a file of the checker, of the thread library or of Python's library?"""
    return filename in _OURS or filename.startswith(_HERE) or filename.startswith("<")


_HERE = __file__.rsplit("/", 1)[0] if "/" in __file__ else __file__.rsplit("\\", 1)[0]
_OURS = {threadlib.__file__, __import__("contextlib").__file__}


def site_order(site: str) -> tuple[str, int]:
    """pool.py:9 before pool.py:10"""
    name, _, line = site.rpartition(":")
    return name, int(line) if line.isdigit() else 0


def variable_name(frame: Any, made: str) -> str:
    """The variable a primitive is assigned to, read from the source line; "forks[]" for one of many."""
    import linecache
    import re

    if frame is None:
        return ""
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    match = re.match(r"\s*(?:self\.)?([\w.]+)\s*(?::[^=]+)?=\s*(.*)", line)
    if not match:
        return ""
    names = re.findall(r"(?:[\w.]*\.)?(Mutex|Cond|Semaphore)\(", match[2])
    if names != [made]:
        return ""
    several = match[2].lstrip().startswith(("[", "{", "("))
    return match[1] + ("[]" if several else "")


# ------------------------------------------------------------------------------------------------------------- in words


def holder_in_words(state: MutexState) -> str:
    """Who holds it."""
    if state.holder is not None:
        return f"which {state.holder.name} has held since {state.since}"
    if state.last_holder is not None:
        return f"which nobody holds; {state.last_holder[0]} released it last, at {state.last_holder[1]}"
    return "which nobody holds"


def describe_wait(runner: Runner, scheduler: Scheduler) -> str:
    """What a thread waits for, and why it waits in vain."""
    begin, what = f"{runner.name} waits", runner.what
    if runner.verb == "locks":
        return f"{begin} for {what.label} ({runner.site}), held by {what.holder.name} since {what.since}" + (
            ", which has ended" if what.holder.ended else ""
        )
    if runner.verb == "wakes":
        state, mutex = what
        if runner.signalled:
            return (
                f"{begin} for {mutex.label} on its way out of {state.label} ({runner.site}), {holder_in_words(mutex)}"
            )
        return f"{begin} for {state.label} ({runner.site}) and nobody is left to signal it"
    if runner.verb == "P":
        return f"{begin} in P({what.label}) ({runner.site}) and no thread that can run will V it"
    if runner.verb == "joins":
        names = [other.name for other in what if not other.ended]
        return f"{begin} for the end of {' and '.join(names)} ({runner.site})"
    return f"{runner.name} {runner.verb} ({runner.site})"


def deadlock_detail(scheduler: Scheduler) -> str:
    """What led to it: circles of mutexes, lost signals, units of semaphores that went missing."""
    lines = []
    circle = find_circle(scheduler.live)
    if circle:
        lines.append("a circle: " + " -> ".join(runner.name for runner in [*circle, circle[0]]))
    seen: list[Any] = []
    for runner in scheduler.live:
        state = runner.what[0] if runner.verb == "wakes" else runner.what
        if isinstance(state, CondState | SemaphoreState) and state not in seen:
            seen.append(state)
            lines += cond_history(state) if isinstance(state, CondState) else semaphore_history(state)
    return "\n".join(lines)


def cond_history(state: CondState) -> list[str]:
    """What happened to its signals."""
    lines = []
    if state.woke:
        name, site, step, woken, verb = state.woke[-1]
        lines.append(f"the last {verb} of {state.label} that reached a thread, by {name} at {site}, woke {woken}")
    if state.lost and not (state.woke and state.lost[-1][2] < step):
        name, site, _step = state.lost[-1]
        lines.append(
            f"a signal of {state.label} by {name} at {site} woke nobody: nobody was waiting then, and it is not kept"
        )
    if not lines:
        lines.append(f"{state.label} was never signalled")
    return lines


def semaphore_history(state: SemaphoreState) -> list[str]:
    """Where its units came from and went to."""
    made = f"{state.label} was made with {state.initial} at {state.made_at}"
    lines = [made + ("" if state.last_V or state.last_P else "; there was no V")]
    if state.last_P:
        runner, site = state.last_P
        ended = ", which has ended" if runner.ended else ""
        lines.append(f"its last unit was taken at {site} by {runner.name}{ended}")
    if state.last_V:
        lines.append(f"the last V was at {state.last_V[1]} by {state.last_V[0].name}")
    return lines


def find_circle(live: list[Runner]) -> list[Runner]:
    """Threads each of which waits for a mutex that the next one holds."""
    waits_for = {runner: runner.what.holder for runner in live if runner.verb == "locks" and runner.what.holder in live}
    for start in live:
        path: list[Runner] = []
        runner: Runner | None = start
        while runner is not None and runner not in path:
            path.append(runner)
            runner = waits_for.get(runner)
        if runner is not None and runner is start:
            return path
    return []
