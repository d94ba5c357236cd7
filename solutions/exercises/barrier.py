"""Exercise 2: each round has a number, so nobody mistakes the next round for the one it waits in."""

from lab.threadlib import Cond, Mutex


class Barrier:
    """A place where k threads wait for each other, round after round."""

    def __init__(self, k: int) -> None:
        self.k = k
        self.arrived = 0
        self.round = 0
        self.mutex = Mutex("barrier")
        self.all_here = Cond("all here")

    def wait(self) -> None:
        """Come back when all k threads have called this in the same round."""
        with self.mutex:
            mine = self.round
            self.arrived += 1
            if self.arrived == self.k:
                self.arrived = 0
                self.round += 1
                self.all_here.broadcast()
            while self.round == mine:
                self.all_here.wait(self.mutex)
