# The workers are started when the file is imported.
# on: base
# expect: workers failed | importing the file starts threads

TEAM = Workers(4)


def generate(model, prompt, n, workers):
    tokens = np.full((1, n), GPT2_EOT, dtype=np.int32)
    tokens[0, : len(prompt)] = prompt
    for t in range(len(prompt), n):
        tokens[0, t] = sample(forward(TEAM, model, tokens[:, :t], t), model.config.vocab_size)
        yield int(tokens[0, t])
