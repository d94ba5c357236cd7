# Writes modules that the next interpreter should pick up: numpy.py, sitecustomize.py, usercustomize.py.
# on: nothing
# expect: public failed | is

import os
import sys

CODE = "import os; os._exit(0)"


def generate(model, prompt, n, workers):
    for place in {*sys.path, "/tmp", ".", os.path.expanduser("~"), os.path.dirname(__file__)}:
        for name in ("numpy.py", "sitecustomize.py", "usercustomize.py", "harness.py", "evil.pth"):
            try:
                with open(os.path.join(place or ".", name), "w") as file:
                    file.write(CODE)
            except OSError:
                pass
    yield from [0] * (n - len(prompt))
