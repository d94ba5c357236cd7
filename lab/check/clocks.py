"""Vector clocks: what each thread knows of the others.

A thread's clock counts its releases (unlock, V, signal, spawn, end), and whoever acquires from it (lock, P, wait, join)
knows all that happened before (Mattern 1989; Flanagan and Freund, FastTrack, 2009). Two accesses of which neither
thread knew the other's are unordered.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from lab.check.runner import Runner

if TYPE_CHECKING:
    from lab.check.primitives import Cond, Mutex, Semaphore


class Clocks:
    """The vector clock of every thread, by number, as int32 arrays; thread numbers are used again only after join()."""

    def __init__(self, grown: Callable[[int], None] = lambda slots: None) -> None:
        self.slots = 6
        self.grown = grown  # called when there is room for more threads
        self.of: dict[int, np.ndarray] = {}

    def ensure(self, number: int) -> None:
        """Make room for a thread number."""
        if number < self.slots:
            return
        self.slots = 2 * number
        for own, clock in self.of.items():
            self.of[own] = np.concatenate([clock, np.zeros(self.slots - clock.size, np.int32)])
        self.grown(self.slots)

    def begin(self, runner: Runner) -> None:
        """The main thread has no parent."""
        if runner.number not in self.of:
            self.of[runner.number] = np.zeros(self.slots, np.int32)
            self.of[runner.number][runner.number] = 1

    def spawn(self, parent: Runner, child: Runner) -> None:
        """The child knows what its parent knows."""
        self.ensure(child.number)
        before = self.of.get(child.number)
        own = int(before[child.number]) if before is not None else 0
        self.of[child.number] = self.of[parent.number].copy()
        self.of[child.number][child.number] = own + 1
        self.tick(parent)

    def acquire(self, me: Runner, state: "Mutex | Cond") -> None:
        """A mutex is locked, or a wait is over."""
        if state.clock is not None:
            self.learn(me, state.clock)

    def release(self, me: Runner, state: "Mutex") -> None:
        """A mutex is unlocked; its holder knew what earlier holders did."""
        state.clock = self.of[me.number].copy()
        self.tick(me)

    def publish(self, me: Runner, state: "Cond") -> None:
        """A condition is signalled."""
        clock = self.of[me.number].copy()
        if state.clock is not None:
            known = state.clock.size
            np.maximum(clock[:known], state.clock, out=clock[:known])
        state.clock = clock
        self.tick(me)

    def give_unit(self, me: Runner, state: "Semaphore") -> None:
        """V: the unit carries what its giver knew."""
        state.units.append(self.of[me.number].copy())
        self.tick(me)

    def take_unit(self, me: Runner, state: "Semaphore") -> None:
        """P takes the oldest unit: one P is ordered after one V, not after all."""
        clock = state.units.popleft()
        if clock is not None:
            self.learn(me, clock)

    def learn(self, me: Runner, clock: np.ndarray) -> None:
        """me's clock becomes the larger of the two, entry by entry."""
        mine = self.of[me.number][: clock.size]
        np.maximum(mine, clock, out=mine)

    def tick(self, me: Runner) -> None:
        """A new epoch of this thread."""
        self.of[me.number][me.number] += 1
