"""From rung to rung: each is built on the good ones before it, its result checked, then its steps are timed.

On a CPU a rung takes turns with the first one and with the one before it, step by step, so that each ratio was measured
within a blink; a GPU, which nobody shares, is timed one rung after the other, so that each has all its memory.
"""

import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lab.checkpoint import count_parameters, read_checkpoint, read_header
from lab.ladder.peer import LadderError, Peer, RungFailed
from lab.serial import GPT2
from lab.train.forward import gpt2_forward

CHECKED = 10  # steps whose losses are held against the first rung's
SAME_LOSS = 1e-4  # nats between lab.train's first loss and the first rung's
BATCHES = (128, 96, 64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2, 1)  # nice numbers
CHECK_SEQ = 64


@dataclass
class Job:
    """What all rungs work on."""

    python: str
    checkpoint: Path
    tokens: Path  # .npy
    device: str
    batch: int
    seq: int
    steps: int
    threads: int
    window: int  # positions of the generation

    def peer(self, part: str, rungs: list[str], **settings: object) -> Peer:
        """A process that is building the work with these rungs."""
        return Peer(self.python, {
            "checkpoint": str(self.checkpoint), "tokens": str(self.tokens), "device": self.device,
            "threads": self.threads, "part": part, "rungs": rungs, "batch": self.batch,
            "seq": self.seq if part == "training" else self.window, "settings": settings,
        })  # fmt: skip

    def ask(self, part: str = "training", rungs: Sequence[str] = (), accumulate: int = 1, **order: object) -> dict:
        """One answer of a process of its own. Raises RungFailed."""
        with self.peer(part, list(rungs), accumulate=accumulate) as peer:
            peer.read()
            return peer.ask(**order)


@dataclass
class Result:
    """What became of a rung: "measured", "refused" or "failed", and why."""

    key: str
    title: str
    part: str
    lesson: str
    tolerance: float
    status: str
    why: str = ""
    seconds: list[float] = field(default_factory=list)  # of each step
    tokens_per_step: int = 0
    first_step: float = 0.0  # seconds, compiling included
    times_first: float | None = None
    times_previous: float | None = None
    memory: int = 0  # bytes, at most
    difference: float | None = None  # from the first rung's losses, as a share of them, at most
    flops: float = 0.0  # of a step's products; of a training step, as the first rung counts them
    bytes: float = 0.0  # that a step moves, counted

    @property
    def median(self) -> float:
        """Seconds of one batch (or one generated token)."""
        return statistics.median(self.seconds)

    def per_token(self) -> list[float]:
        """Seconds of each step, by token."""
        return [value / self.tokens_per_step for value in self.seconds]

    @property
    def tokens_per_second(self) -> float:
        """Tokens trained on, or generated, each second."""
        return self.tokens_per_step / self.median


def flops_per_token(checkpoint: Path, T: int) -> float:
    """6 N + 12 L C T: what one token costs to train on (Kaplan et al. 2020, and PaLM's appendix B for attention).

    N counts all parameters but wpe: each of those is used in one product, wte in the last one. Padding does not count.
    """
    _, config = read_header(checkpoint)
    L, C = config.num_layers, config.channels
    padding = config.padded_vocab_size - config.vocab_size
    N = count_parameters(config) - (config.max_seq_len + padding) * C
    return 6 * N + 12 * L * C * T


def our_loss(checkpoint: Path, tokens: np.ndarray, T: int) -> float:
    """lab.train's loss of the first T tokens."""
    config, params_memory = read_checkpoint(checkpoint)
    window = tokens[: T + 1].astype(np.int32)[None]
    return gpt2_forward(GPT2(config, params_memory), window[:, :-1], window[:, 1:], 1, T)


def check_first_loss(job: Job) -> dict:
    """One lab, not a second program: both losses of the same tokens. Raises LadderError when they differ."""
    T = min(CHECK_SEQ, job.seq)
    ours = our_loss(job.checkpoint, np.load(job.tokens), T)
    try:
        theirs = job.ask(do="loss", batch=1, seq=T)["loss"]
    except RungFailed as failed:
        raise LadderError(f"the first rung cannot be built: {failed}") from None
    if not abs(ours - theirs) <= SAME_LOSS:
        raise LadderError(f"the first loss is {theirs:.6f}, lab.train's {ours:.6f}: not the same program")
    return {"ladder": theirs, "lab.train": ours}


def largest_batch(job: Job, rungs: list[dict], tell: Callable[[str], None]) -> int:
    """The largest nice batch that the first rung trains with, and BF16, which keeps the (T,T) matrices in both formats,
    without running out of memory. Raises LadderError.
    """
    hungry = [[], *([rung["key"]] for rung in rungs if rung["key"] == "bf16" and not rung["refused"])]
    for batch in BATCHES:
        job.batch = batch
        try:
            for keys in hungry:
                job.ask(rungs=keys, do="losses", count=2)
            return batch
        except RungFailed as failed:
            if not failed.memory:
                raise LadderError(f"the first rung failed: {failed}") from None
            tell(f"out of memory with batch {batch}")
    raise LadderError(f"the device has too little memory for one sequence of {job.seq} tokens of {job.checkpoint.name}")


