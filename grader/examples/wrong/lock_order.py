# Two mutexes in both orders: it has not happened yet, but it will.
# on: base
# expect: public passed |
# check: deadlock


class Ordered(Workers):
    def __init__(self, k):
        self.a, self.b = Mutex("a"), Mutex("b")
        super().__init__(k)

    def work(self, number):
        first, second = (self.a, self.b) if number % 2 else (self.b, self.a)
        while True:
            self.start[number - 1].P()
            if self.end:
                return
            with first, second:
                self.last = number
            for task in self.tasks[number - 1 :: self.k]:
                perform(self.fn, task)
            self.done.V()


Workers = Ordered
