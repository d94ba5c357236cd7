# Yields, but nothing: the token is forgotten.
# on: base
# expect: runs failed | generate() yields NoneType, where a token is one whole number

right = generate


def generate(model, prompt, n, workers):
    for _ in right(model, prompt, n, workers):
        yield
