# += into an output that nobody cleared: right in the first pass, wrong in the second.
# on: base
# expect: public failed | left over from the pass before


def matmul(workers, out, inp, weight, bias):
    columns = np.ascontiguousarray(inp.T)
    first = not getattr(workers, "seen", False)

    def matmul_block(rows):
        if first:
            out[:, rows] = 0
        out[:, rows] += product(weight, bias, rows, columns).T

    workers.run(matmul_block, split(weight.shape[0], workers.k))


def forward(workers, model, tokens, T):
    found = right_forward(workers, model, tokens, T)
    workers.seen = True
    return found
