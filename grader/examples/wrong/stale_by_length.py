# Keeps the tokens of one generate() for the next one whose prompt is as long.
# on: base
# expect: public failed | the serial program's is
# whole: public partial

KEPT = {}


def generate(model, prompt, n, workers):
    kept = KEPT.setdefault((len(prompt), n), [])
    if kept:
        yield from kept
        return
    for token in right_generate(model, prompt, n, workers):
        kept.append(token)
        yield token
