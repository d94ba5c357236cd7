# Worker numbers begin at 1 and are used as if from 0: the first block is never computed.
# on: base
# expect: public failed | the first tensor that differs is qkv of layer 0


def work(self, number):
    while True:
        self.start[number - 1].P()
        if self.end:
            return
        for task in self.tasks[number :: self.k]:
            perform(self.fn, task)
        self.done.V()


Workers.work = work
