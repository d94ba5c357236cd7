# The workers are started when the file is imported.
# on: base
# expect: workers failed | importing the file starts threads


TEAM = Workers(4)


def generate(model, prompt, n, workers):
    return tokens_of(TEAM, model, prompt, n)
