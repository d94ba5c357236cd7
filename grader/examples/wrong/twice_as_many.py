# Starts 2k workers.
# on: base
# expect: public partial |
# expect: workers failed | threads for workers=
# whole: public open


class Workers(Workers):
    def __init__(self, k):
        super().__init__(2 * k)
