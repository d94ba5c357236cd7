"""Who is measured by bench.py, and what follows from the times: engines in this process, PyTorch and llama.cpp, each in
a process of its own, and any executable."""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from lab import pipes
from lab.measure.stats import Estimate, estimate, ratios


class BenchError(Exception):
    """What cannot be measured; one line."""


Run = Callable[[list[int], int], tuple[list[int], list[float]]]  # (prompt, n) -> tokens, the second of each


def timed(made: Iterable[int | str], begin: float | None = None) -> tuple[list[int], list[float]]:
    """The tokens, and the second at which each was there, since `begin` or now."""
    begin, tokens, stamps = time.perf_counter() if begin is None else begin, [], []
    for token in made:
        tokens.append(int(token))
        stamps.append(time.perf_counter() - begin)
    return tokens, stamps


@dataclass
class Contender:
    """Somebody who turns (prompt, n) into tokens, and the times it took, round by round."""

    name: str
    engine: str
    k: int
    run: Run
    exact: bool = True  # must give the same tokens as all others
    other_tokens: int = 0  # how often it did not, if it need not
    seconds: list[float] = field(default_factory=list)
    per_token: list[float] = field(default_factory=list)

    def measure(self, prompt: list[int], n: int) -> list[int]:
        """Run once and note the times; returns the tokens. Raises BenchError."""
        tokens, stamps = self.run(prompt, n)
        if not tokens:
            raise BenchError(f"{self.name} gives no tokens")
        self.seconds.append(stamps[-1])
        self.per_token.append((stamps[-1] - stamps[0]) / max(1, len(stamps) - 1))
        return tokens


@dataclass
class Results:
    """All that was measured, round by round."""

    prompt: int  # tokens
    n: int
    contenders: list[Contender]
    capacity: dict[int, list[float]]
    bandwidth: dict[int, list[float]]
    bare: list[float] = field(default_factory=list)

    def find(self, engine: str, k: int) -> Contender | None:
        """The contender of an engine on k workers."""
        return next((c for c in self.contenders if (c.engine, c.k) == (engine, k)), None)

    def over(self, contender: Contender, base: Contender | None) -> Estimate | None:
        """How many times faster than `base`."""
        return estimate(ratios(base.seconds, contender.seconds)) if base else None

    def speedup(self, contender: Contender) -> Estimate | None:
        """S_k = T_s / T_k."""
        return self.over(contender, self.find("serial", 1)) if contender.engine != "serial" else None

    def scaling(self, contender: Contender) -> Estimate | None:
        """E_k = T_1 / T_k."""
        return self.over(contender, self.find(contender.engine, 1)) if contender.k > 1 else None

    def gain(self, contender: Contender) -> Estimate | None:
        """(E_k - 1) / (C_k - 1): the share of what k cores can gain over one; None where that is next to nothing."""
        one, capacities = self.find(contender.engine, 1), self.capacity.get(contender.k)
        if one is None or not capacities or min(capacities) <= 1.05:
            return None
        scaling = ratios(one.seconds, contender.seconds)
        return estimate([(e - 1) / (c - 1) for e, c in zip(scaling, capacities, strict=True)])

    def floor(self, contender: Contender, weight_bytes: int) -> Estimate | None:
        """The part of a token's time that reading all weights once, at the measured bandwidth, would take."""
        if contender.k not in self.bandwidth or len(contender.seconds) == 0 or self.n - self.prompt < 2:
            return None
        needed = [weight_bytes / (rate * 1e9) for rate in self.bandwidth[contender.k]]
        return estimate(ratios(needed, contender.per_token))


# ------------------------------------------------------------------------------------------------------- other programs

MODES = {
    "torch": {"all": "PyTorch", "last": "PyTorch last logits", "cache": "PyTorch KV cache"},
    "llama_cpp": {"cache": "llama.cpp"},
}
PROGRAMS = {"torch": "torch_peer.py", "llama_cpp": "llama_peer.py"}
NEEDS = {  # library -> the modules without which there is no such peer
    "torch": ("torch",),
    "llama_cpp": ("llama_cpp", "gguf"),
}


