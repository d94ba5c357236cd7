# generate() returns nothing.
# on: nothing
# expect: runs failed | TypeError: 'NoneType' object is not iterable


def generate(model, prompt, n, workers):
    print
