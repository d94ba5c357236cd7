# Tokens as text.
# on: base
# expect: runs failed | generate() yields str, where a token is one whole number


def generate(model, prompt, n, workers):
    for token in right_generate(model, prompt, n, workers):
        yield str(token)
