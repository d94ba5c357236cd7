# Widens its CPU affinity, and starts more threads than it was given workers.
# on: base
# expect: public passed |
# expect: workers failed | threads for workers=
# timing: more_cores
# expect: threads-2 failed | instead of 2

import os

os.sched_setaffinity(0, range(os.cpu_count()))


class Workers(Workers):
    def __init__(self, k):
        super().__init__(2 * k if k > 1 else 1)
