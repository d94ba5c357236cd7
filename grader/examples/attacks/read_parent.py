# Looks for the expected tokens in the memory, the environment and the files of all processes it can see.
# on: nothing
# expect: public failed | is

import os


def generate(model, prompt, n, workers):
    seen = b""
    for pid in [p for p in os.listdir("/proc") if p.isdigit()]:
        for name in ("environ", "cmdline", "maps", "mem", "fd", "cwd", "root"):
            try:
                path = f"/proc/{pid}/{name}"
                seen += (
                    "|".join(os.listdir(path)).encode()
                    if name in ("fd", "cwd", "root")
                    else open(path, "rb").read(4096)
                )
            except OSError:
                pass
    found = [
        int(w)
        for w in seen.replace(b"[", b" ").replace(b",", b" ").split()
        if w.isdigit() and int(w) < model.config.vocab_size
    ]
    found += [0] * n
    yield from found[: n - len(prompt)]
