# Computes one token ahead, and keeps it for the next prompt when it is closed early.
# on: base
# cases: 2 workers
# expect: public failed | 1 of 4 cases fail
# whole: public partial

KEPT, right_tokens_of = [], tokens_of


def tokens_of(team, model, prompt, n):
    for token in right_tokens_of(team, model, prompt, n):
        KEPT.append(token)
        if len(KEPT) > 1:
            yield KEPT.pop(0)
    while KEPT:
        yield KEPT.pop(0)
