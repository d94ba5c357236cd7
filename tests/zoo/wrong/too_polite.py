"""Each of two threads gives way as soon as it sees that the other wants to go on, too."""
# EXPECT races race: wants

from lab.threadlib import join, spawn

wants = [False, False]


def worker(number):
    mine, other = number - 1, 2 - number
    wants[mine] = True
    while wants[other]:
        wants[mine] = False  # BUG
        wants[mine] = True
    wants[mine] = False


def main():
    for _ in range(2):
        spawn(worker)
    join()
