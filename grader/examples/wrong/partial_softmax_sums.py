# Each worker adds up its part of the softmax's exponentials, one after the other, and the parts are added.
# on: base
# cases: 2 workers, GPT-2's vocabulary
# expect: public partial | is what comes out if the softmax adds its 50,257 exponentials up
# expect: hidden failed | GPT-2's vocabulary
# whole: hidden partial


def softmax(probs, logits, V):
    probs[:] = 0.0
    probs[:V] = np.exp(logits[:V] - logits[:V].max())
    parts = [np.cumsum(part, dtype=np.float32)[-1] for part in np.array_split(probs[:V], 3)]
    probs[:V] /= sum(parts)
