# The most probable token instead of the sampler.
# on: base
# expect: public failed | is
# expect: public failed | serial: the running sum goes from


def sample(probs, V):
    return int(np.argmax(probs[:V]))
