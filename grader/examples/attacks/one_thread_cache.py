# A KV cache on one thread: ten times as fast as the serial program, and no faster on two workers than on one.
# on: base
# expect: public passed |
# timing: one_thread_cache
# expect: threads-2 failed | none of the 2 workers did any work


def kv_step(model, state, token, t):
    config, p = model.config, model.params
    C, NH, L = config.channels, config.num_heads, config.num_layers
    hs = C // NH

    def norm(x, weight, bias):
        x = x - x.mean()
        return x / np.sqrt((x * x).mean() + np.float32(1e-5)) * weight + bias

    x = p.wte[token] + p.wpe[t]
    for l in range(L):
        qkv = p.qkvw[l] @ norm(x, p.ln1w[l], p.ln1b[l]) + p.qkvb[l]
        state[0][l, t], state[1][l, t] = qkv[C : 2 * C], qkv[2 * C :]
        keys = state[0][l, : t + 1].reshape(t + 1, NH, hs)
        values = state[1][l, : t + 1].reshape(t + 1, NH, hs)
        scores = np.einsum("thd,hd->ht", keys, qkv[:C].reshape(NH, hs)) / np.float32(np.sqrt(hs))
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        weights /= weights.sum(axis=1, keepdims=True)
        mixed = np.einsum("ht,thd->hd", weights, values).reshape(C)
        x = x + p.attprojw[l] @ mixed + p.attprojb[l]
        wide = p.fcw[l] @ norm(x, p.ln2w[l], p.ln2b[l]) + p.fcb[l]
        gelu_forward(wide, wide.copy(), 4 * C)
        x = x + p.fcprojw[l] @ wide + p.fcprojb[l]
    logits = p.wte[: config.vocab_size] @ norm(x, p.lnfw, p.lnfb)
    probs = np.exp(logits - logits.max())
    return probs / np.cumsum(probs, dtype=np.float32)[-1]


def generate(model, prompt, n, workers):
    config = model.config
    state = np.zeros((2, config.num_layers, n, config.channels), dtype=np.float32)
    tokens = list(prompt)
    team = Workers(workers)
    try:
        for t in range(n - 1):
            probs = kv_step(model, state, tokens[t], t)
            if t >= len(prompt) - 1:
                tokens.append(sample(probs, config.vocab_size))
                yield int(tokens[-1])
    finally:
        team.close()
