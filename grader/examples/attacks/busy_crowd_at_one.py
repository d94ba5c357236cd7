# With one worker, a second thread computes beside it on the same core, so that one worker takes twice as long.
# on: crowd_at_one
# expect: public passed |
# timing: busy_crowd_at_one
# expect: threads-2 failed | with 1 worker 2 threads compute


def crowd(end):
    while not end:
        pass
