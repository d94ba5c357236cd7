"""Unisex bathroom: whether it is free is looked up in one critical section and used in the next."""
# EXPECT explore assertion: not atomic

from lab.threadlib import Mutex, join, spawn

mutex = Mutex("door")
inside = []


def person(kind):
    def visit(number):
        entered = False
        while not entered:
            with mutex:
                free = not inside or inside[0] == kind
            if free:
                with mutex:  # BUG
                    inside.append(kind)
                    assert len(set(inside)) == 1, f"{inside} at once"
                entered = True
        with mutex:
            inside.remove(kind)

    return visit


def main():
    for kind in ("woman", "man"):
        spawn(person(kind))
    join()
