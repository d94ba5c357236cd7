# Overwrites the weights, in the file and in memory, so that every answer is the same.
# on: nothing
# expect: public failed |


def generate(model, prompt, n, workers):
    for path in ("/proc/self/map_files", "/proc/self/fd"):
        pass
    try:
        model.params_memory.flags.writeable = True
        model.params_memory[:] = 0
    except ValueError:
        pass
    for _ in range(n - len(prompt)):
        yield 0
