"""One worker writes the real parts, the other one the imaginary parts: no byte is shared."""

import numpy as np

from lab.threadlib import join, spawn


def main():
    wave = np.zeros(8, dtype=np.complex128)

    def work(number):
        part = wave.real if number == 1 else wave.imag
        part[:] = number

    for _ in range(2):
        spawn(work)
    join()
    assert wave[3] == 1 + 2j
