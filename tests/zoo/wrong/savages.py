"""Dining savages: who looks into the pot outside the mutex may find it empty when the turn comes."""
# EXPECT explore assertion: ate from an empty pot
# EXPECT races race: pot

from lab.threadlib import Mutex, Semaphore, join, spawn

SERVINGS = 2
mutex, empty, full = Mutex("pot"), Semaphore(0, "empty"), Semaphore(0, "full")
pot = 0


def cook(number):
    global pot
    for _ in range(2):
        empty.P()
        pot = SERVINGS
        full.V()


def savage(number):
    global pot
    for _ in range(2):
        if pot == 0:  # BUG
            empty.V()
            full.P()
        with mutex:
            pot -= 1  # BUG
            assert pot >= 0, "ate from an empty pot"


def main():
    spawn(cook)
    for _ in range(2):
        spawn(savage)
    join()
