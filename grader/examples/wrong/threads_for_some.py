# Static workers, and beside them new threads for attention: none of these is there between two tokens.
# on: base
# expect: public partial |
# expect: workers failed | more than 2 threads are started for workers=2


def attention(workers, *arrays):
    right_attention(Beside(workers), *arrays)


class Beside:
    def __init__(self, workers):
        self.k = workers.k

    def run(self, fn, tasks):
        join(*[spawn(lambda number, task=task: fn(task)) for task in tasks])
