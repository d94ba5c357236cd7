# The second worker burns its time in products with all the weights, and hands over one small share of all its work.
# on: base
# expect: public partial | what worker 2 computes is not used
# timing: unused_work
# expect: threads-2 failed | computed nothing that was used


def matmul(workers, out, inp, weight, bias):
    columns = np.ascontiguousarray(inp.T)
    small = weight.shape[0] // 64 if workers.k > 1 else 0

    def block(number):
        if number == 0 or (number == 1 and small):
            rows = slice(small, None) if number == 0 else slice(0, small)
            out[:, rows] = product(weight, bias, rows, columns).T
        if number == 1:
            for _ in range(9):
                weight @ columns

    workers.run(block, range(workers.k))
