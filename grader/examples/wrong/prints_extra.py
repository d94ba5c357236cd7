# A forgotten debugging print for each token.
# on: base
# expect: public passed |
# expect: quiet failed | step


def sample(probs, V):
    print("step", int(probs.argmax()))
    return sample_mult(probs, V)
