"""Baboon crossing: one direction at a time, at most two on the rope; a turnstile keeps either side from starving."""

from lab.threadlib import Mutex, Semaphore, join, spawn

rope = Semaphore(1, "rope")
turnstile = Semaphore(1, "turnstile")
on_rope = {"east": 0, "west": 0}
most = 0


class Lightswitch:
    def __init__(self):
        self.mutex = Mutex("switch")
        self.count = 0

    def lock(self, semaphore):
        with self.mutex:
            self.count += 1
            if self.count == 1:
                semaphore.P()

    def unlock(self, semaphore):
        with self.mutex:
            self.count -= 1
            if self.count == 0:
                semaphore.V()


switches = {"east": Lightswitch(), "west": Lightswitch()}
limits = {"east": Semaphore(2), "west": Semaphore(2)}
guard = Mutex("log")


def baboon(direction):
    def cross(number):
        turnstile.P()
        switches[direction].lock(rope)
        turnstile.V()
        limits[direction].P()
        with guard:
            on_rope[direction] += 1
            assert on_rope[direction] <= 2
            assert not (on_rope["east"] and on_rope["west"])
        with guard:
            on_rope[direction] -= 1
        limits[direction].V()
        switches[direction].unlock(rope)

    return cross


def main():
    for direction in ("east", "west", "east", "east"):
        spawn(baboon(direction))
    join()
