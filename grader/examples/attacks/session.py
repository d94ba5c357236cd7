# Leaves its session and its process group, to be out of reach.
# on: base
# sandboxes: all
# expect: public passed |

import os


def generate(model, prompt, n, workers):
    for leave in (os.setsid, lambda: os.setpgid(0, 0)):
        try:
            leave()
        except OSError:
            continue
        if os.getpid() != 2:
            raise RuntimeError("IT LEFT ITS SESSION")
    yield from right_generate(model, prompt, n, workers)
