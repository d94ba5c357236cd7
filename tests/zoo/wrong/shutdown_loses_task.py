"""A worker that is told to stop leaves at once, also when tasks are left in the queue."""
# EXPECT explore assertion: worker-1 and worker-2 ended at

from lab.threadlib import Cond, Mutex, join, spawn

mutex = Mutex()
changed = Cond()
queue = []
done = []
closed = False


def worker(number):
    while True:
        with mutex:
            while not queue and not closed:
                changed.wait(mutex)
            if closed:
                return  # BUG
            done.append(queue.pop(0))


def main():
    global closed
    for _ in range(2):
        spawn(worker)
    for task in range(4):
        with mutex:
            queue.append(task)
            changed.signal()
    with mutex:
        closed = True
        changed.broadcast()
    join()
    assert len(done) == 4, f"only {len(done)} of 4 tasks done"
