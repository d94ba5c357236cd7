# Products in pure Python loops: the workers take turns with the interpreter lock.
# on: base
# expect: public passed |
# timing: interpreter_bound
# expect: threads-2 failed | of the possible gain


def matmul(workers, out, inp, weight, bias):
    columns = np.ascontiguousarray(inp.T)

    def matmul_block(rows):
        for row in range(rows.start, rows.stop):
            out[:, row] = weight[row] @ columns
            if bias is not None:
                out[:, row] += bias[row]

    workers.run(matmul_block, split(weight.shape[0], workers.k))
