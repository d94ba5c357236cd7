# Two workers whatever was asked for.
# on: base
# cases: 4 workers
# expect: public passed |
# expect: workers failed | only 2 threads for workers=4


class Workers(Workers):
    def __init__(self, k):
        super().__init__(min(k, 2))
