# Tokens as text.
# on: base
# expect: runs failed | 'str' object cannot be interpreted as an integer

right_generate = generate


def generate(model, prompt, n, workers):
    for token in right_generate(model, prompt, n, workers):
        yield str(token)
