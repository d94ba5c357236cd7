# The serial program under another name.
# on: nothing
# expect: public partial | the starter makes the same
# expect: workers failed | no worker is there
# timing: serial_copy
# expect: threads-2 failed | no worker was there at all

from lab import serial


def generate(model, prompt, n, workers):
    return serial.generate(model, prompt, n)
