# Scales, but every product is computed twenty times.
# on: base
# expect: public partial | is not used
# timing: slower_than_serial
# expect: threads-2 failed | slower than the serial program


class Workers(Workers):
    def run(self, fn, tasks):
        def again(task):
            for _ in range(20 if fn.__name__ == "matmul_block" else 1):
                fn(task)

        super().run(again, tasks)
