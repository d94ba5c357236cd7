"""A cache: the value is looked up in one critical section and stored in another, so that it is made twice."""
# EXPECT explore assertion: not atomic

from lab.threadlib import Mutex, join, spawn

mutex = Mutex("cache")
cache = {}
made = 0


def get(key):
    global made
    with mutex:
        value = cache.get(key)
    if value is None:
        value = object()
        with mutex:  # BUG
            made += 1
            cache[key] = value
    return value


def main():
    for _ in range(2):
        spawn(lambda number: get("a"))
    join()
    assert made == 1, f"the value was made {made} times"
