"""A worker ends the whole process: what the others would have done wrong is never seen."""
# EXPECT explore contract: os._exit(0)
# EXPECT checked contract: os._exit(0)

import os

from lab.threadlib import join, spawn


def work(number):
    if number == 2:
        os._exit(0)  # BUG


def main():
    for _ in range(2):
        spawn(work)
    join()
