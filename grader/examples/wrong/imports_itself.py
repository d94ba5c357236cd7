# Takes its workers from lab.parallel, which is this file once it is handed in.
# on: nothing
# expect: runs failed | all of your own has to be in this one file

from lab import serial
from lab.parallel import Workers


def generate(model, prompt, n, workers):
    with Workers(workers):
        yield from serial.generate(model, prompt, n)
