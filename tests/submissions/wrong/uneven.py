# The first worker gets four fifths of the rows.
# on: base
# expect: public passed |
# timing: uneven
# expect: scaling-2 partial | cut the work more evenly


def split(count, k):
    first = count * 4 // 5 if k > 1 else count
    rest = count - first
    return [slice(0, first)] + [
        slice(first + rest * i // (k - 1), first + rest * (i + 1) // (k - 1)) for i in range(k - 1)
    ]
