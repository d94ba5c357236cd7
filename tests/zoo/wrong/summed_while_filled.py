"""A generator expression goes through a dictionary to which another thread adds."""
# EXPECT explore exception: dictionary changed size during iteration

from lab.threadlib import join, spawn

table = {}


def fill(number):
    for key in range(3):
        table[key] = number


def total(number):
    return sum(value for value in table.values())  # BUG


def main():
    spawn(fill)
    spawn(total)
    join()
