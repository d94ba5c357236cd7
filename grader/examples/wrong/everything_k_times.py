# Every worker does all tasks of every region, not its share.
# on: base
# expect: public partial | times the work that one does alone: each repeats others
# expect: workers passed |
# timing: interpreter_bound
# expect: threads-2 failed | of the possible gain


def share(self, number):
    return self.tasks


Workers.share = share
