# += into an output that nobody cleared: right in the first pass, wrong in the second.
# on: base
# expect: public failed | left over from the pass before


def matmul(workers, out, inp, weight, bias):
    columns = np.ascontiguousarray(inp.T)
    first = not getattr(workers, "seen", False)

    def matmul_block(rows):
        block = weight[rows] @ columns
        if bias is not None:
            block += bias[rows, None]
        if first:
            out[:, rows] = 0
        out[:, rows] += block.T

    workers.run(matmul_block, split(weight.shape[0], workers.k))


right_sample = sample


def sample(probs, V):
    TEAM.seen = True
    return right_sample(probs, V)


class Team(Workers):
    def __init__(self, k):
        global TEAM
        TEAM = self
        super().__init__(k)


Workers = Team
