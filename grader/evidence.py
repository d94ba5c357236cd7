"""All that was observed of a submission, and the result: what the rows are judged from and what they become."""

from dataclasses import dataclass, field
from typing import cast

from grader.correctness import Correctness
from grader.estimates import Scaling, estimate_scaling
from grader.inside import Inside
from grader.points import INCONCLUSIVE, Points
from grader.rounds import Timing
from grader.sandbox import Limits
from grader.threads import Findings
from grader.timing import LEAST_ROUNDS


@dataclass
class Row:
    """One line of the result."""

    name: str
    title: str
    score: float
    most: float
    status: str
    reason: str = ""  # for the student
    private: str = ""  # for the instructor only

    def __post_init__(self) -> None:
        self.reason, self.private = printable_lines(self.reason), printable_lines(self.private)


def printable_lines(text: str) -> str:
    """Text without what a terminal would obey and a file could not hold; parts of it come from the submission."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


@dataclass
class Evidence:
    """All that was observed."""

    name: str  # of the submitted file
    points: Points
    bad: str = ""  # why it is not a program at all
    source: str = ""
    imports: list[str] = field(default_factory=list)
    threads: list[str] = field(default_factory=list)
    correctness: Correctness = field(default_factory=Correctness)
    inside: Inside | None = None  # who does the work on the tiny model
    findings: Findings | None = None
    timing: Timing | None = None
    untimed: str = ""  # why there is no timing, when nobody asked for it
    notes: list[str] = field(default_factory=list)  # explanations of the first wrong token
    limits: Limits = field(default_factory=Limits)
    sandbox: str = ""  # what protected the machine
    lacks: str = ""  # what it did not protect
    seconds: float = 0.0
    fault: str = ""  # of the grader itself, which kept it from judging the rest
    scaling: dict[int, Scaling] = field(default_factory=dict)  # what the timing says, for each number of workers

    def estimate(self) -> None:
        """Fill in `scaling` from the timing."""
        timing, self.scaling = self.timing, {}
        if timing is not None and timing.failure is None and timing.rounds:
            quiet = timing.quiet()
            rounds = quiet if len(quiet) >= LEAST_ROUNDS else timing.rounds
            self.scaling = {k: estimate_scaling(rounds, k, timing.whole) for k in timing.measured}

    @property
    def timed(self) -> Timing:
        """The timing, where there is one."""
        return cast(Timing, self.timing)

    def proven(self, k: int) -> bool:
        """Whether the first token came so soon that more than half of the k workers must have computed it: one thread
        needs longer for the products alone, and no cache can know a new prompt.
        """
        found = self.scaling.get(k)
        return found is not None and found.first.high * k / 2 < self.points.scaling["proof"] * found.kernel

    @property
    def right(self) -> bool:
        """Whether there are public cases, and all tokens are equal."""
        public = self.correctness.of(hidden=False)
        return bool(public) and all(outcome.equal for outcome in public)


@dataclass
class Verdict:
    """The result."""

    evidence: Evidence
    rows: list[Row]
    scaling: list[Scaling]  # for each number of workers that was measured

    @property
    def score(self) -> float:
        """All points, never below 0."""
        return round(max(0.0, sum(row.score for row in self.rows)), 1)

    @property
    def most(self) -> float:
        """The points there are."""
        return round(sum(row.most for row in self.rows), 1)

    @property
    def inconclusive(self) -> bool:
        """Whether something could not be measured."""
        return any(row.status == INCONCLUSIVE for row in self.rows)

    @property
    def exit_code(self) -> int:
        """0 full marks, 1 less, 3 inconclusive."""
        return 3 if self.inconclusive else 0 if self.score >= self.most else 1
