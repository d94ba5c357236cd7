# Waits for its workers by sleeping and looking.
# on: base
# expect: public passed |
# timing: sleeps
# expect: threads-2 failed | sleeps or waits the rest

import time


def run(self, fn, tasks):
    self.begin(fn, tasks)
    time.sleep(0.005)
    for _ in self.start:
        self.done.P()


Workers.run = run
