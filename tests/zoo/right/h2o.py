"""H2O: three atoms bond at a time, held together by a barrier."""

from lab.threadlib import Cond, Mutex, Semaphore, join, spawn

MOLECULES = 2
hydrogen_may, oxygen_may = Semaphore(2), Semaphore(1)
bonds = []


class Barrier:
    def __init__(self, n):
        self.n, self.mutex, self.all_here = n, Mutex("barrier"), Cond("all here")
        self.here = self.round = 0

    def wait(self, last):
        with self.mutex:
            round = self.round
            self.here += 1
            if self.here == self.n:
                self.here, self.round = 0, round + 1
                last()
                self.all_here.broadcast()
            while self.round == round:
                self.all_here.wait(self.mutex)


molecule = []
mutex = Mutex("molecule")
barrier = Barrier(3)


def finished():
    with mutex:
        bonds.append("".join(sorted(molecule)))
        molecule.clear()
    for _ in range(2):
        hydrogen_may.V()
    oxygen_may.V()


def atom(kind, may):
    def bond(number):
        may.P()
        with mutex:
            molecule.append(kind)
        barrier.wait(finished)

    return bond


def main():
    for _ in range(MOLECULES):
        spawn(atom("O", oxygen_may))
        spawn(atom("H", hydrogen_may))
        spawn(atom("H", hydrogen_may))
    join()
    assert bonds == ["HHO"] * MOLECULES
