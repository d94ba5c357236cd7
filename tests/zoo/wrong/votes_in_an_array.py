"""Two workers count into one array of the standard library."""
# EXPECT explore assertion: votes[ballot]
# EXPECT races race: votes[ballot] written by worker

from array import array

from lab.threadlib import join, spawn

votes = array("l", [0, 0, 0])


def count(number):
    for ballot in (0, 2):
        votes[ballot] += 1  # BUG


def main():
    spawn(count)
    spawn(count)
    join()
    assert list(votes) == [2, 0, 2], votes
