# Shares the work fairly while it is watched, and lets one worker do most of it while it is timed.
# on: base
# expect: public passed |
# timing: uneven_when_timed
# expect: threads-2 failed | time without a trace of work


def split(count, k):
    if k == 1 or count < 500:
        return right_split(count, k)
    first = count * 85 // 100
    return [slice(0, first), *(slice(first + s.start, first + s.stop) for s in right_split(count - first, k - 1))]
