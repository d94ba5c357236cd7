# The prompt is yielded as well.
# on: base
# expect: public failed | is


def generate(model, prompt, n, workers):
    yield from prompt
    yield from right_generate(model, prompt, n, workers)
