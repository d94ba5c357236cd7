# Without finally: an iterator that is closed early leaves its workers behind.
# on: base
# expect: public passed |
# expect: workers failed | left when the iterator was closed early


def generate(model, prompt, n, workers):
    tokens = np.full((1, n), GPT2_EOT, dtype=np.int32)
    tokens[0, : len(prompt)] = prompt
    team = Workers(workers)
    for t in range(len(prompt), n):
        tokens[0, t] = sample(forward(team, model, tokens[:, :t], t), model.config.vocab_size)
        yield int(tokens[0, t])
    team.close()
