"""python tests/classroom_driver.py SUBMISSIONS GRADEBOOK [ADDRESS]: a run over a class with the stub as its grader."""

import sys

from classroom_stub import perform

from grader.classroom.cluster import connected
from grader.classroom.collect import collect
from grader.classroom.gradebook import Gradebook
from grader.classroom.run import ClassRun
from grader.classroom.task import Settings
from grader.points import load

if __name__ == "__main__":
    settings = Settings(load())
    with Gradebook(sys.argv[2]) as book:
        book.add(collect(sys.argv[1]))
        with connected(sys.argv[3] if len(sys.argv) > 3 else None, settings.points.workers) as client:
            ClassRun(book, client, settings, lambda done, *_: print(done, flush=True), perform).grade()
