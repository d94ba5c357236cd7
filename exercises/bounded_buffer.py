"""Exercise 1: a bounded buffer, about 10 lines. Check it: make exercise E=1

Producers put items in, consumers take them out, in the order in which they came. The buffer never holds more than
`size` items: put() waits while it is full, get() waits while it is empty. Any number of threads may call both.

As it stands nobody waits.
"""

from collections import deque

from lab.threadlib import Cond, Mutex  # noqa: F401  (yours to use)


class Buffer:
    """A queue of at most `size` items."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.items: deque[object] = deque()

    def put(self, item: object) -> None:
        """Add an item, after waiting until there is room."""
        self.items.append(item)

    def get(self) -> object:
        """The oldest item, after waiting until there is one."""
        return self.items.popleft() if self.items else None
