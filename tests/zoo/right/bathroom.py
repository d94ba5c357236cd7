"""Unisex bathroom: one condition for both kinds, looked at again after every wakeup."""

from lab.threadlib import Cond, Mutex, join, spawn

mutex, changed = Mutex("door"), Cond("changed")
inside = []
visits = 0


def person(kind):
    def visit(number):
        global visits
        with mutex:
            while inside and (inside[0] != kind or len(inside) == 2):
                changed.wait(mutex)
            inside.append(kind)
            assert len(set(inside)) == 1
        with mutex:
            inside.remove(kind)
            visits += 1
            changed.broadcast()

    return visit


def main():
    for kind in ("woman", "man", "woman", "man"):
        spawn(person(kind))
    join()
    assert visits == 4 and not inside
