# One worker does all the work; the others burn as much time, and so does the one worker when there is only one.
# on: base
# expect: public partial | the starter gets them right too
# timing: burn_beside
# expect: threads-2 failed | of the CPU time and computed nothing that was used
# expect: speed-2 failed | computed nothing that was used

import time


def burn(seconds):
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        pass


class Workers(Workers):
    def run(self, fn, tasks):
        tasks = list(tasks)
        spent = [0.0]

        def all_of_it(number):
            if number == 0:
                begin = time.perf_counter()
                for task in tasks:
                    fn(task)
                spent[0] = time.perf_counter() - begin
                if self.k == 1:
                    burn(spent[0])
            else:
                while not spent[0]:
                    pass

        super().run(all_of_it, range(self.k))
