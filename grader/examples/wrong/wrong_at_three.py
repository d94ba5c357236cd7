# The last block is too short when k does not divide the rows, but only for odd k.
# on: base
# cases: 2 workers, 3 workers, prompt lengths
# expect: public passed |
# expect: hidden partial | 3 workers


def split(count, k):
    edges = [count // k * i if k % 2 and k > 1 else count * i // k for i in range(k + 1)]
    return [slice(a, b) for a, b in zip(edges, edges[1:])]
