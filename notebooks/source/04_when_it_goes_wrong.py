# %% [markdown]
# # 4 · When it goes wrong
#
# **The question: a program has run a thousand times without a fault. Is it right?**
#
# The classic mistakes with threads hardly ever show. They wait for a schedule, an order of events, that your machine
# produces once in a million runs, and another machine every day. So do not wait for them: the lab's *explorer* runs a
# program under orders that it chooses itself, one thread at a time, and when one fails it shows the shortest it can
# find.

# %% tags=["parameters"]
SCHEDULES = 2000  # how many orders the explorer tries at most
RUNS = 300  # real runs
FILE = None  # your program; None is parallel.py, else the starter

# %%
from lab import notebook  # first: it keeps BLAS to one thread

from lab.check import api, report

notebook.begin()
folder = notebook.scratch()


def program(name, text):
    """Write a small program, of which main() is run and then check(result); list it with the numbers of its lines."""
    path = folder / name
    path.write_text("from lab.threadlib import Cond, Mutex, Semaphore, join, spawn\n" + text, encoding="utf-8")
    for number, line in enumerate(path.read_text().splitlines(), 1):
        print(f"{number:3}  {line}")
    print()
    return path


def explore(path):
    """What the explorer finds, and its findings as an object."""
    found = api.explore_submission(path, schedules=SCHEDULES, workers=2, seconds=20)
    report.show(found)
    return found


# %% [markdown]
# ## A lost update
#
# Two threads add one, three times each, without a mutex.
#
# **Predict**: of RUNS runs with real threads, how many end with a sum that is too small? And how many schedules does
# the explorer need to find one?

# %%
prediction = {"real runs that failed": None, "schedules until it fails": None}

# %%
lost_update = program(
    "lost_update.py",
    """
count = 0


def add(number):
    global count
    for _ in range(3):
        seen = count
        count = seen + 1


def main():
    global count
    count = 0
    spawn(add)
    spawn(add)
    join()
    return count


def check(result):
    assert result == 6, f"{result} of 6 increments"
""",
)
scope = {}
exec(compile(lost_update.read_text(), lost_update.name, "exec"), scope)
failed = sum(scope["main"]() != 6 for _ in range(RUNS))
found = explore(lost_update)
notebook.compare(prediction, {"real runs that failed": failed, "schedules until it fails": found.schedules}, "{:.0f}")

# %% [markdown]
# The explorer names more than the wrong sum: which thread read the old value, and where another one went in between. A
# star marks a change of thread. What you see is not the schedule it stumbled upon, but that one with everything left
# out that is not needed to fail.
#
# ## A deadlock
#
# Two mutexes, two threads, opposite orders.

# %%
ab_ba = program(
    "transfer.py",
    """
ada, bob = Mutex("ada's account"), Mutex("bob's account")
money = {"ada": 10, "bob": 10}


def to_bob(number):
    with ada:
        with bob:
            money["ada"] -= 1
            money["bob"] += 1


def to_ada(number):
    with bob:
        with ada:
            money["bob"] -= 1
            money["ada"] += 1


def main():
    spawn(to_bob)
    spawn(to_ada)
    join()
""",
)
found = explore(ab_ba)

# %% [markdown]
# Read the last lines first: who holds what, who waits for what. A cycle of waits is a deadlock, and turning
# *one* arrow round is enough to break it.
#
# ## Step by step
#
# The schedule is a string. Whoever replays it gets the same run, on any machine. Here it is as a table: who did what,
# and who held what before.

# %%
schedule = found.findings[0].schedule
steps = api.trace(ab_ba, schedule)


def listed(holders):
    """{mutex: thread} in a few words."""
    return "; ".join(f"{thread} has {mutex.removeprefix('mutex ')}" for mutex, thread in holders.items())


rows = [
    ("*" if step["changed"] else "", step["thread"], step["text"], step["line"] or "", listed(step["holders"]))
    for step in steps["steps"]
]
notebook.table("|thread|does|>line|held before it", rows, title=f"Schedule {schedule}")
print("In the end:", listed(steps["end"]["holders"]))
for name, at in steps["end"]["positions"].items():
    print(f"  {name:9} waits at line {at['line']}: {at['doing']} {at['object']}")