class Climb:
    """All rungs of one part."""

    def __init__(self, job: Job, part: str, rungs: list[dict], tell: Callable[[str], None]) -> None:
        self.job, self.part, self.tell = job, part, tell
        self.rungs = [rung for rung in rungs if rung["part"] == part]
        self.good: list[str] = []  # rungs that the next one stands on
        self.peers: list[tuple[Result, Peer]] = []  # the first and the one before
        self.references: dict[int, list[float]] = {}  # losses of the first rung, by batches for each update
        self.tolerance = 0.0
        self.stack = ExitStack()

    def results(self) -> Iterator[Result]:
        """One rung after the other; each is complete when it comes."""
        with self.stack:
            for rung in self.rungs:
                self.tell(rung["title"])
                yield self.result(rung)

    def result(self, rung: dict) -> Result:
        """Build, check and time a rung."""
        result = Result(
            rung["key"], rung["title"], self.part, rung["why"], max(self.tolerance, rung["tolerance"]), "refused",
            rung["refused"],
        )  # fmt: skip
        if result.why:
            return result
        with ExitStack() as mine:
            try:
                self.refer(rung["batches"])
                peer = self.job.peer(self.part, [*self.good, result.key])
                mine.enter_context(peer)
                peer.read()
                self.check(result, peer, rung["batches"])
                self.time(result, peer)
            except RungFailed as failed:
                result.status, result.why = "failed", str(failed)
                return result
            self.stack.push(mine.pop_all())
        result.status, self.tolerance = "measured", result.tolerance
        self.good.append(result.key)
        for old in [before for _, before in self.peers[1:]] if self.job.device == "cpu" else [peer]:
            old.close()
        self.peers = [*self.peers[:1], (result, peer)]
        return result

    def refer(self, batches: int) -> None:
        """The first rung's losses with so many batches for each update, while no other rung takes up a GPU's memory.
        Raises RungFailed.
        """
        if self.good and batches not in self.references:
            first = self.job.ask(self.part, self.good[:1], accumulate=batches, do="losses", count=CHECKED)
            self.references[batches] = first["losses"]

    def check(self, result: Result, peer: Peer, batches: int) -> None:
        """Hold its losses against the first rung's. Raises RungFailed where they are further apart than tolerated."""
        answer = peer.ask(do="losses", count=CHECKED)
        result.first_step = answer["first_step"]
        result.tokens_per_step = peer.ask(do="turn")["tokens"]
        if not self.good:
            self.references[batches] = answer["losses"]
        losses = zip(answer["losses"], self.references[batches], strict=True)
        result.difference = float(max(abs(ours - first) / abs(first) for ours, first in losses))
        if not result.difference <= result.tolerance:
            raise RungFailed(
                f"changes the result: a loss differs by {result.difference:.2%} (tolerance {result.tolerance:.2%})"
            )

    def time(self, result: Result, peer: Peer) -> None:
        """Its steps, in turn with those of the first rung and of the one before on a CPU. Raises RungFailed."""
        others = [] if self.job.device != "cpu" else self.peers
        turns: list[tuple[Peer, int, list[float]]] = [
            (peer, result.tokens_per_step, []),
            *((other, old.tokens_per_step, []) for old, other in others),
        ]
        for number in range(self.job.steps):
            for partner, tokens, found in turns if number % 2 == 0 else reversed(turns):
                found.append(statistics.median(partner.ask(do="turn")["seconds"]) / tokens)
            self.tell(f"{result.title}, step {number + 1} of {self.job.steps}")
        result.seconds = [value * result.tokens_per_step for value in turns[0][2]]
        result.memory = peer.ask(do="memory")["bytes"]
        counted = peer.ask(do="cost")
        result.flops, result.bytes = counted["flops"], counted["bytes"]
        if self.peers and self.part == "training":  # the counter does not know every fused kernel
            first = self.peers[0][0]
            result.flops = first.flops / first.tokens_per_step * result.tokens_per_step
        if not self.peers:
            result.times_first = result.times_previous = 1.0
        elif others:
            ratios = [[theirs / ours for theirs, ours in zip(turn[2], turns[0][2], strict=True)] for turn in turns[1:]]
            result.times_first, result.times_previous = (statistics.median(ratios[i]) for i in (0, -1))
        else:
            first, previous = self.peers[0][0], self.peers[-1][0]
            per_token = statistics.median(result.per_token())
            result.times_first, result.times_previous = (
                statistics.median(old.per_token()) / per_token for old in (first, previous)
            )
