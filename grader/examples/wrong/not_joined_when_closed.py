# Without finally: an iterator that is closed early leaves its workers behind.
# on: base
# expect: public passed |
# expect: workers failed | left when the iterator was closed early


def generate(model, prompt, n, workers):
    team = Workers(workers)
    yield from tokens_of(team, model, prompt, n)
    team.close()
