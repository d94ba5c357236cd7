# The softmax runs over the padding of the vocabulary as well.
# on: base
# expect: public failed | your probabilities add up to


def softmax(probs, logits, V):
    probs[:] = np.exp(logits - logits.max())
    probs /= probs.sum()
