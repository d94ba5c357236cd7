"""H2O: an oxygen lets two hydrogens go, but nothing keeps those of the next molecule from bonding first."""
# EXPECT explore assertion: HOH

from lab.threadlib import Mutex, Semaphore, join, spawn

MOLECULES = 2
hydrogens, oxygens = Semaphore(0), Semaphore(0)
mutex = Mutex("bonds")
bonds = []


def hydrogen(number):
    oxygens.V()
    hydrogens.P()
    with mutex:
        bonds.append("H")  # BUG


def oxygen(number):
    for _ in range(2):
        oxygens.P()
    for _ in range(2):
        hydrogens.V()
    with mutex:
        bonds.append("O")


def main():
    for _ in range(MOLECULES):
        spawn(oxygen)
        spawn(hydrogen)
        spawn(hydrogen)
    join()


def check(result):
    for first in range(0, len(bonds), 3):
        molecule = "".join(sorted(bonds[first : first + 3]))
        assert molecule == "HHO", f"{''.join(bonds)} is not made of HOH, HHO or OHH"
