"""A loop goes through a dictionary to which another thread adds; there is nothing in the loop but a sum."""
# EXPECT explore exception: dictionary changed size during iteration

from lab.threadlib import Mutex, join, spawn

mutex = Mutex("prices")
prices = {"tea": 2, "milk": 1}


def add(number):
    with mutex:
        prices["cake"] = 4


def total(number):
    summed = 0
    for price in prices.values():  # BUG
        summed += price
    return summed


def main():
    spawn(add)
    spawn(total)
    join()
