"""A sorted list, locked node by node: the next one is locked before the one in hand is let go."""

from lab.threadlib import Mutex, join, spawn


class Node:
    def __init__(self, value, following=None):
        self.value, self.next, self.mutex = value, following, Mutex("node")


head = Node(0, Node(10))


def insert(value):
    node = head
    node.mutex.lock()
    while node.next is not None and node.next.value < value:
        following = node.next
        following.mutex.lock()
        node.mutex.unlock()
        node = following
    node.next = Node(value, node.next)
    node.mutex.unlock()


def remove(value):
    before = head
    before.mutex.lock()
    while before.next is not None:
        node = before.next
        node.mutex.lock()
        if node.value == value:
            before.next = node.next
            node.mutex.unlock()
            break
        before.mutex.unlock()
        before = node
    before.mutex.unlock()


def main():
    spawn(lambda number: insert(5))
    spawn(lambda number: (insert(7), remove(7)))
    spawn(lambda number: insert(3))
    join()
    node, found = head, []
    while node is not None:
        found.append(node.value)
        node = node.next
    assert found == [0, 3, 5, 10], found
