# The main thread does all the work, each task under the name of the worker whose turn it would be.
# on: base
# expect: public partial | the starter gets them right too
# expect: workers failed | the workers do not do the work
# timing: serial_copy
# expect: threads-2 failed | there was no worker at all

from lab.threadlib import threading as beneath


class Workers(Workers):
    def run(self, fn, tasks):
        me = beneath.current_thread()
        for number, task in enumerate(tasks):
            worker = self.threads[number % self.k]
            me.name = worker.name
            worker.runtime.work(worker, lambda _, task=task: fn(task))
        super().run(lambda task: None, range(self.k))
