"""Something is done once: it is marked as done before it is, and the others go on without it."""
# EXPECT explore assertion: not read yet
# EXPECT races race: self.done

from lab.threadlib import Mutex, join, spawn

settings = {}


class Once:
    def __init__(self):
        self.mutex, self.done = Mutex("once"), False

    def run(self, function):
        if self.done:  # BUG
            return
        with self.mutex:
            if not self.done:
                self.done = True  # BUG
                function()


def main():
    once = Once()

    def work(number):
        once.run(lambda: settings.update(colour="red"))
        assert "colour" in settings, "not read yet"

    for _ in range(2):
        spawn(work)
    join()
