# Workers take the next task from a counter that no mutex protects.
# on: base
# check: race


class Workers(Workers):
    def share(self, number):
        while True:
            mine = int(self.next[0])
            self.next[0] = mine + 1
            if mine >= len(self.tasks):
                return
            yield self.tasks[mine]

    def run(self, fn, tasks):
        self.next = np.zeros(1, dtype=np.int64)
        super().run(fn, tasks)
