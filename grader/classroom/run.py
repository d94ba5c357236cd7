"""Grades a class: hands out work, stores every result the moment it is there, tries again what was disturbed."""

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import cast

from distributed import CancelledError, Client, Future, KilledWorker, as_completed
from distributed.comm.core import CommClosedError

from grader.classroom import cluster, task
from grader.classroom.gradebook import GRADED, INCONCLUSIVE, NOT_GRADED, Gradebook, Record, Result
from grader.classroom.task import TIMED, UNTIMED, Order, Outcome, Settings

RETRIES = 2  # of a timing that was inconclusive, before anybody sees it
DEATHS = 3  # of its worker while nothing else ran there, after which a submission waits for the end of the run
LOST = "the scheduler is gone; finished results are kept, and the same command continues once it is there again"
AHEAD = 2  # tasks given to the cluster for each that it can run


@dataclass
class Work:
    """A submission on its way."""

    record: Record
    stages: tuple[str, ...]
    evidence: bytes = b""
    earlier: dict | None = None
    host: str = ""  # that timed it before
    tries: int = 0
    deaths: int = 0  # of the workers that ran it
    last: bool = False  # it has had its try at the end of the run
    spent: float = 0.0

    @property
    def timed(self) -> bool:
        """Whether its next stages need the timing of a host."""
        return TIMED[0] in self.stages


