# Catches what closes it early, and yields the next token.
# on: base
# whole: public partial
# expect: public failed | (its iterator was closed early: no yield after that)


def generate(model, prompt, n, workers):
    for token in right_generate(model, prompt, n, workers):
        try:
            yield token
        except GeneratorExit:
            pass
