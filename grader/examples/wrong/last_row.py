# Each block leaves out its last row.
# on: base
# expect: public failed | the first tensor that differs is qkv of layer 0
# expect: public failed | where zeros stand


def split(count, k):
    short = 0 if count < 20 else 1  # of a product; all heads are there
    return [slice(part.start, part.stop - short) for part in right_split(count, k)]
