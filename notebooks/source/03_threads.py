# %% [markdown]
# # 3 · Threads, and the lock you did not ask for
#
# **The question: two threads, two cores, and yet not twice as fast. Who stopped whom?**
#
# The thread library of the lab, [lab/threadlib.py](../lab/threadlib.py), has the names of the course's `thread.h` and
# `thread-sync.h`. You can read it whole in ten minutes. This chapter uses all of it, and looks at real threads with the
# lab's recorder.

# %% tags=["parameters"]
WORKERS = 2
SIZE = 1400  # rows and columns of the matrices that are long work
ITEMS = 16  # what the producer makes

# %%
from lab import notebook  # first: it keeps BLAS to one thread

import time

import numpy as np

from lab import machine
from lab.measure import timeline
from lab.measure.recording import watch
from lab.threadlib import Cond, Mutex, Semaphore, join, perform, spawn

notebook.begin()
print(f"{machine.count()} cores, {WORKERS} workers")

# %% [markdown]
# ## spawn and join
#
# `spawn(fn)` starts a thread that runs `fn(number)`, with numbers from 1; `join()` waits for all of them. `perform(fn,
# task)` is `fn(task)`, told to the recorder. Nothing else in this program says who may do what when.

# %%
square = np.random.default_rng(0).random((SIZE, SIZE), dtype=np.float32)
out = [np.empty_like(square) for _ in range(WORKERS)]


def long_work(number):
    """One product of two large matrices: a single call of numpy, long."""
    np.matmul(square, square, out=out[number])


def side_by_side(work):
    """`work` once on each of the workers."""
    for _ in range(WORKERS):
        spawn(lambda number: perform(work, number - 1))
    join()


def one_after_the_other(work):
    """The same work, without threads."""
    for number in range(WORKERS):
        work(number)


def seconds(fn):
    """How long fn() takes, the best of three."""
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        fn()
        best = min(best, time.perf_counter() - start)
    return best


long_work(0)
notebook.picture(timeline.draw_whole(watch(lambda: side_by_side(long_work)), "Two long operations"))

# %% [markdown]
# The two bars lie one above the other: the tasks ran at the same time. Now the same *amount* of arithmetic in small
# pieces: thousands of products of a short vector instead of one product of two matrices.
#
# **Predict** the speedup of both kinds on the workers you have: one after the other, divided by side by side.

# %%
prediction = {"long calls": None, "short calls": None}  # speedups, for example 1.8

# %%
PIECES = 12 * SIZE
short_vector = square[0, :64].copy()


def short_work(number):
    """As many calls of numpy as PIECES says, each short."""
    for _ in range(PIECES):
        np.dot(short_vector, short_vector)


measured = {
    name: seconds(lambda work=work: one_after_the_other(work)) / seconds(lambda work=work: side_by_side(work))
    for name, work in {"long calls": long_work, "short calls": short_work}.items()
}
notebook.compare(prediction, measured, "{:.2f} times")

# %% [markdown]
# ## The lock you did not ask for
#
# Python has one lock for the whole interpreter. Whoever executes Python holds it. numpy lets go of it while it computes
# on more than a few hundred numbers, and takes it again afterwards. So
#
# - in **long calls** the threads are inside numpy nearly all the time: side by side;
# - in **short calls** they are in Python nearly all the time: one at a time, and the lock is handed back and forth as
#   well.
#
# The timeline cannot see the lock, only that a task takes longer than it would alone. The tasks below are the same for
# every thread; compare their length with that of a task that has the interpreter to itself:

# %%
alone = watch(lambda: perform(short_work, 0))
shared = watch(lambda: side_by_side(short_work))
notebook.picture(timeline.draw_whole(alone, "Short operations, one thread"))
notebook.picture(
    timeline.draw_whole(shared, "Short operations, side by side: the same bar takes as long as both together")
)
rows = [
    ("alone", f"{max(task.length for task in alone.tasks) / 1e6:.0f} ms"),
    ("side by side", f"{max(task.length for task in shared.tasks) / 1e6:.0f} ms"),
]
notebook.table("a task|>takes", rows)

# %% [markdown]
# This is the one rule of parallel numpy: **few, long operations**. `serial.py` calls `np.dot` once for each position
# and head. Keep that in mind when you come to attention.
#
# ## A mutex: one at a time
#
# `count += 1` reads, adds and writes. Between the reading and the writing another thread may do the same.

# %%
count = 0
lock = Mutex("count")


def add(number):
    """A hundred increments, each under the mutex."""
    global count
    for _ in range(100):
        with lock:
            seen = count
            time.sleep(0)  # lets the others run, at the worst moment
            count = seen + 1


