# Products in float16.
# on: base
# expect: public failed | the first tensor that differs is


def matmul(workers, out, inp, weight, bias):
    right_matmul(
        workers, out, inp.astype(np.float16).astype(np.float32), weight.astype(np.float16).astype(np.float32), bias
    )
    out[:] = (out * 16).round() / 16
