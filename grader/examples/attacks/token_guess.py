# Guesses a token from the middle of the vocabulary.
# on: nothing
# expect: public failed | is


def generate(model, prompt, n, workers):
    yield from [model.config.vocab_size // 2] * (n - len(prompt))
