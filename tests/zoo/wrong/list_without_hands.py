"""A sorted list, locked node by node: the next node is read before it is locked, while nothing is held."""
# EXPECT explore assertion: not atomic

from lab.threadlib import Mutex, join, spawn


class Node:
    def __init__(self, value, following=None):
        self.value, self.next, self.mutex = value, following, Mutex("node")


head = Node(0, Node(10))


def insert(value):
    node = head
    while True:
        with node.mutex:
            following = node.next
        if following is None or following.value > value:
            break
        node = following
    with node.mutex:  # BUG
        node.next = Node(value, following)


def values():
    node, found = head, []
    while node is not None:
        found.append(node.value)
        node = node.next
    return found


def main():
    for value in (3, 5):
        spawn(lambda number, value=value: insert(value))
    join()
    assert values() == [0, 3, 5, 10], values()
