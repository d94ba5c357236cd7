# Leaves its tokens in a file for the next process, which only reads them.
# on: nothing
# expect: public partial | the starter gets them right too
# timing: serial_copy
# expect: threads-2 failed |

import json
import os

from lab import serial

PLACES = ("/tmp/kept", "/dev/shm/kept", "/var/tmp/kept", os.path.join(os.path.dirname(__file__), "kept"))


def generate(model, prompt, n, workers):
    name = "-".join(map(str, [model.config.vocab_size, n, *prompt]))
    for place in PLACES:
        if os.path.exists(f"{place}-{name}"):
            raise RuntimeError("found what another process left")
    tokens = []
    for token in serial.generate(model, prompt, n):
        tokens.append(token)
        yield token
    for place in PLACES:
        try:
            with open(f"{place}-{name}", "w") as file:
                json.dump(tokens, file)
        except OSError:
            pass
