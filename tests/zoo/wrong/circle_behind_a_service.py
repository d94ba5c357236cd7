"""Two workers wait for each other, while a third one goes on serving for ever."""
# EXPECT explore deadlock: a cycle: worker-1 -> worker-2 -> worker-1
# EXPECT checked order: the opposite order

import time

from lab.threadlib import Mutex, join, spawn

a, b, state = Mutex(), Mutex(), Mutex()
stop = False


def one(number):
    with a, b:  # BUG
        pass


def two(number):
    with b, a:  # BUG
        pass


def service(number):
    while True:
        with state:
            if stop:
                return
        time.sleep(0.001)


def main():
    global stop
    workers = spawn(one), spawn(two)
    spawn(service)
    join(*workers)
    with state:
        stop = True
    join()
