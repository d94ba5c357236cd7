"""Every worker smooths its own window, but the windows share elements."""
# EXPECT races race: signal[

import numpy as np

from lab.threadlib import join, spawn


def main():
    signal = np.linspace(0.0, 1.0, 9)
    windows = np.lib.stride_tricks.sliding_window_view(signal, 5, writeable=True)[::2]

    def work(number):
        windows[number - 1] *= 0.5  # BUG

    for _ in range(3):
        spawn(work)
    join()
