"""A mutex is locked twice to wait for another thread, which shall unlock it: that is what semaphores are for."""
# EXPECT explore misuse: no other thread may unlock it

from lab.threadlib import Mutex, join, spawn

done = Mutex("done")


def worker(number):
    done.unlock()


def main():
    done.lock()
    spawn(worker)
    done.lock()  # BUG
    join()
