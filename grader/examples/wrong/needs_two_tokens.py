# A prompt of one token was never tried.
# on: base
# cases: 2 workers, 4 workers
# expect: public partial | 2 workers
# expect: public partial | IndexError


def generate(model, prompt, n, workers):
    assert prompt[1] >= 0
    yield from right_generate(model, prompt, n, workers)
