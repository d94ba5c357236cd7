"""Two threads wait on one condition variable with different mutexes."""
# EXPECT explore misuse: others wait for it with

from lab.threadlib import Cond, Mutex, join, spawn

left = Mutex()
right = Mutex()
stop = Cond()
stopped = False


def first(number):
    with left:
        while not stopped:
            stop.wait(left)  # BUG


def second(number):
    with right:
        while not stopped:
            stop.wait(right)  # BUG


def main():
    global stopped
    spawn(first)
    spawn(second)
    with left, right:
        stopped = True
        stop.broadcast()
    join()
