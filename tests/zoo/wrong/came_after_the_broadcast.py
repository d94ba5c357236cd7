"""Workers are told to stop by a broadcast; one has looked before it, without the mutex, and waits after it."""
# EXPECT explore deadlock: came to wait only after it, and a broadcast is not kept

from lab.threadlib import Cond, Mutex, Semaphore, join, spawn

mutex, changed, waits = Mutex(), Cond(), Semaphore(0)
stop = False


def careful(number):
    with mutex:
        waits.V()
        while not stop:
            changed.wait(mutex)


def careless(number):
    while not stop:
        with mutex:
            changed.wait(mutex)  # BUG


def main():
    global stop
    spawn(careful)
    spawn(careless)
    waits.P()
    with mutex:
        stop = True
        changed.broadcast()
    join()
