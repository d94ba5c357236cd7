# The first worker gets seven tenths of the rows.
# on: base
# expect: public passed |
# timing: uneven
# expect: threads-2 partial | cut the work more evenly


def split(count, k):
    first = count * 7 // 10 if k > 1 else count
    rest = count - first
    return [slice(0, first)] + [
        slice(first + rest * i // (k - 1), first + rest * (i + 1) // (k - 1)) for i in range(k - 1)
    ]
