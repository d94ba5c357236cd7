# Puts links where results are written, to have files of others overwritten or shown.
# on: nothing
# expect: public failed | is

import os


def generate(model, prompt, n, workers):
    for name in ("results.json", "report.html", "stdout", "stderr"):
        for place in ("/tmp", ".", os.path.dirname(__file__)):
            try:
                os.symlink("/etc/passwd", os.path.join(place, name))
            except OSError:
                pass
    yield from [0] * (n - len(prompt))
