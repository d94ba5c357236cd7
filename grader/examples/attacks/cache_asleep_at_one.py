# The KV cache on one thread, asleep on one worker.
# on: one_thread_cache
# expect: public passed |
# timing: cache_asleep_at_one
# expect: threads-2 failed | did any work

import time

awake_generate = generate


def generate(model, prompt, n, workers):
    for token in awake_generate(model, prompt, n, workers):
        if workers == 1:
            time.sleep(0.05 if model.config.vocab_size > 1000 else 0)
        yield token
