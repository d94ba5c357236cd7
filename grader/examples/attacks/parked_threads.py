# A serial copy, and k threads of lab.threadlib that wait beside it from the beginning to the end.
# on: nothing
# expect: public partial | the starter gets them right too
# expect: workers failed | the workers do not do the work
# timing: serial_copy
# expect: threads-2 failed | there was no worker at all

from lab import serial
from lab.threadlib import Semaphore, join, spawn


def generate(model, prompt, n, workers):
    park = Semaphore(0, "park")
    threads = [spawn(lambda number: park.P()) for _ in range(workers)]
    try:
        yield from serial.generate(model, prompt, n)
    finally:
        for _ in threads:
            park.V()
        join(*threads)