class Peer(pipes.Peer):
    """A process that runs torch_peer.py or llama_peer.py on `threads` threads. Asking and reading raise BenchError."""

    def __init__(self, library: str, python: str, model_path: Path, threads: int) -> None:
        program = Path(__file__).with_name(PROGRAMS[library])
        super().__init__(python, str(program), str(model_path), str(threads), ended=self.failure)
        self.library, self.threads = library, threads
        self.read()  # it has loaded

    def failure(self, status: int | None, said: str) -> BenchError:
        """What to say of a process that has ended."""
        name = "PyTorch" if self.library == "torch" else "llama.cpp"
        return BenchError(f"the {name} process failed: {said}")

    def contenders(self) -> Iterator[Contender]:
        """One for each mode. llama.cpp rounds GELU to 16 bits, so its tokens may differ."""
        for mode, name in MODES[self.library].items():
            engine = f"torch-{mode}" if self.library == "torch" else "llama.cpp"
            exact = self.library == "torch"
            yield Contender(f"{name} k={self.threads}", engine, self.threads, partial(self.generate, mode), exact)

    def generate(self, mode: str, prompt: list[int], n: int) -> tuple[list[int], list[float]]:
        """A run in one of its modes."""
        answer = self.ask(mode=mode, prompt=prompt, n=n)
        return answer["tokens"], answer["stamps"]


def serve(generate: Callable[..., Iterable[int]], **ready: object) -> None:
    """What the program of a Peer does: say that it is ready, then generate(mode, prompt, n) for each order."""
    print(json.dumps(ready), flush=True)
    for line in sys.stdin:
        tokens, stamps = timed(generate(**json.loads(line)))
        print(json.dumps({"tokens": tokens, "stamps": stamps}), flush=True)


def has(python: str, modules: Iterable[str]) -> bool:
    """Whether a Python can import these modules. Raises BenchError for what is no Python."""
    failure = lambda status, said: BenchError(f"{python}: {said}") if status is None else ImportError()  # noqa: E731
    try:
        with pipes.Peer(
            python, "-c", f"import {', '.join(modules)}\nprint('true')", ended=failure, limit=300.0
        ) as answer:
            return bool(answer.read())
    except ImportError:
        return False
    except OSError as error:
        raise BenchError(f"{python}: {error.strerror}") from None


def libraries_of(python: str) -> list[str]:
    """Which libraries a Python has, with all they need. Raises BenchError if it has none."""
    found = [library for library, modules in NEEDS.items() if has(python, modules)]
    if not found:
        raise BenchError(
            f"--peers: {python} has neither PyTorch nor llama-cpp-python with gguf: "
            f"{sys.executable} -m pip install torch, or name a Python that has one, --peer-python PYTHON"
        )
    return found


def command_contender(command: str) -> Contender:
    """An executable with gpt's command line; its time is from start to end, loading included.

    Raises BenchError for an empty command.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise BenchError(f"--peer-cmd {command}: {error}") from None
    if not words:
        raise BenchError("--peer-cmd: the command is empty")

    def run(prompt: list[int], n: int) -> tuple[list[int], list[float]]:
        """A run of the command."""
        begin = time.perf_counter()
        try:
            process = subprocess.Popen([*words, *map(str, prompt)], stdout=subprocess.PIPE, text=True)
        except OSError as error:
            raise BenchError(f"--peer-cmd {command}: {error.strerror}") from None
        try:
            tokens, stamps = timed(pipes.pipe(process.stdout), begin)
        except ValueError as error:
            process.kill()
            raise BenchError(f"--peer-cmd {command}: it prints something else than tokens: {error}") from None
        if process.wait() or not tokens:
            raise BenchError(f"--peer-cmd {command}: exit code {process.returncode}, {len(tokens)} tokens")
        return tokens, stamps

    return Contender(f"{Path(words[0]).name}, with loading", "command", 1, run)
