"""Two threads may both find that the table is missing; the second one may see it half made."""
# EXPECT explore exception: KeyError
# EXPECT races race: table

from lab.threadlib import join, spawn

table = None


def lookup(key):
    global table
    if table is None:
        table = {}  # BUG
        for number in range(3):
            table[number] = number * number
    return table[key]


def worker(number):
    lookup(2)


def main():
    for _ in range(2):
        spawn(worker)
    join()
