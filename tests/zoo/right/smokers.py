"""Cigarette smokers: a pusher for each ingredient finds out which smoker can smoke (Parnas)."""

from lab.threadlib import Mutex, Semaphore, join, spawn

NAMES = ("tobacco", "paper", "matches")
put = {name: Semaphore(0, name) for name in NAMES}
wanted = {name: Semaphore(0, f"smoker with {name}") for name in NAMES}
smoked = Semaphore(0)
table = Mutex("table")
lying = set()
cigarettes = []


def pusher(name):
    def life(number):
        for _ in range(2):  # each ingredient is put on the table twice
            put[name].P()
            with table:
                if lying:
                    other = lying.pop()
                    (missing,) = set(NAMES) - {name, other}
                    wanted[missing].V()
                else:
                    lying.add(name)

    return life


def smoker(name):
    def life(number):
        wanted[name].P()
        cigarettes.append(name)
        smoked.V()

    return life


def main():
    for name in NAMES:
        spawn(pusher(name))
        spawn(smoker(name))
    for missing in NAMES:
        for name in NAMES:
            if name != missing:
                put[name].V()
        smoked.P()
    join()
    assert cigarettes == list(NAMES)
