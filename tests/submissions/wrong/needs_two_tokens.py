# A prompt of one token was never tried.
# on: base
# expect: public partial | 1 worker
# expect: public partial | IndexError

right_generate = generate


def generate(model, prompt, n, workers):
    assert prompt[1] >= 0
    yield from right_generate(model, prompt, n, workers)
