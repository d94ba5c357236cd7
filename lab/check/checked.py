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

import sys
import threading
import weakref
from _thread import allocate_lock, get_ident
from collections import deque
from collections.abc import Callable
from types import CodeType
from typing import Any, NamedTuple, NoReturn

from lab.check import seam
from lab.check.names import Namer, outside
from lab.check.report import Finding, listed, place
from lab.threadlib import Cond, Mutex, Primitive, Runtime, Semaphore, Thread, WorkerFailed


class CheckFailed(Exception):
    """A thread error: the program cannot go on."""


class Record:
    """What is known of a thread. `blocked` is (verb, primitive's info, where, what would let it go on) while it
    waits."""

    __slots__ = ("blocked", "ended", "held", "name")

    def __init__(self, name: str) -> None:
        self.name, self.held, self.ended = name, [], False
        self.blocked: tuple[str, Any, Site, Callable[[], bool]] | None = None


class Info:
    """What is known of a primitive."""

    __slots__ = ("__weakref__", "after", "holder", "label", "last", "made_at", "mutex", "since")

    def __init__(self, label: str, made_at: str) -> None:
        self.label, self.made_at = label, made_at
        self.holder: Record | None = None
        self.since: Site | None = None  # where it was locked
        self.mutex: Info | None = None  # of a condition: what its waiters wait with
        self.last: Site | None = None  # of a semaphore or condition: the last V or signal
        self.after: weakref.WeakKeyDictionary[Info, Edge] = (
            weakref.WeakKeyDictionary()
        )  # of a mutex: those locked while it was held


class Edge(NamedTuple):
    """One mutex was locked while another was held."""

    at_first: str
    at_second: str
    thread: str
    gates: frozenset[int]  # the other mutexes held each time: under a common one, opposite orders do no harm


_ENTER = Mutex.__enter__.__code__


Site = tuple[CodeType, int]  # a place in the program: code and instruction, which cost less to get than a line


def caller() -> Site:
    """Whoever called lock(), P() or the like."""
    frame = sys._getframe(2)
    if frame.f_code is _ENTER:
        frame = frame.f_back or frame
    return frame.f_code, frame.f_lasti


def outer_caller() -> Site:
    """The same, beyond all frames of the libraries."""
    frame = outside(sys._getframe(2))
    return frame.f_code, frame.f_lasti


def at(site: Site | None) -> str:
    """file:line"""
    if site is None:
        return "nowhere"
    code, instruction = site
    lines = (line for start, stop, line in code.co_lines() if start <= instruction < stop and line)
    return place(code.co_filename, next(lines, code.co_firstlineno))


