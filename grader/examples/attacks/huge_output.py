# Prints without end.
# on: nothing
# expect: runs failed | prints without end


def generate(model, prompt, n, workers):
    while True:
        print("x" * 65536)
    yield 0
