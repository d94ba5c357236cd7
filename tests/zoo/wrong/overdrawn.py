"""A bank account: the balance is looked up in one critical section and drawn from in another."""
# EXPECT explore assertion: not atomic

from lab.threadlib import Mutex, join, spawn

mutex = Mutex("account")
balance = 100


def withdraw(number):
    global balance
    with mutex:
        enough = balance >= 80
    if enough:
        with mutex:  # BUG
            balance -= 80
            assert balance >= 0, f"the balance is {balance}"


def main():
    spawn(withdraw)
    spawn(withdraw)
    join()
