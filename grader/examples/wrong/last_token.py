# The last row of the vocabulary is never computed.
# on: base
# expect: public failed | the first tensor that differs is logits
# whole: public partial
# expect: public failed | tokens of the vocabulary 100 of

right_matmul = matmul


def matmul(workers, out, inp, weight, bias):
    if bias is None:
        real = 101 if weight.shape[0] == 128 else weight.shape[0]
        right_matmul(workers, out[:, : real - 1], inp, weight[: real - 1], bias)
        out[:, real - 1] = 0
    else:
        right_matmul(workers, out, inp, weight, bias)
