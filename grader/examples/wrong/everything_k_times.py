# Every worker does all tasks of every region, not its share.
# on: base
# expect: public partial | times the work that one does alone: each repeats others
# expect: workers passed |
# timing: interpreter_bound
# expect: threads-2 failed | of the possible gain


def work(self, number):
    while True:
        self.start[number - 1].P()
        if self.end:
            return
        for task in self.tasks:
            perform(self.fn, task)
        self.done.V()


Workers.work = work
