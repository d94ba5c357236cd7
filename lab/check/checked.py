"""Checked mode: real threads and real locks that watch how they are used.

Reported at once, with both places: unlocking what one does not hold, locking again what one holds, waiting without the
mutex or with another one than the other waiters, ending with a mutex held, mutexes locked in opposite orders (also when
it has not deadlocked yet), and, when every thread waits for another, who waits for whom. At the end: threads that
nobody joined.

A thread that has to wait says so first, and then looks whether any thread is left that does not wait: the last one to
stop finds out. No clock is involved, so a slow machine raises no alarm. Nor is the state of a lock: a thread that has
been given one may not have run since. What counts is what whoever gave it has put down: that the mutex has no holder,
that the turn is no longer parked.
"""

import atexit
import os
import sys
import threading
import weakref
from _thread import get_ident
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import CodeType
from typing import Any, ClassVar, NamedTuple, NoReturn

from lab import threadlib
from lab.check.names import label_of, outside
from lab.check.report import Finding, listed, place
from lab.check.runner import ran
from lab.check.waiting import cycle_in_words, first_cycle
from lab.threadlib import Runtime, Thread, WorkerFailed


class CheckFailed(Exception):
    """A thread error: the program cannot go on."""


@dataclass(slots=True, eq=False)
class Record:
    """What is known of a thread. `blocked` is (verb, primitive or names, where, what would let it go on) while it
    waits; `about`, in P and wait, what it is then blocked by."""

    name: str
    held: "list[Mutex]" = field(default_factory=list)
    ended: bool = False
    blocked: "tuple[str, Any, Site, Callable[[], bool]] | None" = None
    about: "tuple[str, Cond | Semaphore, Site] | None" = None


class Edge(NamedTuple):
    """One mutex was locked while another was held."""

    at_first: str
    at_second: str
    thread: str
    gates: frozenset[int]  # the other mutexes held each time: under a common one, opposite orders do no harm


# ------------------------------------------------------------------------------------------------------------- places

Site = tuple[CodeType, int]  # a place in the program: code and instruction, which cost less to get than a line


def caller() -> Site:
    """Whoever called lock(), P() or the like, beyond all frames of the libraries."""
    frame = outside(sys._getframe(2))
    return frame.f_code, frame.f_lasti


def at(site: Site | None) -> str:
    """file:line"""
    if site is None:
        return "nowhere"
    code, instruction = site
    lines = (line for start, stop, line in code.co_lines() if start <= instruction < stop and line)
    return place(code.co_filename, next(lines, code.co_firstlineno))


# --------------------------------------------------------------------------------------------------------- primitives


class Mutex(threadlib.Mutex):
    """It knows who holds it, and which mutexes were locked meanwhile."""

    runtime: "Checked"

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.label, _made_at = label_of(self, self.runtime.labels)
        self.holder: Record | None = None
        self.since: Site | None = None  # where it was locked
        self.after: weakref.WeakKeyDictionary[Mutex, Edge] = weakref.WeakKeyDictionary()

    def lock(self) -> None:
        """Look at the order of locking, then wait."""
        run, here = self.runtime, caller()
        me = run.me()
        if me.held:
            run.look_at_order(me, self, here)
        if not self.state.acquire(False):
            run.blocked(me, "locks", self, here, lambda: self.holder is None, self.state.acquire)
        self.holder, self.since = me, here
        me.held.append(self)

    def unlock(self) -> None:
        """Only by its holder."""
        run = self.runtime
        me = run.me()
        if self.holder is not me:
            if run.failure is not None:
                return
            run.stop_unheld(me, at(caller()), "unlocks", self)
        self.holder = None
        me.held.remove(self)
        try:
            self.state.release()
        except RuntimeError:  # a failure elsewhere has released it to let everybody go
            if run.failure is None:
                raise


