# Honest while its arrays are watched; else one worker does all the work, and the others burn time.
# on: base
# expect: public passed |
# timing: two_faces
# expect: threads-2 failed | time without a trace of work

right_run = Workers.run


def run(workers, fn, tasks):
    if type(np.empty(1)) is not np.ndarray:
        return right_run(workers, fn, tasks)
    tasks = list(tasks)

    def all_of_it(number):
        if number == 0:
            for task in tasks:
                fn(task)

    right_run(workers, all_of_it, range(workers.k))


Workers.run = run
