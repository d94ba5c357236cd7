"""Exercise 2: a barrier that is used many times, about 8 lines. Check it: make exercise E=2

k threads call wait(). Nobody comes back before all k have called it; then all do. After that the barrier is as new: the
same threads meet there again, hundreds of times for each token of a GPT-2.

As it stands it holds the threads back once, and never again.
"""

from lab.threadlib import Cond, Mutex


class Barrier:
    """A place where k threads wait for each other, round after round."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.arrived = 0
        self.mutex = Mutex("barrier")
        self.all_here = Cond("all here")

    def wait(self) -> None:
        """Come back when all k threads have called this in the same round."""
        with self.mutex:
            self.arrived += 1
            if self.arrived == self.k:
                self.all_here.broadcast()
            while self.arrived < self.k:
                self.all_here.wait(self.mutex)
