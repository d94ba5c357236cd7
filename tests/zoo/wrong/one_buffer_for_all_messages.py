"""The producer sends the same array again and again: it writes the next message while the last one is being read."""
# EXPECT races race: message

from collections import deque

import numpy as np

from lab.threadlib import Cond, Mutex, join, spawn

mutex, sent = Mutex("queue"), Cond("sent")
queue = deque()


def send(what):
    with mutex:
        queue.append(what)
        sent.signal()


def producer(number):
    message = np.zeros(4)
    for step in range(3):
        message[:] = step  # BUG
        send(message)
    send(None)


def consumer(number):
    while True:
        with mutex:
            while not queue:
                sent.wait(mutex)
            message = queue.popleft()
        if message is None:
            return
        message.sum()


def main():
    spawn(producer)
    spawn(consumer)
    join()
