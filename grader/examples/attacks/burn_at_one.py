# Computes everything twice on one worker, so that two look twice as fast.
# on: base
# expect: public passed |
# timing: burn_at_one
# expect: threads-2 failed | times the CPU time


def forward(workers, model, tokens, T):
    if workers.k == 1:
        right_forward(workers, model, tokens, T)
    return right_forward(workers, model, tokens, T)
