"""`state.value = channel.receive()` writes when receive() has returned, after the other side is done."""

from lab.threadlib import Mutex, Semaphore, join, spawn


class Channel:
    """One value at a time."""

    def __init__(self):
        self.lock, self.items, self.full = Mutex(), [], Semaphore(0)

    def send(self, value):
        with self.lock:
            self.items.append(value)
        self.full.V()

    def receive(self):
        self.full.P()
        with self.lock:
            return self.items.pop(0)


class State:
    """What two threads take turns with."""

    def __init__(self):
        self.value, self.parts, self.shared = 0, {}, [0]


def main():
    there, back = Channel(), Channel()
    state = State()

    def worker(number):
        state.value = there.receive()
        state.parts["first"], state.shared[0] = there.receive(), there.receive()
        back.send(1)

    spawn(worker)
    state.value, state.parts["first"], state.shared[0] = 7, 7, 7
    for value in (1, 2, 3):
        there.send(value)
    back.receive()
    assert (state.value, state.parts["first"], state.shared[0]) == (1, 2, 3)
    join()