side_by_side(add)
print(f"{count} increments were counted, of {100 * WORKERS}")

# %% [markdown]
# Take `with lock:` out, count again, and see how many are left. Then put it back.
#
# ## Producer and consumers: condition variables
#
# One thread makes items, the others use them; a buffer in between has room for three. A thread that finds it full, or
# empty, has to *wait until* that changes. That is what a condition variable is for, and the pattern never changes:
#
#     with mutex:
#         while not what_I_need:
#             cond.wait(mutex)
#         change the state
#         cond.broadcast()
#
# `while`, not `if`: between the wake-up and your turn somebody else may have been quicker. One condition variable for
# two reasons to wait and `signal()`: the wake-up goes to the wrong one. Chapter 4 shows both going wrong.

# %%
ROOM = 3


def make(item):
    """A piece of work that takes a while: a millisecond."""
    time.sleep(0.001)
    return item


def use(item):
    """Another that takes five times as long."""
    time.sleep(0.005)
    used.append(item)


def produce(number):
    """Make ITEMS items, wait while the buffer is full; None says that no more will come."""
    for item in [*range(ITEMS), *[None] * WORKERS]:
        if item is not None:
            perform(make, item)
        with mutex:
            while len(buffer) == ROOM:
                changed.wait(mutex)
            buffer.append(item)
            changed.broadcast()


def consume(number):
    """Use items until there are none, wait while the buffer is empty."""
    while True:
        with mutex:
            while not buffer:
                changed.wait(mutex)
            item = buffer.pop(0)
            changed.broadcast()
        if item is None:
            return
        perform(use, item)


def open_shop():
    """An empty buffer, and what protects it."""
    global mutex, changed, buffer, used
    mutex, changed = Mutex("buffer"), Cond("changed")
    buffer, used = [], []


def shop():
    """One producer, WORKERS consumers."""
    open_shop()
    spawn(produce)
    for _ in range(WORKERS):
        spawn(consume)
    join()


recording = watch(shop)
notebook.picture(timeline.draw_whole(recording, "One producer (worker-1) and the consumers"))
assert sorted(used) == list(range(ITEMS))
waits = [
    (row["who"], row["name"], row["times"], f"{row['seconds'] * 1e3:.0f} ms") for row in timeline.wait_rows(recording)
]
notebook.table("who|waits for|>times|>in all", waits)

# %% [markdown]
# At first the consumers wait, because there is nothing yet. Then the buffer fills, and the producer waits: it can
# be no faster than those who use what it makes. **Whoever waits is not the bottleneck.** That sentence is worth an hour
# of your time when you read the timeline of your own program.
#
# ## Semaphores: counting
#
# A semaphore is a number. `P()` waits until it is positive and takes one; `V()` adds one. Unlike a signal a `V()` is
# not lost when nobody waits yet. The same shop, with the two reasons to wait in two semaphores:


# %%
def open_shop():
    """An empty shelf, a semaphore for each reason to wait, and a mutex for the shelf itself."""
    global room, filled, guard, shelf, used
    room, filled, guard = Semaphore(ROOM, "room"), Semaphore(0, "filled"), Mutex("guard")
    shelf, used = [], []


def produce(number):
    """As above."""
    for item in [*range(ITEMS), *[None] * WORKERS]:
        room.P()
        with guard:
            shelf.append(item)
        filled.V()


def consume(number):
    """As above."""
    while True:
        filled.P()
        with guard:
            item = shelf.pop(0)
        room.V()
        if item is None:
            return
        perform(use, item)


notebook.picture(timeline.draw_whole(watch(shop), "The same with semaphores, and a producer that needs no time"))
assert sorted(used) == list(range(ITEMS))

# %% [markdown]
# ## Your turn
#
# Stage 2 in your `parallel.py`: `Workers`. `run(fn, tasks)` is the producer; k threads that live from the beginning of
# `generate()` to its end are the consumers. About 35 lines; you have seen every piece of it on this page.
#
# 1. Write down, before you code, for each moment at which a thread waits: *what for*, and *who wakes it*. If a line has
#    no "who", you have found a deadlock without a computer.
# 2. `run()` returns only when all tasks are *done*, not when all are *taken*. What must be counted?
# 3. `close()` has to wake threads that wait for a task that never comes.
#
# **What to look for**: `make check` finds nothing, `make explore` finds nothing (chapter 4 is about what it says
# otherwise), and `make timeline` shows your workers as lanes: short tasks with white between them, because the products
# are not split yet.
