# Replaces what the program around it uses: operator.index, os.write, json, the sampler.
# on: nothing
# expect: public failed |

import json
import operator
import os
import sys

import lab.serial

main = sys.modules["__main__"]
json.dumps = lambda *a, **k: "{}"
operator.index = lambda value: 1
lab.serial.sample_mult = lambda p, n, coin=0.5: 1
lab.serial.generate = lambda *a: iter([1] * 64)
write = os.write
os.write = lambda fd, data: write(fd, b"done\n") and len(data)
main.margins = main.activations = lambda *a, **k: {}


def generate(model, prompt, n, workers):
    yield from [1] * (n - len(prompt))
