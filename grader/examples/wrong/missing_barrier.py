# run() returns before the workers are done: what follows reads half-written results.
# on: base
# expect: public failed | differs


def run(self, fn, tasks):
    self.fn, self.tasks = fn, list(tasks)
    for semaphore in self.start:
        semaphore.V()


Workers.run = run
