# Scales, but every product is computed twenty times.
# on: base
# expect: public partial | is not used
# timing: slower_than_serial
# expect: threads-2 failed | slower than the serial program

right_matmul = matmul


def matmul(workers, out, inp, weight, bias):
    for _ in range(20):
        right_matmul(workers, out, inp, weight, bias)
