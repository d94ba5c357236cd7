# Keeps everything it ever computed, and much more.
# on: base
# expect: public failed | the limit is

KEPT = []


def sample(probs, V):
    KEPT.append(np.ones((2048, 1 << 18), dtype=np.float32))
    return sample_mult(probs, V)
