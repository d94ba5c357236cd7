# generate() returns nothing.
# on: nothing
# expect: runs failed | generate() returns nothing (None); it has to yield its tokens


def generate(model, prompt, n, workers):
    print
