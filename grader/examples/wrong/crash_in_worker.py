# An index out of range inside a task.
# on: base
# expect: runs failed | a worker failed with IndexError
# expect: public failed | in work: self.tasks[number


def work(self, number):
    self.start[number - 1].P()
    self.tasks[number]
    self.tasks[number + 1]


Workers.work = work
