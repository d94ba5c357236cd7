"""Readers and writers: two readers that both want to become the writer wait for each other to leave."""
# EXPECT explore deadlock: condition

from lab.threadlib import Cond, Mutex, join, spawn

mutex, changed = Mutex("lock"), Cond("readers changed")
readers = 0
value = 0


def upgrade(number):
    global readers, value
    with mutex:
        readers += 1
    seen = value
    with mutex:
        while readers > 1:
            changed.wait(mutex)  # BUG
        value = seen + 1
        readers -= 1
        changed.broadcast()


def main():
    spawn(upgrade)
    spawn(upgrade)
    join()
