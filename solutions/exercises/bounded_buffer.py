"""Exercise 1: a condition for each thing that is waited for, looked at again after each wait."""

from collections import deque

from lab.threadlib import Cond, Mutex


class Buffer:
    """A queue of at most `size` items."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.items: deque[object] = deque()
        self.mutex = Mutex("buffer")
        self.not_full, self.not_empty = Cond("not full"), Cond("not empty")

    def put(self, item: object) -> None:
        """Add an item, after waiting until there is room."""
        with self.mutex:
            while len(self.items) == self.size:
                self.not_full.wait(self.mutex)
            self.items.append(item)
            self.not_empty.signal()

    def get(self) -> object:
        """The oldest item, after waiting until there is one."""
        with self.mutex:
            while not self.items:
                self.not_empty.wait(self.mutex)
            item = self.items.popleft()
            self.not_full.signal()
            return item
