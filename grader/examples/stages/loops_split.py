# The queue, and serial's products split over it with their loops as they are: each worker does its output channels,
# position by position. Attention is one task. Parallel, and slow.
# on: base


def matmul(workers, out, inp, weight, bias):
    """out (T,OC), inp (T,C), weight (OC,C): split over OC; as in serial.py a product for each position."""

    def matmul_block(rows):
        for t in range(len(inp)):
            np.dot(weight[rows], inp[t], out=out[t, rows])
            if bias is not None:
                out[t, rows] += bias[rows]

    workers.run(matmul_block, split(weight.shape[0], workers.k))


def attention(workers, out, preatt, att, inp, NH):
    """out (T,C), preatt and att (NH,T,T), inp (T,3C): as in serial.py, position by position and head by head."""
    T, C = out.shape
    hs = C // NH
    scale = np.float32(1.0 / np.sqrt(hs))

    def attention_heads(heads):
        for t in range(T):
            for h in range(heads.start, heads.stop):
                query = inp[t, h * hs : (h + 1) * hs]
                keys = inp[: t + 1, C + h * hs : C + (h + 1) * hs]
                values = inp[: t + 1, 2 * C + h * hs : 2 * C + (h + 1) * hs]
                scores = preatt[h, t, : t + 1]
                np.dot(keys, query, out=scores)
                scores *= scale
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                att[h, t, : t + 1] = weights
                np.dot(weights, values, out=out[t, h * hs : (h + 1) * hs])

    workers.run(attention_heads, [slice(0, NH)])