class ClassRun:
    """One run over a class. `tell(done, record, result)` is called for each finished submission."""

    def __init__(
        self,
        book: Gradebook,
        client: Client,
        settings: Settings,
        tell: Callable[[int, Record, Result], None] = lambda *_: None,
        perform: Callable[[Order, int], Outcome] = task.perform,
    ) -> None:
        self.book, self.client, self.settings, self.tell, self.perform = book, client, settings, tell, perform
        self.program = task.program_digest()
        self.running: dict[Future, Work] = {}
        self.later: deque[Work] = deque()  # disturbed timings
        self.alone: deque[Work] = deque()  # their worker was lost: which of them is to blame shows alone
        self.at_end: deque[Work] = deque()  # lost time and again: by their own fault, or by bad luck with the machines
        self.done = 0

    def grade(self, again: bool = False) -> int:
        """Grade what has no result yet, or all again; returns how many.

        Raises GradebookError, WrongProgram, ClusterError.
        """
        waiting = deque(map(self.first, self.due(again)))
        try:
            self.work_off(waiting)
        except (CancelledError, CommClosedError, TimeoutError):
            raise cluster.ClusterError(LOST) from None
        return self.done

    def work_off(self, waiting: deque[Work]) -> None:
        """Hand out and take, until all is done; raises what Dask raises where its scheduler is gone."""
        arriving = as_completed(loop=self.client.loop)
        while waiting or self.running or self.later or self.alone or self.at_end:
            self.hand_out(waiting, arriving)
            if self.running:
                future = next(arriving)
                work = self.running.pop(future)
            elif self.alone or self.at_end:
                work = (self.alone or self.at_end).popleft()
                future = self.submit(work)
            else:
                continue
            self.take(future, work, waiting)
            future.release()

    def due(self, again: bool = False) -> list[Record]:
        """What grade() will grade."""
        return [record for record in self.book.records() if again or self.is_due(record)]

    def is_due(self, record: Record) -> bool:
        """Whether a submission has no grade that was made with these settings."""
        return record.result is None or record.result.made_with != self.settings.made_with or (
            record.result.status in (NOT_GRADED, INCONCLUSIVE) and not record.submission.problem
        )  # fmt: skip

    def first(self, record: Record) -> Work:
        """A submission's first stages. What earlier results of the same file measured is pooled with the new rounds."""
        stages = tuple(stage for stage in self.settings.stages if stage in UNTIMED) or self.settings.stages
        if record.result and record.result.made_with == self.settings.made_with:
            return Work(record, stages, earlier=record.result.timing, host=record.result.host)
        return Work(record, stages)

    # ------------------------------------------------------------------------------------------------------ handing out

    def hand_out(self, waiting: deque[Work], arriving: as_completed) -> None:
        """Give the cluster enough to do and no more: the queue is here, so a thousand submissions take no memory."""
        most = AHEAD * max(1, sum(cluster.threads(self.client).values()))
        while not self.alone and len(self.running) < most and (waiting or (self.later and not self.running)):
            work = waiting.popleft() if waiting else self.later.popleft()
            if work.record.submission.problem:
                self.finish(work, task.failed(work.record.submission.problem))
                continue
            future = self.submit(work)
            self.running[future] = work
            arriving.add(future)

    def submit(self, work: Work) -> Future:
        """One task; a timed run owns its host's timing. A repeated one goes to another host where there is one."""
        source = work.record.submission.source
        order = Order(
            source, work.stages, self.settings.only_for(source), self.program, work.evidence, work.earlier, work.host
        )
        needs = {"timing": 1, "slots": cluster.TIMED_SLOTS} if work.timed else {"slots": 1}
        hosts = self.other_hosts(work.host) if work.tries else None
        return self.client.submit(
            run_here, self.perform, order, self.settings.points.workers, resources=needs, pure=False,
            priority=1 if work.timed else 0, workers=hosts, allow_other_workers=bool(hosts),
        )  # fmt: skip

    def other_hosts(self, host: str) -> list[str] | None:
        """Addresses of workers on other hosts than this one."""
        names = cast(dict[str, str], self.client.run(task.platform.node, on_error="ignore"))  # without those just lost
        return [address for address, name in names.items() if name != host] or None

    # -------------------------------------------------------------------------------------------------------- taking

    def take(self, future: Future, work: Work, waiting: deque[Work]) -> None:
        """What a task gave: a result to store, a timing to make, or a timing to make again later."""
        outcome = self.outcome_of(future)
        if outcome is None and not work.last:
            self.set_aside(work)
            return
        outcome = outcome or task.failed("the worker that graded this file was lost each time")
        work.spent += outcome.seconds
        if outcome.status != NOT_GRADED and not work.timed and outcome.to_time and TIMED[0] in self.settings.stages:
            waiting.appendleft(replace(work, stages=TIMED, evidence=outcome.evidence, deaths=0, last=False))
        elif outcome.status == INCONCLUSIVE and work.timed and work.tries < RETRIES:
            again = replace(work, earlier=outcome.timing or work.earlier, host=outcome.host, tries=work.tries + 1)
            self.later.append(replace(again, deaths=0, last=False))
        else:
            self.finish(work, outcome)

    def set_aside(self, work: Work) -> None:
        """Its worker was lost: it runs alone next, and after too many losses once more when all others are done."""
        if work.deaths < DEATHS:
            self.alone.append(replace(work, deaths=work.deaths + 1))
        else:
            self.at_end.append(replace(work, last=True))

    def outcome_of(self, future: Future) -> Outcome | None:
        """A task's outcome, None if its worker was lost. Raises WrongProgram; any other fault is an outcome too."""
        try:
            return future.result()
        except (task.WrongProgram, CancelledError, CommClosedError):
            raise
        except KilledWorker:
            return None
        except Exception as error:  # a fault of the grader: the others go on
            return task.failed(f"not graded: {type(error).__name__}: {error}".splitlines()[0])

    def finish(self, work: Work, outcome: Outcome) -> None:
        """Store it, and tell."""
        result = Result(
            self.settings.made_with, outcome.status, outcome.report, outcome.page, outcome.timing, outcome.host,
            work.spent,
        )  # fmt: skip
        self.book.store(work.record.id, result)
        self.done += 1
        self.tell(self.done, work.record, result)


def run_here(perform: Callable[[Order, int], Outcome], order: Order, workers: tuple[int, ...]) -> Outcome:
    """On a worker: with the number of cores that timed runs use there."""
    return perform(order, cluster.timed_cores(workers))


def summary(records: list[Record]) -> dict[str, int]:
    """How many are graded, inconclusive, not graded, and wait."""
    counts = Counter(record.result.status if record.result else "waiting" for record in records)
    return {status: counts[status] for status in (GRADED, INCONCLUSIVE, NOT_GRADED, "waiting")}
