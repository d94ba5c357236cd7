"""What timed runs showed: samples, rounds of them, and the whole timing, also as JSON."""

from dataclasses import asdict, dataclass, field
from itertools import pairwise

from grader.inside import Inside
from grader.runs import Run, Use


@dataclass
class Sample:
    """One program's run, seen from outside. Seconds for each token, without those in which it was stopped."""

    tokens: list[float]  # how long each took
    cpu: list[float] = field(default_factory=list)  # CPU time of all threads
    main: list[float] = field(default_factory=list)  # CPU time of the main thread
    delay: list[float] = field(default_factory=list)  # in which the main thread or the busiest other had no core
    threads: list[list[float]] = field(default_factory=list)  # CPU time of each other thread, oldest first
    threads_at_ready: int = 0  # besides the main thread, before the prompt was sent
    ahead: float = 0.0  # CPU time while it was stopped
    steal: float = 0.0  # what the hypervisor took of its cores during its turns, all cores together

    @property
    def seconds(self) -> float:
        """From the prompt to the last token."""
        return sum(self.tokens)

    @classmethod
    def of(cls, run: Run, workers: int, threads_at_ready: int = 0, steal: float = 0.0) -> "Sample":
        """What the parent saw of a run."""
        sample = cls(run.seconds_of_tokens, threads_at_ready=threads_at_ready, ahead=run.ahead, steal=steal)
        ids = sorted({thread for use in run.uses for thread in use.threads})
        for before, use in pairwise([Use(), *run.uses]):
            spent = [
                [
                    now - then
                    for now, then in zip(use.threads.get(i, (0, 0)), before.threads.get(i, (0, 0)), strict=True)
                ]
                for i in ids
            ]
            busiest = max(spent, default=[0.0, 0.0])
            sample.cpu.append(use.cpu - before.cpu)
            sample.main.append(use.main[0] - before.main[0])
            sample.delay.append(use.main[1] - before.main[1] + busiest[1])
            sample.threads.append([max(0.0, cpu) for cpu, _ in spent])
        columns = list(zip(*sample.threads, strict=True))
        kept = sorted(columns, key=sum, reverse=True)[: 2 * workers + 2]
        sample.threads = [list(column) for column in columns if column in kept]
        return sample


@dataclass
class Round:
    """All samples for one prompt. many and capacity are by number of workers; one list entry for each set."""

    trusted: Sample  # its first token is the serial program's
    one: list[Sample] = field(default_factory=list)
    many: dict[int, list[Sample]] = field(default_factory=dict)
    capacity: dict[int, list[list[list[float]]]] = field(default_factory=dict)  # for each token, seconds of 1 and k
    others: float = 0.0  # share of the cores that other programs used
    pressure: float = 0.0  # share of the time in which something on this machine waited for a core (PSI)
    disturbed: str = ""  # why, or "" for a quiet round

    @classmethod
    def from_json(cls, data: dict) -> "Round":
        """The round that asdict() made plain data of."""
        sets = {
            "trusted": Sample(**data["trusted"]),
            "one": [Sample(**sample) for sample in data["one"]],
            "many": {int(k): [Sample(**sample) for sample in many] for k, many in data["many"].items()},
            "capacity": {int(k): turns for k, turns in data["capacity"].items()},
        }
        return cls(**data | sets)


@dataclass
class Timing:
    """What was measured; failure is a run that did not give the serial program's tokens."""

    model: str
    cores: int
    measured: list[int]  # numbers of workers
    not_measured: dict[int, str] = field(default_factory=dict)
    rounds: list[Round] = field(default_factory=list)
    given_up: list[str] = field(default_factory=list)  # rounds that others made so slow that they were given up: why
    failure: Run | None = None
    expected: list[int] = field(default_factory=list)  # of the failed run
    failed_workers: int = 0
    whole: float = 1.0  # how many times the capacity's work a forward pass has
    known: dict[int, tuple[list[int], int]] = field(default_factory=dict)  # k -> a prompt that was timed, its token
    inside: dict[int, Inside] = field(default_factory=dict)  # k -> what a run with watched arrays showed
    recorded: dict = field(default_factory=dict)  # k -> what the recorder noted, for the explanation only

    def quiet(self) -> list[Round]:
        """The rounds that nothing disturbed."""
        return [round_ for round_ in self.rounds if not round_.disturbed]

    def to_json(self) -> dict:
        """As plain data: the rounds and their circumstances, and what was seen besides; not a failed run."""
        return {
            "model": self.model, "cores": self.cores, "measured": self.measured,
            "not_measured": {str(k): why for k, why in self.not_measured.items()},
            "rounds": [asdict(r) for r in self.rounds], "given_up": self.given_up, "whole": self.whole,
            "inside": {str(k): asdict(seen) for k, seen in self.inside.items()},
            "recorded": {str(k): noted for k, noted in self.recorded.items()},
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: dict) -> "Timing":
        """The timing that to_json() gave."""
        return cls(
            data["model"], data["cores"], list(data["measured"]), {int(k): v for k, v in data["not_measured"].items()},
            [Round.from_json(entry) for entry in data["rounds"]], list(data["given_up"]), whole=data["whole"],
            inside={int(k): Inside(**seen) for k, seen in data["inside"].items()},
            recorded={int(k): noted for k, noted in data["recorded"].items()},
        )  # fmt: skip
