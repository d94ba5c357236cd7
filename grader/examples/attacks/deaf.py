# Ignores every signal and never ends.
# on: nothing
# expect: runs failed | loops without making a token

import signal

for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
    signal.signal(number, signal.SIG_IGN)


def generate(model, prompt, n, workers):
    while True:
        pass
    yield 0
