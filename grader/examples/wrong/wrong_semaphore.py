# V on the wrong index: worker 2 is started twice, worker 1 never, and nothing is waited for.
# on: base
# expect: runs failed | hangs: every thread waits
# expect: public failed | self.done.P()


def run(self, fn, tasks):
    self.fn, self.tasks = fn, list(tasks)
    for _ in self.start:
        self.start[-1].V()
    for _ in self.start:
        self.done.P()
    self.done.P()


Workers.run = run
