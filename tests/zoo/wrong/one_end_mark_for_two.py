"""The producer puts one end mark into the queue, but two consumers wait for one."""
# EXPECT explore deadlock: had locked mutex queue only after that
# EXPECT checked deadlock: nobody is left to signal it; its last signal was at

from lab.threadlib import Cond, Mutex, join, spawn

items = []
mutex, some = Mutex("queue"), Cond("some")


def producer(number):
    for item in [1, 2, None]:
        with mutex:
            items.append(item)
            some.signal()  # BUG


def consumer(number):
    while True:
        with mutex:
            while not items:
                some.wait(mutex)
            item = items.pop(0)
        if item is None:
            return


def main():
    for role in (producer, consumer, consumer):
        spawn(role)
    join()
