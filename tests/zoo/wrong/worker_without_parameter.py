"""The worker does not take the number that spawn() gives it."""
# EXPECT explore exception: TypeError in worker-1, spawned at worker_without_parameter.py:13
# EXPECT checked exception: TypeError in worker-1, spawned at worker_without_parameter.py:13

from lab.threadlib import join, spawn


def worker():
    print("hello")


def main():
    spawn(worker)  # BUG
    join()
