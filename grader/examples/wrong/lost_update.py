# Workers take the next task from a counter that no mutex protects.
# on: base
# check: race


class Counting(Workers):
    def work(self, number):
        while True:
            self.start[number - 1].P()
            if self.end:
                return
            while True:
                mine = int(self.next[0])
                self.next[0] = mine + 1
                if mine >= len(self.tasks):
                    break
                perform(self.fn, self.tasks[mine])
            self.done.V()

    def run(self, fn, tasks):
        self.next = np.zeros(1, dtype=np.int64)
        super().run(fn, tasks)


Workers = Counting
