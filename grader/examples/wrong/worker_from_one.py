# Worker numbers begin at 1 and are used as if from 0: the first block is never computed.
# on: base
# expect: public failed | the first tensor that differs is qkv of layer 0


def share(self, number):
    return self.tasks[number :: self.k]


Workers.share = share
