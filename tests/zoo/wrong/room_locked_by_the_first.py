"""Readers and writers: the first reader locks a mutex that the last one, perhaps another thread, unlocks; that is what
semaphores are for."""
# EXPECT explore misuse: mutex room

from lab.threadlib import Mutex, join, spawn

room, counter = Mutex("room"), Mutex("counter")
readers = 0


def reader(number):
    global readers
    with counter:
        readers += 1
        if readers == 1:
            room.lock()  # BUG
    with counter:
        readers -= 1
        if readers == 0:
            room.unlock()  # BUG


def main():
    spawn(reader)
    spawn(reader)
    join()
