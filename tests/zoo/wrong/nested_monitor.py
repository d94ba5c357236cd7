"""A monitor inside a monitor: waiting in the inner one lets go of its mutex only, and whoever would signal needs the
outer one's first."""
# EXPECT explore deadlock: held by
# EXPECT checked deadlock: held by

from lab.threadlib import Cond, Mutex, join, spawn


class Queue:
    def __init__(self):
        self.mutex, self.some, self.items = Mutex("queue"), Cond("some"), []

    def put(self, item):
        with self.mutex:
            self.items.append(item)
            self.some.signal()

    def get(self):
        with self.mutex:
            while not self.items:
                self.some.wait(self.mutex)
            return self.items.pop(0)


class Shop:
    def __init__(self):
        self.mutex, self.orders = Mutex("shop"), Queue()

    def order(self, what):
        with self.mutex:  # BUG
            self.orders.put(what)

    def serve(self):
        with self.mutex:  # BUG
            return self.orders.get()


shop = Shop()


def main():
    spawn(lambda number: shop.serve())
    spawn(lambda number: shop.order("tea"))
    join()
