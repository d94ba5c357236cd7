# The last head is never computed.
# on: base
# expect: public failed | the first tensor that differs is


def split(count, k):
    return right_split(count - 1 if count < 20 else count, k)
