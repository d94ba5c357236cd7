# Every worker does its fair share of every product, but one of them does the others' shares again, and only its results
# are used.
# on: base
# expect: public partial | is not used
# timing: unused_work
# expect: threads-2 failed | worker 2 used 46% of the CPU time and computed nothing that was used


def matmul(workers, out, inp, weight, bias):
    columns = np.ascontiguousarray(inp.T)

    def block(rows):
        product(weight, bias, rows, columns)
        if rows.start > 0 or workers.k == 1:
            return
        for first in range(0, len(weight), rows.stop):
            some = slice(first, first + rows.stop)
            out[:, some] = product(weight, bias, some, columns).T

    if workers.k == 1:
        out[:] = product(weight, bias, slice(None), columns).T
    workers.run(block, split(weight.shape[0], workers.k))
