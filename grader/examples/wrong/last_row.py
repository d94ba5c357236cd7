# Each block leaves out its last row.
# on: base
# expect: public failed | the first tensor that differs is qkv of layer 0
# expect: public failed | where zeros stand


def split(count, k):
    return [slice(count * i // k, count * (i + 1) // k - 1) for i in range(k)]


base_attention = attention


def attention(workers, out, preatt, att, inp, NH):
    with_all_heads(workers, out, preatt, att, inp, NH)


def with_all_heads(workers, out, preatt, att, inp, NH):
    global split
    short, split = split, lambda count, k: [slice(count * i // k, count * (i + 1) // k) for i in range(k)]
    base_attention(workers, out, preatt, att, inp, NH)
    split = short
