"""Each thread has a context of its own: what it sets there no other one sees, in this run or in another."""

from contextvars import ContextVar

from lab.threadlib import join, spawn

user = ContextVar("user", default="nobody")
seen = []


def worker(number):
    assert user.get() == "nobody"
    user.set(f"user {number}")
    seen.append(user.get())


def main():
    assert user.get() == "nobody"
    user.set("main")
    for _ in range(3):
        spawn(worker)
    join()
    assert user.get() == "main"
    assert sorted(seen) == ["user 1", "user 2", "user 3"], seen
