"""A worker spins on a flag that is set only after it has ended."""
# EXPECT explore livelock: worker-1 loops at

from lab.threadlib import join, spawn

stop = False


def worker(number):
    while not stop:  # BUG
        pass


def main():
    global stop
    spawn(worker)
    join()
    stop = True
