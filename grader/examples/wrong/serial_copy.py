# The serial program under another name.
# on: nothing
# expect: public partial | the starter gets them right too
# expect: workers failed | there is no worker between two tokens
# timing: serial_copy
# expect: threads-2 failed | there was no worker at all

from lab import serial


def generate(model, prompt, n, workers):
    return serial.generate(model, prompt, n)