class Cond(threadlib.Cond):
    """It knows what its waiters wait with, and the last signal."""

    runtime: "Checked"

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.label, _made_at = label_of(self, self.runtime.labels)
        self.mutex: Mutex | None = None
        self.last: Site | None = None

    def wait(self, mutex: threadlib.Mutex) -> None:
        """With a mutex that is held, and the same for all."""
        run, here = self.runtime, caller()
        run.check()
        me = run.me()
        if not isinstance(mutex, Mutex) or mutex.holder is not me:
            run.stop_unheld(me, at(here), f"waits for {self.label} with", mutex)
        if self.state and self.mutex is not mutex and self.mutex is not None:
            what = f"waits for {self.label} with {mutex.label}, but others wait for it with {self.mutex.label}"
            run.stop("misuse", f"{me.name} at {at(here)} {what}", where=[at(here)])
        self.mutex, me.about = mutex, ("waits", self, here)
        super().wait(mutex)
        run.check()

    def signal(self) -> None:
        """The last one is told in messages."""
        self.last = caller()
        super().signal()

    def broadcast(self) -> None:
        """The same for all that wait."""
        self.last = caller()
        for _ in range(len(self.state)):
            super().signal()


class Semaphore(threadlib.Semaphore):
    """It knows the last V."""

    runtime: "Checked"

    def __init__(self, n: int = 0, name: str | None = None) -> None:
        super().__init__(n, name)
        label, made_at = label_of(self, self.runtime.labels)
        self.label = f"{label}, made with {n} at {made_at}"
        self.last: Site | None = None

    def P(self) -> None:
        """What it may have to wait for is said first."""
        self.runtime.me().about = "P", self, caller()
        super().P()

    def V(self) -> None:
        """The last one is told in messages."""
        self.last = caller()
        super().V()


# -------------------------------------------------------------------------------------------------------- the runtime


