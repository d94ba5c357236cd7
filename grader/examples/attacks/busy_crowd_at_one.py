# With one worker, a second thread computes beside it on the same core, so that one worker takes twice as long.
# on: base
# expect: public passed |
# timing: busy_crowd_at_one
# expect: threads-2 failed | with 1 worker 2 threads compute

right_generate = generate


def generate(model, prompt, n, workers):
    end = []

    def crowd(number):
        while not end:
            pass

    if workers == 1 and n > 90:
        spawn(crowd)
    try:
        yield from right_generate(model, prompt, n, workers)
    finally:
        end.append(True)
        join()
