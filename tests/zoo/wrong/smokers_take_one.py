"""Cigarette smokers: each takes its first ingredient and then waits for the second, which another one has taken."""
# EXPECT explore deadlock: waits in P(semaphore

from lab.threadlib import Semaphore, join, spawn

tobacco, paper, matches = Semaphore(0, "tobacco"), Semaphore(0, "paper"), Semaphore(0, "matches")
smoked = Semaphore(0, "smoked")


def smoker(first, second):
    def life(number):
        first.P()
        second.P()  # BUG
        smoked.V()

    return life


def agent(number):
    for ingredients in ((tobacco, paper), (paper, matches), (matches, tobacco)):
        for ingredient in ingredients:
            ingredient.V()
        smoked.P()


def main():
    spawn(agent)
    spawn(smoker(tobacco, paper))
    spawn(smoker(paper, matches))
    spawn(smoker(matches, tobacco))
    join()
