"""Three of four places lock the mutex."""
# EXPECT races race: mutex guard, which protects it at
# EXPECT races race: holds mutex guard

import numpy as np

from lab.threadlib import Mutex, join, spawn

guard = Mutex()


def main():
    balance = np.zeros(1)

    def deposit(number):
        with guard:
            balance[0] += 10

    def audit(number):
        with guard:
            assert balance[0] >= 0

    def interest(number):
        balance[0] *= 1.5  # BUG

    for work in (deposit, audit, interest):
        spawn(work)
    join()