# %% [markdown]
# The same as a page: step forward and back with the arrow keys, look where each thread is in the source, and who waits
# for whom. The graph has *every* state this program can come to, whatever the schedule; red ones are deadlocks, and
# from one with red dashes every road leads there. Find the step after which nothing can be saved. (For your own
# program, `make explore OUT=failure.html` writes such a page.)

# %%
notebook.embed(api.page(ab_ba, schedule, found.findings[0]), folder)

# %% [markdown]
# ## Mend it
#
# One order for all: whoever needs both accounts takes ada's first. Change the second function in the cell below, run
# it, and the explorer has nothing to say. The same search, this time through *all* schedules with at most two changes
# of thread at moments when the running one could have gone on:

# %%
mended = program(
    "transfer_in_order.py",
    ab_ba.read_text().split("\n", 1)[1].replace("with bob:\n        with ada:", "with ada:\n        with bob:"),
)
every = api.explore_submission(mended, schedules=SCHEDULES, strategy="exhaustive", seconds=20)
report.show(every)

# %% [markdown]
# *Nothing found* is not a proof: three changes of thread have not been tried. But most mistakes need one or two.
#
# ## A lost wakeup
#
# The most expensive mistake of stage 2. A worker looks, finds nothing to do, and goes to sleep; between the looking and
# the sleeping the work arrives, and the signal finds nobody to wake.
#
# **Before you run it**: which line would you blame?

# %%
my_guess = ""

# %%
asleep = program(
    "asleep.py",
    """
mutex, arrived = Mutex("queue"), Cond("arrived")
queue, done = [], []


def worker(number):
    mutex.lock()
    empty = not queue
    mutex.unlock()
    if empty:
        mutex.lock()
        arrived.wait(mutex)
        mutex.unlock()
    mutex.lock()
    done.append(queue.pop())
    mutex.unlock()


def main():
    spawn(worker)
    mutex.lock()
    queue.append("a task")
    arrived.signal()
    mutex.unlock()
    join()
    return done
""",
)
found = explore(asleep)
print("Your guess:", my_guess or "none yet")

# %% [markdown]
# Both halves are under the mutex, and that is not enough: it was let go *between* them. `while not queue:
# arrived.wait(mutex)` looks and goes to sleep in one step, for `wait` lets go of the mutex only when the thread is
# asleep.
#
# ## A race
#
# Two accesses to the same place, at least one of them a write, and nothing that orders them. A race may do no harm in
# the run you see. The detector finds it anyway, because it follows who knows of what, not who came first. Here a worker
# writes into an array, and the main thread reads it without waiting for the end:

# %%
too_early = program(
    "too_early.py",
    """
import numpy as np

result = np.zeros(4)
ready = Semaphore(0, "ready")


def work(number):
    ready.V()
    result[number] = number


def main():
    spawn(work)
    spawn(work)
    ready.P()
    ready.P()
    total = result.sum()
    join()
    return total
""",
)
report.show(api.check_races(too_early, schedules=20, workers=2, seconds=20))

# %% [markdown]
# Each worker says "ready" one line too early. With real threads the sum is right nearly every time.
#
# ## Your file
#
# The same search on your program. It runs on a tiny model, and each token is compared with that of the serial program.

# %%
file = FILE or notebook.mine()
found = api.explore_submission(file, schedules=min(SCHEDULES, 300), workers=3, seconds=15)
report.show(found)
print(f"{file}: {found.schedules} schedules, {'nothing found' if found.ok else 'see above'}")

# %% [markdown]
# ## Your turn
#
# 1. In your `Workers`, take one thing away on purpose: `while` becomes `if`; `broadcast` becomes `signal`; the counter
#    of unfinished tasks is changed outside of the mutex. *Predict* what the explorer will say: deadlock, exception,
#    wrong tokens, or nothing. Then `make explore`.
# 2. Put it back, and run `make explore` and `make races` once more. Do that after every change to `Workers` from now
#    on; it is cheaper than an evening with print statements.
#
# **What to look for**: the line in the message, and the star before it. The fault is rarely where a thread hangs; it is
# where another one did not do what the first is waiting for.
