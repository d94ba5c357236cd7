"""Mutexes, conditions and semaphores under the explorer: what is known of each, and what their operations do."""

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lab import threadlib
from lab.check.runner import Runner, Unwind
from lab.check.vector_clocks import join

if TYPE_CHECKING:
    from lab.check.scheduler import Scheduler


class Known(threadlib.Primitive):
    """What messages say about any primitive; `number` counts them in the order of making."""

    runtime: "Scheduler"

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.label, self.made_at = self.runtime.describe(self)
        self.number = self.runtime.made = self.runtime.made + 1
        self.clock: np.ndarray | None = None  # the race detector's

    def tell_failure(self, me: Runner) -> None:
        """Raise WorkerFailed in a thread that waits, if a worker has failed."""
        run = self.runtime
        if run.failure is not None:
            run.told = run.told or me.number == 0  # the main thread has seen it
            raise run.failure


class Mutex(Known, threadlib.Mutex):
    """holder is None when free."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.holder: Runner | None = None
        self.last_holder: tuple[str, str] | None = None
        self.since, self.taken = "", 0  # where it was locked, and at which step
        self.free = lambda: self.holder is None

    def lock(self) -> None:
        """A point; possible when it is free."""
        run = self.runtime
        if self.holder is run.current and not run.ending and run.failure is None:
            run.misuse(
                f"locks {self.label} again, which it has held since {self.since}: no other thread may unlock it",
                [self.since],
            )
        self.take(run.point("locks", self, self.free))

    def unlock(self) -> None:
        """A point."""
        run = self.runtime
        if run.ending:
            return
        me = run.point("unlocks", self)
        if self.holder is not me:
            if run.failure is not None:
                return  # the failure has let everybody go
            run.misuse(f"unlocks {self.label}, {self.holder_in_words()}", [])
        self.release(me)

    def take(self, me: Runner) -> None:
        """me is the holder now."""
        self.holder, self.since, self.taken = me, me.site, self.runtime.steps
        me.held.append(self)
        if self.runtime.clocks:
            self.runtime.clocks.acquire(me, self.clock)

    def release(self, me: Runner) -> None:
        """Nobody is the holder now."""
        self.holder, self.last_holder = None, (me.name, me.site)
        if self in me.held:
            me.held.remove(self)
        if self.runtime.clocks:
            self.clock = self.runtime.clocks.release(me)  # its holder knew what earlier holders did

    def holder_in_words(self) -> str:
        """Who holds it."""
        if self.holder is not None:
            return f"which {self.holder.name} has held since {self.since}"
        if self.last_holder is not None:
            return f"which nobody holds; {self.last_holder[0]} released it last, at {self.last_holder[1]}"
        return "which nobody holds"


class Woke(NamedTuple):
    """A signal or broadcast (`verb`) that woke a thread; `longer` had waited longer than the one woken."""

    name: str
    site: str
    step: int
    woken: str
    verb: str
    longer: str


class Cond(Known, threadlib.Cond):
    """waiters in order of arrival; signals are remembered for messages, those that woke nobody apart from the
    others."""

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.waiters: list[Runner] = []
        self.came: dict[Runner, int] = {}  # the step of each thread's latest wait
        self.looked: dict[Runner, tuple[int, str]] = {}  # when, and where, it had locked the mutex for it
        self.lost: list[tuple[str, str, int]] = []  # (thread, site, step)
        self.woke: list[Woke] = []
        self.mutex: Mutex | None = None  # what its waiters wait with

    def wait(self, mutex: Mutex) -> None:
        """Two points: on the way in, and when it has been signalled and can lock the mutex again."""
        run = self.runtime
        me = run.point("waits for", self)
        self.tell_failure(me)
        if mutex.holder is not me:
            run.misuse(f"waits for {self.label} with {mutex.label}, {mutex.holder_in_words()}", [])
        if self.waiters and self.mutex is not None and self.mutex is not mutex:
            run.misuse(
                f"waits for {self.label} with {mutex.label}, but others wait for it with {self.mutex.label}",
                [runner.site for runner in self.waiters],
            )
        self.mutex, self.looked[me] = mutex, (mutex.taken, mutex.since)
        mutex.release(me)
        me.signalled = False
        self.waiters.append(me)
        self.came[me] = run.steps
        run.point("wakes", (self, mutex), lambda: me.signalled and mutex.holder is None)
        if me in self.waiters:
            self.waiters.remove(me)
        mutex.take(me)
        if run.clocks:
            run.clocks.acquire(me, self.clock)
        self.tell_failure(me)

    def signal(self) -> None:
        """A point; of several that wait, any may be woken."""
        self.wake("signals", 1)

    def broadcast(self) -> None:
        """A point."""
        self.wake("broadcasts", None)

    def wake(self, verb: str, most: int | None) -> None:
        """Wake one thread, or all."""
        run = self.runtime
        if run.ending:
            return
        me = run.point(verb, self)
        if run.clocks:
            before, self.clock = self.clock, run.clocks.release(me)
            join(self.clock, before)
        if not self.waiters:
            self.lost.append((me.name, me.site, run.steps))
        for longest in self.waiters[:most]:
            woken = longest
            if most is not None and len(self.waiters) > 1:
                woken = run.decide(sorted(self.waiters, key=lambda runner: runner.number), longest, True)
            self.waiters.remove(woken)
            woken.signalled = True
            if run.traced:
                longer = longest.name if longest is not woken else ""
                self.woke.append(Woke(me.name, me.site, run.steps, woken.name, verb.removesuffix("s"), longer))


class Semaphore(Known, threadlib.Semaphore):
    """count units; with the race detector, the clock of each unit, oldest first (None for units there from the
    beginning)."""

    def __init__(self, n: int = 0, name: str | None = None) -> None:
        super().__init__(n, name)
        self.initial = n
        self.units: deque[np.ndarray | None] = deque([None] * n)
        self.last_P: tuple[Runner, str] | None = None
        self.last_V: tuple[Runner, str] | None = None
        self.positive = lambda: self.count > 0
        self.runtime.semaphores.append(self)

    def P(self) -> None:
        """A point; possible when there is a unit."""
        run = self.runtime
        me = run.point("P", self, self.positive)
        if self.count == 0:
            self.tell_failure(me)
            raise Unwind
        self.count -= 1
        self.last_P = (me, me.site)
        if run.clocks:
            run.clocks.acquire(me, self.units.popleft())  # the oldest: one P is ordered after one V, not after all

    def V(self) -> None:
        """A point."""
        run = self.runtime
        if run.ending:
            return
        me = run.point("V", self)
        self.count += 1
        self.last_V = (me, me.site)
        if run.clocks:
            self.units.append(run.clocks.release(me))
