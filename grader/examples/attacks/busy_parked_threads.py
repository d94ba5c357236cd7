# The same, with threads that read all weights again and again, and throw away what they compute.
# on: nothing
# expect: public partial | is not used
# expect: workers failed | the workers do not do the work
# timing: nothing_used
# expect: threads-2 failed | computed nothing that was used

from lab import serial
from lab.threadlib import join, spawn


def generate(model, prompt, n, workers):
    end = []

    def pretend(number):
        while not end:
            for name in ("qkvw", "attprojw", "fcw", "fcprojw"):
                for weight in vars(model.params)[name]:
                    weight @ weight[0]

    threads = [spawn(pretend) for _ in range(workers)]
    try:
        yield from serial.generate(model, prompt, n)
    finally:
        end.append(True)
        join(*threads)
