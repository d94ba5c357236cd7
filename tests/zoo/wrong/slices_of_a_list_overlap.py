"""Two workers sort slices of one list; the slices have an element in common."""
# EXPECT races race: values[low:high] written by worker

from lab.threadlib import join, spawn

values = [5, 3, 8, 1, 9, 2, 7]


def sort_part(number):
    low, high = [(0, 4), (3, 7)][number - 1]
    values[low:high] = sorted(values[low:high])  # BUG


def main():
    spawn(sort_part)
    spawn(sort_part)
    join()
