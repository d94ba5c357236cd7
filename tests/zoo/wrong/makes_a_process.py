"""A worker copies the process: the copy has none of the other threads, and a mutex they hold stays locked in it."""
# EXPECT explore contract: os.fork()
# EXPECT checked contract: os.fork()

import os

from lab.threadlib import Mutex, join, spawn

mutex = Mutex("log")


def work(number):
    with mutex:
        child = os.fork()  # BUG
        if child == 0:
            os._exit(0)
    os.waitpid(child, 0)


def main():
    for _ in range(2):
        spawn(work)
    join()
