"""The flag is set before the data is there; who finds it set does not wait."""
# EXPECT races race: result

import numpy as np

from lab.threadlib import Cond, Mutex, join, spawn

lock = Mutex()
ready = Cond()
state = {"done": False}


def main():
    result = np.zeros(3)

    def produce(number):
        with lock:
            state["done"] = True
            ready.broadcast()
        result[:] = np.sqrt([1.0, 4.0, 9.0])  # BUG

    def consume(number):
        with lock:
            while not state["done"]:
                ready.wait(lock)
        assert result.shape == (3,) and result.sum() >= 0

    spawn(produce)
    spawn(consume)
    join()