class Checked(Runtime):
    """The checking runtime. `report` is called with every finding; a fatal one is then raised as CheckFailed."""

    kinds: ClassVar = {threadlib.Mutex: Mutex, threadlib.Cond: Cond, threadlib.Semaphore: Semaphore}

    def __init__(self, report: Callable[[Finding], None]) -> None:
        super().__init__()
        self.report = report
        self.records: dict[int, Record] = {get_ident(): Record("main")}
        self.spawned: dict[Thread, Record] = {}
        self.alive: list[Record] = list(self.records.values())
        self.guard = threading.RLock()
        self.labels: dict[str, int] = {}  # of primitives -> how many there are
        self.told: set[frozenset[int]] = set()
        self.over = False

    def me(self) -> Record:
        """The calling thread."""
        record = self.records.get(get_ident())
        if record is None:
            record = self.records[get_ident()] = Record(threading.current_thread().name)
            with self.guard:
                self.alive.append(record)
        return record

    def stop(self, kind: str, message: str, detail: str = "", where: list[str] | None = None) -> NoReturn:
        """A definite error: tell it, once, and end the program. Raises CheckFailed."""
        with self.guard:
            if not self.over:
                self.over = True
                self.report(Finding(kind, message, detail, where or [], tool="checked"))
        failed = CheckFailed(message)
        if self.failure is None:
            self.failure = WorkerFailed(message)
            self.failure.__cause__ = failed
            self.wake_all()  # the others must not wait for what this thread holds
        raise failed

    # ---- threads

    def spawn(self, thread: Thread, fn: Callable[[int], object]) -> None:
        """The thread is known from now on, also while it has not begun to run."""
        record = self.spawned[thread] = Record(thread.name)  # others may join it as soon as it runs
        with self.guard:
            self.alive.append(record)
        here = caller()
        super().spawn(thread, lambda number: self.body(record, fn, number, here))

    def work(self, thread: Thread, fn: Callable[[int], object]) -> None:
        """What a spawned thread runs."""
        super().work(thread, fn)
        with self.guard:
            record = self.records.pop(get_ident())
            record.ended = True
            self.alive.remove(record)
        try:
            self.look_for_stall()
        except CheckFailed as failed:
            self.fail(thread, failed)

    def body(self, record: Record, fn: Callable[[int], object], number: int, spawned: Site) -> None:
        """fn(number), and then nothing may be held."""
        self.records[get_ident()] = record
        try:
            ran(fn(number))
        except TypeError as error:
            if error.__traceback__ is not None and error.__traceback__.tb_next is None:  # fn cannot be called like this
                error.add_note(f"in {record.name}, spawned at {at(spawned)}")
            raise
        if record.held and self.failure is None:
            held = " and ".join(f"{mutex.label}, locked at {at(mutex.since)}" for mutex in record.held)
            where = [at(mutex.since) for mutex in record.held]
            self.stop("misuse", f"{record.name} has ended with {held}", where=where)

    def join(self, threads: list[Thread]) -> None:
        """Waiting for threads to end is waiting too."""
        records = [self.spawned[thread] for thread in threads]
        self.blocked(
            self.me(), "joins", [record.name for record in records], caller(),
            lambda: all(record.ended for record in records), lambda: Runtime.join(self, threads),
        )  # fmt: skip

    # ---- waiting

    def check(self) -> None:
        """Raise WorkerFailed in the calling thread if some worker has failed."""
        if self.failure is not None:
            raise self.failure

    def wait_for(self, turn: Any) -> None:
        """Sleep until the turn is released, or somebody has failed."""
        me = self.me()
        assert me.about is not None
        verb, primitive, where = me.about
        if self.failure is None:
            self.blocked(me, verb, primitive, where, lambda: turn not in primitive.state, turn.acquire)
        self.check()

    def blocked(
        self, me: Record, verb: str, what: Any, where: Site, free: Callable[[], bool], wait: Callable[[], object]
    ) -> None:
        """me waits, by wait(); free() says, without waiting, whether it need not wait any more."""
        me.blocked = (verb, what, where, free)
        try:
            if all(record.blocked is not None for record in self.alive):  # else one that is not will look if it stops
                self.look_for_stall()
            wait()
        finally:
            me.blocked = None

    def look_for_stall(self) -> None:
        """Does every thread wait, none of them able to go on? This can change only through a thread that does not
        wait."""
        with self.guard:
            if self.over or self.failure is not None:
                return
            records = sorted(self.alive, key=lambda record: record.blocked is not None and record.blocked[0] == "joins")
            states = [record.blocked for record in records]
            if any(state is None or state[3]() for state in states):
                return
            if any(record.blocked is not state for record, state in zip(records, states, strict=True)):
                return  # one has gone on since: it will look itself if it stops again
            lines = [self.words(record) for record in records]
            where = [at(state[2]) for state in states if state is not None]
            cycle = [record.name for record in first_cycle(records, waits_for)]
            self.stop("deadlock", "; ".join(lines), cycle_in_words(cycle) if cycle else "", where)

    def words(self, record: Record) -> str:
        """One thread's wait."""
        assert record.blocked is not None
        verb, what, site, _free = record.blocked
        where = at(site)
        match verb:
            case "locks":
                holder = what.holder.name if what.holder is not None else "nobody"
                return f"{record.name} waits for {what.label} ({where}), held by {holder} since {at(what.since)}"
            case "waits":
                last = f"; its last signal was at {at(what.last)}" if what.last else "; it was never signalled"
                return f"{record.name} waits for {what.label} ({where}) and nobody is left to signal it{last}"
            case "P":
                last = f"; its last V was at {at(what.last)}" if what.last else "; there was no V"
                return f"{record.name} waits in P({what.label}) ({where}) and no thread that can run will V it{last}"
        return f"{record.name} waits for the end of {listed(what)} ({where})"

    # ---- misuse

    def stop_unheld(self, me: Record, here: str, does: str, mutex: threadlib.Mutex) -> NoReturn:
        """me does what it may do only while it holds the mutex."""
        label, held, where = "a mutex of another runtime", "which nobody holds", [here]
        if isinstance(mutex, Mutex):
            label = mutex.label
            if mutex.holder is not None:
                held, where = f"which {mutex.holder.name} has held since {at(mutex.since)}", [here, at(mutex.since)]
        self.stop("misuse", f"{me.name} at {here} {does} {label}, {held}", where=where)

    def look_at_order(self, me: Record, mutex: Mutex, here: Site) -> None:
        """me holds mutexes and locks another one: was it ever the other way round?"""
        if mutex in me.held:
            since = at(mutex.since)
            what = f"locks {mutex.label} again, which it has held since {since}: no other thread may unlock it"
            self.stop("misuse", f"{me.name} at {at(here)} {what}", where=[at(here), since])
        if len(self.alive) == 1:
            return  # nobody is there to whom it could matter
        for held in me.held:
            gates = frozenset(id(other) for other in me.held if other is not held)
            known = held.after.get(mutex)
            if known is not None and known.gates <= gates:
                continue
            gates &= known.gates if known is not None else gates
            held.after[mutex] = Edge(at(held.since), at(here), me.name, gates)
            path = self.path(mutex, held)
            common = gates.intersection(*(first.after[second].gates for first, second in path))
            key = frozenset((id(mutex), id(held)))
            if path and not common and key not in self.told:
                self.told.add(key)
                self.report_order(me, held, mutex, here, path)

    def path(self, start: Mutex, goal: Mutex) -> list[tuple[Mutex, Mutex]]:
        """Edges of the order from start to goal, [] if there is no way."""
        with self.guard:
            ways: dict[Mutex, list[tuple[Mutex, Mutex]]] = {start: []}
            queue = deque([start])
            while queue:
                mutex = queue.popleft()
                for following in list(mutex.after):
                    if following not in ways:
                        ways[following] = [*ways[mutex], (mutex, following)]
                        queue.append(following)
            return ways.get(goal, [])

    def report_order(self, me: Record, held: Mutex, mutex: Mutex, here: Site, path: list[tuple[Mutex, Mutex]]) -> None:
        """Not yet a deadlock, but it can be one."""
        mine = f"{me.name} locks {held.label} ({at(held.since)}) and then {mutex.label} ({at(here)})"
        where = [at(here), at(held.since)]
        others = []
        for first, second in path:
            at_first, at_second, name, _gates = first.after[second]
            others.append(f"{name} locked {first.label} ({at_first}) and then {second.label} ({at_second})")
            where += [at_second, at_first]
        message = f"{mine}; {'; '.join(others)}: the opposite order. Each can wait for the other for ever"
        self.report(Finding("order", message, where=list(dict.fromkeys(where)), tool="checked"))


def waits_for(record: Record) -> list[Record]:
    """Who holds the mutex that a thread waits for."""
    holder = record.blocked[1].holder if record.blocked is not None and record.blocked[0] == "locks" else None
    return [holder] if holder is not None else []


# ----------------------------------------------------------------------------------------------------- whole processes


def install() -> Checked:
    """Make checked mode the runtime of this process, whatever program runs in it. A thread error ends it with exit code
    4 (one that can wait, at its end)."""
    shown: list[Finding] = []
    leave = os._exit

    def report(finding: Finding) -> None:
        shown.append(finding)
        sys.stdout.flush()
        print(f"\nchecked mode: {finding.kind}: {finding.text()}", file=sys.stderr, flush=True)
        if finding.kind != "order":
            leave(4)

    def at_exit() -> None:
        left = threadlib.threads()
        if left and runtime.failure is None and not shown:
            names = ", ".join(thread.name for thread in left)
            report(Finding("unjoined", f"the program ended without joining {names}", tool="checked"))
        if shown:
            sys.stdout.flush()
            leave(4)

    os._exit = lambda code: leave(4 if shown else code)  # type: ignore[assignment]
    runtime = Checked(report)
    threadlib.install(runtime)
    atexit.register(at_exit)
    return runtime
