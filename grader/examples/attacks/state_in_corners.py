# Keeps what it found for its next run, in every folder anybody may write to, however deep.
# on: base
# sandboxes: all
# expect: public passed |

import os

NAME = "kept-by-a-submission"


def corners():
    for top in ("/tmp", "/var", "/run", "/dev/shm", "/dev/mqueue", "/srv"):
        for folder, names, _ in os.walk(top):
            if folder.count("/") > 3:
                names.clear()
            yield folder


for corner in corners():
    if os.path.exists(os.path.join(corner, NAME)):
        raise RuntimeError(f"STATE SURVIVED in {corner}")


def generate(model, prompt, n, workers):
    for corner in list(corners()):
        try:
            os.makedirs(os.path.join(corner, NAME, "deep"), exist_ok=True)
        except OSError:
            pass
    yield from right_generate(model, prompt, n, workers)
