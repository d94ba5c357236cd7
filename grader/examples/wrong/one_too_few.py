# Stops one token early.
# on: base
# expect: public failed | yields only


def generate(model, prompt, n, workers):
    for t, token in enumerate(right_generate(model, prompt, n, workers)):
        if t + len(prompt) < n - 1:
            yield token
