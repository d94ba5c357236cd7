"""Grades without running anything: what becomes of a submission is written in its first line.

# score 73.5          that many points
# score 80 e 1.7      and that self-scaling on 2 workers
# inconclusive        never to be timed
# shaky               inconclusive once, then graded
# dies                ends the worker that grades it
# lost 2 timing       ends its worker the first two times that this stage is run
# slow 0.5            takes that many seconds
# score 73.5 slow     takes a tenth of a second for each stage
"""

import json
import os
import signal
import time
from pathlib import Path

from grader.classroom import task
from grader.classroom.gradebook import GRADED, INCONCLUSIVE
from grader.classroom.task import TIMED, Order, Outcome


def report(score: float | None, e: float | None) -> dict:
    tests = [
        {
            "name": "same tokens",
            "score": 20,
            "max_score": 20,
            "tags": ["public"],
            "output": "",
            "visibility": "visible",
        },
        {"name": "secret", "score": 0, "max_score": 0, "tags": ["public"], "output": "[1, 2]", "visibility": "hidden"},
    ]
    if score is not None:
        why = "" if score >= 100 else "lost in a race at line 3"
        test = {"name": "the rest", "score": score - 20, "max_score": 80, "tags": ["rest"], "output": why}
        tests.append(test | {"visibility": "visible"})
    scaling = [{"k": 2, "threads": [e, e, e], "capacity": [1.8, 1.8, 1.8], "speedup": [e, e, e]}] if e else []
    found = {"output": "", "tests": tests, "extra_data": {"max_score": 100, "scaling": scaling}}
    return found | ({"score": score} if score is not None else {})


def perform(order: Order, timed_cores: int) -> Outcome:
    """In place of grader.classroom.task.perform."""
    words = order.source.decode().splitlines()[0].lstrip("# ").split()
    if log := os.environ.get("CLASSROOM_LOG"):
        with Path(log).open("a") as file:
            file.write(json.dumps([words, order.stages, os.getpid(), time.time()]) + "\n")
    if words[0] == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if words[0] == "lost" and words[2] in order.stages:
        lost = Path(f"{log}.{words[2]}")
        lost.write_text(lost.read_text() + "x" if lost.exists() else "x")
        if len(lost.read_text()) <= int(words[1]):
            os.kill(os.getpid(), signal.SIGKILL)
    if "slow" in words:
        time.sleep(float(words[1]) if words[0] == "slow" else 0.1)
    if words[0] == "raises":
        raise ValueError("a fault of the grader")
    if TIMED[0] not in order.stages:
        return Outcome(GRADED, report(20.0, None), evidence=b"evidence", to_time=words[0] != "wrong", seconds=5.0)
    rounds = (order.earlier or {"rounds": 0})["rounds"] + 1
    if words[0] == "inconclusive" or (words[0] == "shaky" and rounds < 2):
        return Outcome(INCONCLUSIVE, report(None, None), timing={"rounds": rounds})
    score = float(words[1]) if words[0] == "score" else 100.0
    e = float(words[3]) if "e" in words else None
    return Outcome(GRADED, report(score, e), "<h1>page</h1>", {"rounds": rounds}, host="here", seconds=1.0)


def perform_in_process(order: Order, timed_cores: int) -> Outcome:
    """In a process of its own, as grader.classroom.task.perform does it."""
    return task.perform(order, timed_cores, perform_here)


def perform_here(order: Order) -> Outcome:
    return perform(order, 0)


def nothing(order: Order) -> Outcome:
    """Empty grading: what is left is what handing out costs."""
    return Outcome(GRADED, report(100.0, None), to_time=True)


def perform_nothing(order: Order, timed_cores: int) -> Outcome:
    """As grader.classroom.task.perform does it, in a process of its own, but for the grading."""
    return task.perform(order, timed_cores, nothing)
