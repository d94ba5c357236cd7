"""Exercise 3: readers and writers, about 14 lines. Check it: make exercise E=3

Many threads may read at the same time; a thread that writes is alone: no reader and no other writer is there. Each
thread calls start_read() ... end_read(), or start_write() ... end_write().

As it stands everybody is let in.
"""

from lab.threadlib import Cond, Mutex  # noqa: F401  (yours to use)


class ReadersAndWriters:
    """Lets in any number of readers, or one writer."""

    def start_read(self) -> None:
        """Come back when nobody writes."""

    def end_read(self) -> None:
        """A reader leaves."""

    def start_write(self) -> None:
        """Come back when nobody reads and nobody writes."""

    def end_write(self) -> None:
        """The writer leaves."""
