"""Merge sort on slices of one list that do not overlap; a local variable changes while nobody else can look at it."""

from heapq import merge

from lab.threadlib import join, spawn

values = [5, 3, 8, 1, 9, 2, 7, 6]


def main():
    size = len(values)
    size //= 2

    def sort_part(number):
        low = (number - 1) * size
        values[low : low + size] = sorted(values[low : low + size])

    spawn(sort_part)
    spawn(sort_part)
    join()
    size -= 1
    values[:] = merge(values[: size + 1], values[size + 1 :])
    assert values == [1, 2, 3, 5, 6, 7, 8, 9]
