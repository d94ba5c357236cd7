# Takes memory until somebody stops it.
# on: nothing
# dangerous: only after limits were seen to bind
# expect: runs failed | the limit is


def generate(model, prompt, n, workers):
    held = []
    while True:
        held.append(bytearray(1 << 30))
    yield 0
