"""Other programs that bench.py measures: PyTorch and llama.cpp, each in a process of its own, and any executable."""

import json
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from lab.measure.contender import BenchError, Contender, Run
from lab.pipes import pipe

MODES = {
    "torch": {"all": "PyTorch", "last": "PyTorch last logits", "cache": "PyTorch KV cache"},
    "llama_cpp": {"cache": "llama.cpp"},
}
PROGRAMS = {"torch": "torch_peer.py", "llama_cpp": "llama_peer.py"}
NEEDS = {  # library -> the modules without which there is no such peer
    "torch": ("torch",),
    "llama_cpp": ("llama_cpp", "gguf"),
}


class Peer:
    """A process that runs torch_peer.py or llama_peer.py on `threads` threads."""

    def __init__(self, library: str, python: str, model_path: Path, threads: int) -> None:
        program = str(Path(__file__).with_name(PROGRAMS[library]))
        command = [python, program, str(model_path), str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.orders, self.answers = pipe(self.process.stdin), pipe(self.process.stdout)
        self.library, self.threads = library, threads
        self.answer()  # it has loaded

    def close(self) -> None:
        """End it; its CPU time then counts as ours."""
        self.orders.close()
        self.process.wait()

    def answer(self) -> dict:
        """The next line it prints. Raises BenchError if there is none."""
        line = self.answers.readline()
        if not line:
            name = "PyTorch" if self.library == "torch" else "llama.cpp"
            raise BenchError(f"the {name} process ended with code {self.process.wait()}: see its message above")
        return json.loads(line)

    def contenders(self) -> Iterator[Contender]:
        """One for each mode. llama.cpp rounds GELU to 16 bits, so its tokens may differ."""
        for mode, name in MODES[self.library].items():
            engine = f"torch-{mode}" if self.library == "torch" else "llama.cpp"
            exact = self.library == "torch"
            yield Contender(f"{name} k={self.threads}", engine, self.threads, self.runner(mode), exact)

    def runner(self, mode: str) -> Run:
        """The run function of a mode."""

        def run(prompt: list[int], n: int) -> tuple[list[int], list[float]]:
            self.orders.write(json.dumps({"mode": mode, "prompt": prompt, "n": n}) + "\n")
            self.orders.flush()
            answer = self.answer()
            return answer["tokens"], answer["stamps"]

        return run


def libraries_of(python: str) -> list[str]:
    """Which libraries a Python has, with all they need. Raises BenchError if it has none."""
    found = []
    for library, modules in NEEDS.items():
        check = [python, "-c", f"import {', '.join(modules)}"]
        try:
            found += [library] if subprocess.run(check, capture_output=True).returncode == 0 else []
        except OSError as error:
            raise BenchError(f"{python}: {error.strerror}") from None
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
    words = shlex.split(command)
    if not words:
        raise BenchError("--peer-cmd: the command is empty")

    def run(prompt: list[int], n: int) -> tuple[list[int], list[float]]:
        begin, tokens, stamps = time.perf_counter(), [], []
        argv = [*words, *map(str, prompt)]
        try:
            process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        except OSError as error:
            raise BenchError(f"--peer-cmd {command}: {error.strerror}") from None
        for line in pipe(process.stdout):
            tokens.append(int(line))
            stamps.append(time.perf_counter() - begin)
        if process.wait() or not tokens:
            raise BenchError(f"--peer-cmd {command}: exit code {process.returncode}, {len(tokens)} tokens")
        return tokens, stamps

    return Contender(f"{Path(words[0]).name}, with loading", "command", 1, run)
