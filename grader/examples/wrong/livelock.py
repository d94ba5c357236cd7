# A worker that waits for its turn by asking again and again, for a turn that never comes.
# on: base
# expect: runs failed | loops without making a token
# expect: public failed | while self.turn != number


def work(self, number):
    self.turn = 0
    while self.turn != number:
        pass


Workers.work = work
