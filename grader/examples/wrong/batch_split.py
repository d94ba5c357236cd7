# The work is split over the batch, which is 1: one worker does everything.
# on: base
# expect: public partial | the starter gets them right too
# timing: batch_split
# expect: threads-2 failed | only 1 of 2 threads did any work
# expect: threads-2 failed | is the loop split over the batch


def split(count, k):
    return [slice(0, count)] + [slice(0, 0)] * (k - 1)
