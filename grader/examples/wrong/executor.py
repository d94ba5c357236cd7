# Threads of a pool of the standard library.
# on: base
# expect: public partial | threads that are not lab.threadlib
# expect: workers failed | import concurrent.futures: threads come from lab.threadlib only
# whole: public open

from concurrent.futures import ThreadPoolExecutor


class Workers:
    def __init__(self, k):
        self.k, self.pool = k, ThreadPoolExecutor(k)

    def run(self, fn, tasks):
        list(self.pool.map(fn, tasks))

    def close(self):
        self.pool.shutdown()
