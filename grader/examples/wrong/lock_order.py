# Two mutexes in both orders: it has not happened yet, but it will.
# on: base
# expect: public passed |
# check: deadlock


class Workers(Workers):
    def __init__(self, k):
        self.a, self.b = Mutex("a"), Mutex("b")
        super().__init__(k)

    def share(self, number):
        first, second = (self.a, self.b) if number % 2 else (self.b, self.a)
        with first, second:
            self.last = number
        return super().share(number)
