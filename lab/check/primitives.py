"""Mutexes, conditions and semaphores under the explorer: what is known of each, and what their operations do."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lab.check.clocks import Clocks
from lab.check.runner import Runner, Unwind
from lab.threadlib import Cond, Mutex, Primitive, Runtime, Semaphore

if TYPE_CHECKING:
    from lab.check.scheduler import Scheduler


class PrimitiveState:
    """What messages say about any primitive; `number` counts them in the order of making."""

    __slots__ = ("clock", "label", "made_at", "number")

    def __init__(self, primitive: Primitive, scheduler: "Scheduler") -> None:
        self.label, self.made_at = scheduler.describe(primitive)
        self.number = scheduler.made = scheduler.made + 1
        self.clock: np.ndarray | None = None  # the race detector's


class MutexState(PrimitiveState):
    """holder is None when free."""

    __slots__ = ("free", "holder", "last_holder", "since")

    def __init__(self, mutex: Mutex, scheduler: "Scheduler") -> None:
        super().__init__(mutex, scheduler)
        self.holder: Runner | None = None
        self.last_holder: tuple[str, str] | None = None
        self.since = ""  # where it was locked
        self.free = lambda: self.holder is None


class Woke(NamedTuple):
    """A signal or broadcast (`verb`) that woke a thread; `longer` had waited longer than the one woken."""

    name: str
    site: str
    step: int
    woken: str
    verb: str
    longer: str


class CondState(PrimitiveState):
    """waiters in order of arrival; signals are remembered for messages, those that woke nobody apart from the
    others."""

    __slots__ = ("lost", "mutex", "waiters", "woke")

    def __init__(self, cond: Cond, scheduler: "Scheduler") -> None:
        super().__init__(cond, scheduler)
        self.waiters: list[Runner] = []
        self.lost: list[tuple[str, str, int]] = []  # (thread, site, step)
        self.woke: list[Woke] = []
        self.mutex: MutexState | None = None  # what its waiters wait with


class SemaphoreState(PrimitiveState):
    """count units; with the race detector, the clock of each unit, oldest first (None for units there from the
    beginning)."""

    __slots__ = ("count", "initial", "last_P", "last_V", "positive", "units")

    def __init__(self, semaphore: Semaphore, n: int, scheduler: "Scheduler") -> None:
        super().__init__(semaphore, scheduler)
        self.count = self.initial = n
        self.units: deque[np.ndarray | None] = deque([None] * n)
        self.last_P: tuple[Runner, str] | None = None
        self.last_V: tuple[Runner, str] | None = None
        self.positive = lambda: self.count > 0


class Operations(Runtime):
    """The operations of primitives. The scheduler that derives from this has the points."""

    clocks: Clocks | None  # the race detector's
    semaphores: list[SemaphoreState]  # in the order of making
    told: bool  # the main thread has seen the worker's failure

    def mutex(self: Any, mutex: Mutex) -> tuple[Callable, Callable]:
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

    def cond(self: Any, cond: Cond) -> tuple[Callable, Callable, Callable]:
        """(wait, signal, broadcast)"""
        state = cond.state = CondState(cond, self)

        def wait(mutex: Mutex) -> None:
            me = self.point("waits for", state)
            self.tell_failure(me)
            held = mutex.state
            if held.holder is not me:
                self.misuse(f"waits for {state.label} with {held.label}, {holder_in_words(held)}", [])
            other = state.mutex
            if state.waiters and other is not None and other is not held:
                self.misuse(
                    f"waits for {state.label} with {held.label}, but others wait for it with {other.label}",
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
            self.tell_failure(me)

        def wake(me: Runner, verb: str) -> None:
            longest = state.waiters[0]
            if len(state.waiters) == 1 or verb == "broadcast":
                woken = longest
            else:
                woken = self.decide(sorted(state.waiters, key=lambda runner: runner.number), longest, True)
            state.waiters.remove(woken)
            woken.signalled = True
            if self.traced:
                longer = longest.name if longest is not woken else ""
                state.woke.append(Woke(me.name, me.site, self.steps, woken.name, verb, longer))

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

    def tell_failure(self, me: Runner) -> None:
        """Raise WorkerFailed in a thread that waits, if a worker has failed."""
        if self.failure is not None:
            self.told = self.told or me.number == 0
            raise self.failure

    def semaphore(self: Any, semaphore: Semaphore, n: int) -> tuple[Callable, Callable]:
        """(P, V)"""
        state = semaphore.state = SemaphoreState(semaphore, n, self)
        self.semaphores.append(state)

        def P() -> None:
            me = self.point("P", state, state.positive)
            if state.count == 0:
                self.tell_failure(me)
                raise Unwind
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


def holder_in_words(state: MutexState) -> str:
    """Who holds it."""
    if state.holder is not None:
        return f"which {state.holder.name} has held since {state.since}"
    if state.last_holder is not None:
        return f"which nobody holds; {state.last_holder[0]} released it last, at {state.last_holder[1]}"
    return "which nobody holds"
