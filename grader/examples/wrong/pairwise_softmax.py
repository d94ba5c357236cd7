# The exponentials of the softmax are added up by numpy's sum(), in pairs: a better sum than gpt.c's, and other tokens.
# on: base
# cases: 2 workers, GPT-2's vocabulary
# expect: public partial | is what comes out if the softmax adds its 50,257 exponentials up in pairs
# expect: hidden failed | GPT-2's vocabulary
# whole: hidden partial


def softmax(probs, logits, V):
    probs[:] = 0.0
    probs[:V] = np.exp(logits[:V] - logits[:V].max())
    probs[:V] /= probs[:V].sum()
