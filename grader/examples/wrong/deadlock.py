# Two mutexes, taken in opposite orders by main thread and worker; the worker holds its own while it waits.
# on: base
# expect: runs failed | hangs: every thread waits
# expect: public failed | self.done.P()


def work(self, number):
    self.start[number - 1].P()
    self.start[number - 1].P()  # a second time: nobody gives it


Workers.work = work
