# Replaces the clocks, and sleeps.
# on: nothing
# expect: public partial | the starter gets them right too
# expect: workers failed |
# timing: serial_copy
# expect: threads-2 failed | no worker

import time

from lab import serial

time.time = time.perf_counter = time.monotonic = lambda: 0.0
time.perf_counter_ns = time.monotonic_ns = time.process_time_ns = lambda: 0


def generate(model, prompt, n, workers):
    return serial.generate(model, prompt, n)
