# generate() collects its tokens and returns them all together.
# on: base
# expect: runs failed | generate() returns a list; it has to yield its tokens, each as soon as it is there: `yield token` at parallel.py:
# expect: public failed | in generate: return list(right_generate(model, prompt, n, workers))


def generate(model, prompt, n, workers):
    return list(right_generate(model, prompt, n, workers))
