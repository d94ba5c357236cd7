# The last row of the vocabulary is never computed.
# on: base
# expect: public failed | the first tensor that differs is logits
# whole: public partial
# expect: public failed | tokens of the vocabulary 100 of


def matmul(workers, out, inp, weight, bias):
    right_matmul(workers, out, inp, weight, bias)
    if bias is None:
        out[:, 100 if weight.shape[0] == 128 else -1] = 0
