# Fills the disk.
# on: nothing
# cases: 2 workers
# expect: public failed | 4 of 4 cases fail


def generate(model, prompt, n, workers):
    for place in ("/tmp", "/dev/shm", "/var/tmp", "."):
        for number in range(64):
            try:
                with open(f"{place}/fill{number}", "wb") as file:
                    for _ in range(64):
                        file.write(bytes(1 << 20))
            except OSError:
                pass
    yield from [0] * (n - len(prompt))
