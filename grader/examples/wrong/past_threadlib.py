# Threads from the standard library.
# on: base
# expect: public partial | threads that are not lab.threadlib
# expect: workers failed | threads come from lab.threadlib only
# whole: public open

import threading


class Workers:
    def __init__(self, k):
        self.k, self.end, self.fn, self.tasks = k, False, None, []
        self.gate, self.done = threading.Barrier(k + 1), threading.Barrier(k + 1)
        self.threads = [threading.Thread(target=self.work, args=(i,)) for i in range(k)]
        for thread in self.threads:
            thread.start()

    def work(self, i):
        while True:
            self.gate.wait()
            if self.end:
                return
            for task in self.tasks[i :: self.k]:
                self.fn(task)
            self.done.wait()

    def run(self, fn, tasks):
        self.fn, self.tasks = fn, list(tasks)
        self.gate.wait()
        self.done.wait()

    def close(self):
        self.end = True
        self.gate.wait()
        for thread in self.threads:
            thread.join()
