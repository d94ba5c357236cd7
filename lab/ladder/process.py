"""One rung at work, in a process of its own, run by a Python that has PyTorch (which need not be the lab's).

    python lab/ladder/process.py            answers {"torch": version, "device": ..., "rungs": [...]} and ends
    python lab/ladder/process.py '{"checkpoint": ..., "tokens": FILE.npy, "device": "cpu", "threads": 2, "part": ...,
                                   "rungs": ["eager", "bf16"], "batch": 4, "seq": 64}'

The second form builds the work with these rungs, says {"ready": true}, then answers each line of JSON on standard input
with one on standard output: {"do": "losses", "count": 10}, "turn", "loss", "memory", "cost", "machine".
"""
# pyright: reportMissingImports=false

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from itertools import chain
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
OUT = sys.stdout
sys.stdout = sys.stderr  # answers only go to standard output, whatever a compiler prints
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", str(os.cpu_count() or 1))
os.environ.pop("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", None)  # NVIDIA's containers set it: the first rung would be TF32

import numpy as np  # noqa: E402
import torch  # noqa: E402

from lab.ladder.rungs import RUNGS  # noqa: E402
from lab.ladder.work import Generation, Training, batches, cost  # noqa: E402
from lab.torch_gpt2 import GPT2  # noqa: E402

READ_BYTES = 1 << 28
TURN = 0.05  # seconds


def answer(value: dict) -> None:
    """One line of JSON."""
    OUT.write(json.dumps(value) + "\n")
    OUT.flush()


def describe() -> dict:
    """PyTorch, the device, and what each rung is and needs."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rungs = [
        {
            "key": rung.key,
            "title": rung.title,
            "part": rung.part,
            "tolerance": rung.tolerance,
            "batches": rung.batches,
            "why": (rung.function.__doc__ or "").strip(),
            "refused": rung.refused(device),
        }
        for rung in RUNGS
    ]
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    return {"torch": torch.__version__, "device": device, "name": name, "rungs": rungs}


class Process:
    """The work with its rungs, and the answers about it."""

    def __init__(self, order: dict) -> None:
        self.device, self.seq, self.batch = order["device"], order["seq"], order["batch"]
        torch.set_num_threads(order["threads"])
        torch.manual_seed(0)
        self.tokens = np.load(order["tokens"])
        model = GPT2(order["checkpoint"]).to(self.device)
        if order["part"] == "training":
            self.work: Training | Generation = Training(model, self.tokens, self.batch, self.seq, self.device)
        else:
            self.work = Generation(model, self.tokens, self.seq, self.device)
        for rung in RUNGS:
            if rung.key in order["rungs"]:
                rung.function(self.work)
        for name, value in order.get("settings", {}).items():
            setattr(self.work, name, value)
        self.work.build()

    def losses(self, count: int) -> dict:
        """The losses of the next steps; the first step's time is mostly compiling, where something is compiled."""
        begin = time.perf_counter()
        self.work.step()
        first = time.perf_counter() - begin
        return {"losses": self.work.losses(count), "first_step": first}

    def turn(self) -> dict:
        """Seconds of the next steps: one, or as many as take TURN, for caches to be warm again after another's turn."""
        seconds: list[float] = []
        while sum(seconds) < TURN:
            seconds.append(self.timed(self.work.step))
        return {"seconds": seconds, "tokens": self.work.tokens_per_step}

    def loss(self, batch: int, seq: int) -> dict:
        """The loss of the first `batch` sequences of `seq` tokens, before any update."""
        inputs, targets = next(batches(self.tokens, batch, seq, self.device))
        with torch.inference_mode():
            return {"loss": self.work.model.loss(inputs, targets).item()}

    def memory(self) -> dict:
        """The most bytes in use at once: of the GPU, or of this process."""
        if self.device == "cuda":
            return {"bytes": torch.cuda.max_memory_allocated()}
        return {"bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)}

    def cost(self) -> dict:
        """Operations and bytes of a step, counted."""
        return cost(self.work)

    def machine(self) -> dict:
        """FLOP/s of a large product in float32 and bfloat16, bytes/s read from memory: each the best of several."""
        size = 8192 if self.device == "cuda" else 2048
        found = {}
        for dtype in (torch.float32, torch.bfloat16):
            a = torch.randn(size, size, device=self.device).to(dtype)
            found[str(dtype).removeprefix("torch.")] = 2 * size**3 / self.best(lambda a=a: a @ a)
        data = torch.ones(READ_BYTES, device=self.device)  # 1 GB of float32, read once
        return {"peak": found, "bandwidth": data.nbytes / self.best(data.sum)}

    def best(self, function: Callable[[], object]) -> float:
        """Seconds of the quickest of eight calls."""
        return min(self.timed(function) for _ in range(8))

    def timed(self, function: Callable[[], object]) -> float:
        """Seconds of a call. The device has done all it was asked to before each look at the clock."""
        self.synchronize()
        begin = time.perf_counter()
        function()
        self.synchronize()
        return time.perf_counter() - begin

    def synchronize(self) -> None:
        """Wait for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()


def main() -> None:
    """Answer until standard input ends; a failure is answered as {"error": one line, "memory": whether it was that}."""
    if len(sys.argv) == 1:
        answer(describe())
        return
    process = None
    for line in chain([sys.argv[1]], sys.stdin):
        order = json.loads(line)
        try:
            if process is None:
                process = Process(order)
                answer({"ready": True})
            else:
                answer(getattr(process, order.pop("do"))(**order))
        except (RuntimeError, ValueError, MemoryError) as error:
            lines = [line for line in str(error).splitlines() if line.strip()] or [""]
            memory = isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(
                error
            )
            answer({"error": f"{type(error).__name__}: {lines[0].strip()}", "memory": memory})


if __name__ == "__main__":
    main()
