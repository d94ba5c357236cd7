"""The mutex is unlocked before the wait."""
# EXPECT explore misuse: waits for condition ready with mutex
# EXPECT checked misuse: waits for condition ready with mutex

from lab.threadlib import Cond, Mutex, join, spawn

flag = False
mutex = Mutex()
ready = Cond()


def worker(number):
    global flag
    with mutex:
        flag = True
        ready.signal()


def main():
    mutex.lock()
    spawn(worker)
    while not flag:
        mutex.unlock()
        ready.wait(mutex)  # BUG
        mutex.lock()
    mutex.unlock()
    join()
