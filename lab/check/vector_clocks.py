"""Vector clocks: what each thread knows of the others.

A thread's clock counts its releases (unlock, V, signal, spawn, end), and whoever acquires from it (lock, P, wait, join)
knows all that happened before (Mattern 1989; Flanagan and Freund, FastTrack, 2009). Two accesses of which neither
thread knew the other's are unordered.
"""

from collections.abc import Callable

import numpy as np

from lab.check.runner import Runner


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

    def acquire(self, me: Runner, known: np.ndarray | None) -> None:
        """me locks, takes a unit, comes back from a wait or joins: it learns what was released there, if anything."""
        join(self.of[me.number], known)

    def release(self, me: Runner) -> np.ndarray:
        """me unlocks, signals or gives a unit: what it knows now, for whoever acquires it."""
        known = self.of[me.number].copy()
        self.tick(me)
        return known

    def tick(self, me: Runner) -> None:
        """A new epoch of this thread."""
        self.of[me.number][me.number] += 1


def join(clock: np.ndarray, known: np.ndarray | None) -> None:
    """The clock becomes the larger of the two, entry by entry; the other may be shorter, or None."""
    if known is not None:
        shared = clock[: known.size]
        np.maximum(shared, known, out=shared)
