# A thread for every four rows of the output.
# on: base
# expect: runs failed | can't start new thread
# expect: public failed | a thread for every row


def matmul(workers, out, inp, weight, bias):
    gate = Semaphore(0)

    def rows(first):
        def work(number):
            gate.P()
            out[:, first : first + 4] = inp @ weight[first : first + 4].T + (
                0 if bias is None else bias[first : first + 4]
            )

        return work

    threads = [spawn(rows(first)) for first in range(0, weight.shape[0] * 4, 4)]
    for _ in threads:
        gate.V()
    join(*threads)
