# Yields, but nothing: the token is forgotten.
# on: base
# expect: runs failed | generate() yields NoneType, where a token is one whole number


def generate(model, prompt, n, workers):
    for _ in right_generate(model, prompt, n, workers):
        yield
