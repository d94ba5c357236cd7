# With one worker, some runs take three times as long, so that the runs disagree and nothing can be said.
# on: base
# expect: public passed |
# timing: some_slow_ones
# expect: threads-2 failed | of the possible gain

import random

slow = random.random() < 0.3


def forward(workers, model, tokens, T):
    if workers.k == 1 and T > 90 and slow:
        right_forward(workers, model, tokens, T)
        right_forward(workers, model, tokens, T)
    return right_forward(workers, model, tokens, T)
