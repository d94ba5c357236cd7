# The first worker gets seven tenths of the rows.
# on: base
# expect: public passed |
# timing: uneven
# expect: threads-2 partial | cut the work more evenly


def split(count, k):
    first = count * 7 // 10 if k > 1 else count
    return [slice(0, first), *(slice(first + s.start, first + s.stop) for s in right_split(count - first, k - 1))]
