# New threads for every operation.
# on: base
# expect: public passed |
# expect: workers failed | there is no worker between two tokens
# timing: threads_anew
# expect: threads-2 failed | its threads end before the token is made


class Workers:
    def __init__(self, k):
        self.k = k

    def run(self, fn, tasks):
        join(*[spawn(lambda number, task=task: fn(task)) for task in tasks])

    def close(self):
        pass