class Checked(Runtime):
    """The checking runtime. `report` is called with every finding; a fatal one is then raised as CheckFailed."""

    kinds = seam.KINDS

    def __init__(self, report: Callable[[Finding], None]) -> None:
        super().__init__()
        self.report = report
        self.records: dict[int, Record] = {get_ident(): Record("main")}
        self.spawned: dict[Thread, Record] = {}
        self.alive: list[Record] = list(self.records.values())
        self.guard = threading.RLock()
        self.namer = Namer()
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

    def info(self, primitive: Primitive) -> Info:
        """Name a new primitive."""
        label, made_at = self.namer.label(primitive)
        return Info(label, made_at)

    def stop(self, kind: str, message: str, detail: str = "", where: list[str] | None = None) -> NoReturn:
        """A definite error: tell it, once, and end the program."""
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
        super().spawn(thread, lambda number: self.body(record, fn, number))

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

    def body(self, record: Record, fn: Callable[[int], object], number: int) -> None:
        """fn(number), and then nothing may be held."""
        self.records[get_ident()] = record
        fn(number)
        if record.held and self.failure is None:
            held = [f"{info.label}, locked at {at(info.since)}" for info in record.held]
            where = [at(info.since) for info in record.held]
            self.stop("misuse", f"{record.name} has ended with {' and '.join(held)}", where=where)

    def join(self, threads: list[Thread]) -> None:
        """Waiting for threads to end is waiting too."""
        records = [self.spawned[thread] for thread in threads]

        def over() -> bool:
            return all(record.ended for record in records)

        if over():
            super().join(threads)
            return
        names = [record.name for record in records]
        self.blocked(self.me(), "joins", names, outer_caller(), over, lambda: Runtime.join(self, threads))

    # ---- waiting

    def check(self) -> None:
        """Raise WorkerFailed in the calling thread if some worker has failed."""
        if self.failure is not None:
            raise self.failure

    def blocked(
        self, me: Record, verb: str, info: Any, where: Site, free: Callable[[], bool], wait: Callable[[], object]
    ) -> None:
        """me waits, by wait(); free() says, without waiting, whether it need not wait any more."""
        me.blocked = (verb, info, where, free)
        try:
            for record in self.alive:
                if record.blocked is None:
                    break  # the usual case; that one will look if it stops, too
            else:
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
            self.stop("deadlock", "; ".join(lines), self.circle(records), where)

    def words(self, record: Record) -> str:
        """One thread's wait."""
        assert record.blocked is not None
        verb, info, site, _free = record.blocked
        where = at(site)
        if verb == "locks":
            holder = info.holder.name if info.holder is not None else "nobody"
            return f"{record.name} waits for {info.label} ({where}), held by {holder} since {at(info.since)}"
        if verb == "waits":
            last = f"; its last signal was at {at(info.last)}" if info.last else "; it was never signalled"
            return f"{record.name} waits for {info.label} ({where}) and nobody is left to signal it{last}"
        if verb == "P":
            last = f"; its last V was at {at(info.last)}" if info.last else "; there was no V"
            return f"{record.name} waits in P({info.label}) ({where}) and no thread that can run will V it{last}"
        return f"{record.name} waits for the end of {listed(info)} ({where})"

    def circle(self, records: list[Record]) -> str:
        """Threads each of which waits for a mutex that the next one holds."""
        waits_for = {
            record: record.blocked[1].holder for record in records if record.blocked and record.blocked[0] == "locks"
        }
        for start in records:
            path: list[Record] = []
            record: Record | None = start
            while record is not None and record not in path:
                path.append(record)
                record = waits_for.get(record)
            if record is start:
                return "a circle: " + " -> ".join(each.name for each in [*path, start])
        return ""

    # ---- primitives

    def mutex(self, mutex: Mutex) -> tuple[Callable, Callable]:
        """(lock, unlock)"""
        acquire, release = mutex.state.acquire, mutex.state.release
        records, info, getframe = self.records, self.info(mutex), sys._getframe
        _infos[mutex] = info

        def lock() -> None:
            me = records.get(get_ident()) or self.me()
            frame = getframe(1)
            if frame.f_code is _ENTER:
                frame = frame.f_back or frame
            here = frame.f_code, frame.f_lasti
            if me.held:
                self.look_at_order(me, info, here)
            if not acquire(False):
                self.blocked(me, "locks", info, here, lambda: info.holder is None, acquire)
            info.holder, info.since = me, here
            me.held.append(info)

        def unlock() -> None:
            me = records.get(get_ident()) or self.me()
            if info.holder is not me:
                if self.failure is not None:
                    return
                self.stop_unlock(me, info)
            info.holder = None
            me.held.remove(info)
            try:
                release()
            except RuntimeError:  # a failure elsewhere has released it to let everybody go
                if self.failure is None:
                    raise

        return lock, unlock

    def stop_unlock(self, me: Record, info: Info) -> None:
        """me unlocks what it does not hold."""
        here = at(outer_caller())
        held = f"which {info.holder.name} has held since {at(info.since)}" if info.holder else "which nobody holds"
        where = [here, at(info.since)] if info.holder else [here]
        self.stop("misuse", f"{me.name} at {here} unlocks {info.label}, {held}", where=where)

    def look_at_order(self, me: Record, info: Info, here: Site) -> None:
        """me holds mutexes and locks another one: was it ever the other way round?"""
        if info in me.held:
            since = at(info.since)
            message = f"{me.name} at {at(here)} locks {info.label} again, which it has held since {since}"
            self.stop("misuse", message, where=[at(here), since])
        for held in me.held:
            gates = frozenset(id(other) for other in me.held if other is not held)
            known = held.after.get(info)
            if known is not None and known.gates <= gates:
                continue
            if known is not None:
                gates &= known.gates
            held.after[info] = Edge(at(held.since), at(here), me.name, gates)
            path = self.path(info, held)
            if path and frozenset.intersection(gates, *(first.after[second].gates for first, second in path)):
                continue
            key = frozenset((id(info), id(held)))
            if path and key not in self.told:
                self.told.add(key)
                self.report_order(me, held, info, here, path)

    def path(self, start: Info, goal: Info) -> list[tuple[Info, Info]]:
        """Edges of the order from start to goal, [] if there is no way."""
        with self.guard:
            ways: dict[Info, list[tuple[Info, Info]]] = {start: []}
            queue = deque([start])
            while queue:
                info = queue.popleft()
                for following in list(info.after):
                    if following not in ways:
                        ways[following] = [*ways[info], (info, following)]
                        queue.append(following)
            return ways.get(goal, [])

    def report_order(self, me: Record, held: Info, info: Info, here: Site, path: list[tuple[Info, Info]]) -> None:
        """Not yet a deadlock, but it can be one."""
        mine = f"{me.name} locks {held.label} ({at(held.since)}) and then {info.label} ({at(here)})"
        where = [at(here), at(held.since)]
        others = []
        for first, second in path:
            at_first, at_second, name, _gates = first.after[second]
            others.append(f"{name} locked {first.label} ({at_first}) and then {second.label} ({at_second})")
            where += [at_second, at_first]
        message = f"{mine}; {'; '.join(others)}: the opposite order. Each can wait for the other for ever"
        self.report(Finding("order", message, where=list(dict.fromkeys(where)), tool="checked"))

    def cond(self, cond: Cond) -> tuple[Callable, Callable, Callable]:
        """(wait, signal, broadcast)"""
        parked = cond.state
        info = self.info(cond)

        def wait(mutex: Mutex) -> None:
            self.check()
            me, here = self.me(), caller()
            held = _infos.get(mutex)
            if held is None or held.holder is not me:
                self.stop_wait(me, info, held, at(here))
            if parked and info.mutex is not held and info.mutex is not None:
                others = f"others wait for it with {info.mutex.label}"
                message = f"{me.name} at {at(here)} waits for {info.label} with {held.label}, but {others}"
                self.stop("misuse", message, where=[at(here)])
            info.mutex = held
            turn = allocate_lock()
            turn.acquire()
            parked.append(turn)
            mutex.unlock()
            try:
                if self.failure is None:
                    self.blocked(me, "waits", info, here, lambda: turn not in parked, turn.acquire)
            finally:
                mutex.lock()
            self.check()

        def signal() -> None:
            info.last = caller()
            Cond.signal(cond)

        def broadcast() -> None:
            info.last = caller()
            for _ in range(len(parked)):
                Cond.signal(cond)

        return wait, signal, broadcast

    def stop_wait(self, me: Record, info: Info, mutex: Info | None, here: str) -> NoReturn:
        """me waits without the mutex."""
        label = mutex.label if mutex is not None else "a mutex of another runtime"
        holder = mutex.holder if mutex is not None else None
        held = f"which {holder.name} has held since {at(mutex.since)}" if holder and mutex else "which nobody holds"
        where = [here, at(mutex.since)] if holder and mutex else [here]
        self.stop("misuse", f"{me.name} at {here} waits for {info.label} with {label}, {held}", where=where)

    def semaphore(self, semaphore: Semaphore, n: int) -> tuple[Callable, Callable]:
        """(P, V)"""
        guard, count = allocate_lock(), n
        parked = semaphore.state
        info = self.info(semaphore)
        info.label += f", made with {n} at {info.made_at}"

        def P() -> None:
            nonlocal count
            with guard:
                if count > 0:
                    count -= 1
                    return
                turn = allocate_lock()
                turn.acquire()
                parked.append(turn)
            if self.failure is None:
                self.blocked(self.me(), "P", info, caller(), lambda: turn not in parked, turn.acquire)
            self.check()

        def V() -> None:
            nonlocal count
            info.last = caller()
            with guard:
                while parked:
                    turn = parked.popleft()
                    if turn.locked():
                        turn.release()
                        return
                count += 1

        return P, V


_infos: weakref.WeakKeyDictionary[Mutex, Info] = weakref.WeakKeyDictionary()
