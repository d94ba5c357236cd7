"""A decorator that shall make a function synchronized makes a new mutex for every call."""
# EXPECT explore assertion: total
# EXPECT races race: they hold different mutexes, the mutex made at new_mutex_for_each_call.py:13 and mutex #2 made at

from functools import wraps

from lab.threadlib import Mutex, join, spawn


def synchronized(function):
    @wraps(function)
    def locked(number):
        with Mutex():
            return function(number)

    return locked


total = 0


@synchronized
def add(number):
    global total
    total += number  # BUG


def main():
    for _ in range(2):
        spawn(add)
    join()
    assert total == 3, total
