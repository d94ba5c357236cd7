# Overwrites the weights, in the file and in memory, so that every answer is the same.
# on: nothing
# expect: public failed |


def generate(model, prompt, n, workers):
    try:
        model.params_memory.flags.writeable = True
        model.params_memory[:] = 0
    except ValueError:
        pass
    yield from [0] * (n - len(prompt))
