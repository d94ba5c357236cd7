"""Readers and writers: only one reader may reserve the right to become the writer; the others read again."""

from lab.threadlib import Cond, Mutex, join, spawn

mutex, changed = Mutex("lock"), Cond("readers changed")
readers = 0
reserved = False
value = 0


def increment(number):
    global readers, reserved, value
    with mutex:
        while reserved:
            changed.wait(mutex)
        reserved = True
        readers += 1
    seen = value
    with mutex:
        while readers > 1:
            changed.wait(mutex)
        value = seen + 1
        readers -= 1
        reserved = False
        changed.broadcast()


def look(number):
    global readers
    with mutex:
        readers += 1
    assert 0 <= value <= 2
    with mutex:
        readers -= 1
        changed.broadcast()


def main():
    spawn(increment)
    spawn(look)
    spawn(increment)
    join()
    assert value == 2
