# Never stops yielding.
# on: base
# expect: public failed | yields more tokens than asked for


def generate(model, prompt, n, workers):
    yield from right_generate(model, prompt, n, workers)
    while True:
        yield 0
