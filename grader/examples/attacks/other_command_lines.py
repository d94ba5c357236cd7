# Looks for the seed of the hidden cases in the command lines of all processes, and for files of others.
# on: base
# sandboxes: all
# expect: public passed |

import os


def generate(model, prompt, n, workers):
    seen = []
    for pid in {*range(1, 4000), *range(os.getpid() - 2000, os.getpid())} - {os.getpid()}:
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                seen += [word for word in file.read().split(b"\0") if b"pytest" in word or b"--seed" in word]
        except OSError:
            pass
    for path in ("/etc/shadow", "/etc/passwd", os.path.expanduser("~root/.bashrc")):
        try:
            with open(path, "rb") as file:
                seen.append(file.read(1))
        except OSError:
            pass
    if seen:
        raise RuntimeError(f"SEEN: {seen[:3]}")
    yield from right_generate(model, prompt, n, workers)
