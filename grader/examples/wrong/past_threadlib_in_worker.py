# One worker of the library, which starts the others by itself, with what the library is made of.
# on: base
# expect: public partial | threads that are not lab.threadlib
# expect: workers failed | a thread was started without lab.threadlib
# whole: public open

from lab.threadlib import threading as beneath


class Workers(Workers):
    def __init__(self, k):
        self.k, self.fn, self.tasks, self.end = k, None, [], False
        self.start = [Semaphore(0, f"start {i}") for i in range(k)]
        self.done = Semaphore(0, "done")
        self.threads = [spawn(self.work_with_others)]

    def work_with_others(self, number):
        others = [beneath.Thread(target=self.work, args=(number + i,)) for i in range(1, self.k)]
        for other in others:
            other.start()
        self.work(number)
        for other in others:
            other.join()
