"""python tests/classroom_driver.py SUBMISSIONS GRADEBOOK: a run over a class with the stub as its grader.

Each submission has a process of its own, as in a real run; Ctrl-C ends it with 130.
"""

import sys

from classroom_stub import perform_in_process

from grader.classroom.collect import collect
from grader.classroom.gradebook import Gradebook
from grader.classroom.task import Settings
from grader.points import load


def run(submissions: str, gradebook: str) -> None:
    from grader.classroom.cluster import connected  # here, as in the command: each grading process runs this file anew
    from grader.classroom.run import ClassRun

    settings = Settings(load())
    with Gradebook(gradebook) as book:
        book.add(collect(submissions))
        with connected(None, settings.points.workers) as client:
            ClassRun(book, client, settings, lambda done, *_: print(done, flush=True), perform_in_process).grade()


if __name__ == "__main__":
    try:
        run(*sys.argv[1:])
    except KeyboardInterrupt:
        sys.exit(130)
