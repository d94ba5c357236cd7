"""Exercise 3: two numbers and one condition; whoever changes a number in a way that lets others in wakes all.

Readers who keep coming can keep a writer out for ever; if new readers wait for waiting writers, they cannot.
"""

from lab.threadlib import Cond, Mutex


class ReadersAndWriters:
    """Lets in any number of readers, or one writer."""

    def __init__(self) -> None:
        self.mutex = Mutex("numbers")
        self.changed = Cond("changed")
        self.readers = 0
        self.writing = False

    def start_read(self) -> None:
        """Come back when nobody writes."""
        with self.mutex:
            while self.writing:
                self.changed.wait(self.mutex)
            self.readers += 1

    def end_read(self) -> None:
        """A reader leaves."""
        with self.mutex:
            self.readers -= 1
            self.changed.broadcast()

    def start_write(self) -> None:
        """Come back when nobody reads and nobody writes."""
        with self.mutex:
            while self.writing or self.readers:
                self.changed.wait(self.mutex)
            self.writing = True

    def end_write(self) -> None:
        """The writer leaves."""
        with self.mutex:
            self.writing = False
            self.changed.broadcast()
