# Guesses a token from the middle of the vocabulary.
# on: nothing
# expect: public failed | is


def generate(model, prompt, n, workers):
    for _ in range(n - len(prompt)):
        yield model.config.vocab_size // 2
