"""Stands in for lab/ladder/process.py, so that the ladder is tested where there is no PyTorch.

Each rung's key says what becomes of it: good, refused, wrong (losses off), nan, crash, killed, memory (out of it),
broken (an error), four (batches an update), interrupt (Ctrl-C arrives while it is timed).
"""

import json
import os
import signal
import sys

import numpy as np

KEYS = json.loads(os.environ["LADDER_RUNGS"])
FITS = int(os.environ.get("LADDER_FITS", "1000"))
ALONE = os.environ.get("LADDER_ALONE")  # a folder in which each process leaves its number: no two fit into the memory


def answer(value):
    print(json.dumps(value), flush=True)


def runs(number):
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return False
    return True


if len(sys.argv) == 1:
    rungs = [
        {"key": f"{key}{i}", "title": f"{key} {i}", "part": "training", "tolerance": 0.01, "why": "faster",
         "batches": 4 if key == "four" else 1,
         "refused": "no such hardware" if key == "refused" else ""}
        for i, key in enumerate(KEYS)
    ]  # fmt: skip
    answer({"torch": "0.0", "device": os.environ.get("LADDER_DEVICE", "cpu"), "name": "a device", "rungs": rungs})
    sys.exit()

order = json.loads(sys.argv[1])
last = order["rungs"][-1].rstrip("0123456789") if order["rungs"] else ""
if last == "crash":
    print("Segmentation fault", file=sys.stderr)
    os.abort()
if last == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
if ALONE:
    others = [number for number in os.listdir(ALONE) if runs(number)]
    with open(f"{ALONE}/{os.getpid()}", "w"):
        FITS = 0 if others else FITS
answer({"ready": True})
for line in sys.stdin:
    request = json.loads(line)
    if order["batch"] > FITS or (last == "memory" and request["do"] == "turn"):
        answer({"error": "OutOfMemoryError: 80 GB asked for", "memory": True})
    elif order["batch"] * order["seq"] >= np.load(order["tokens"]).size:
        answer({"error": "ValueError: too few tokens", "memory": False})
    elif last == "broken":
        answer({"error": "RuntimeError: no kernel", "memory": False})
    elif request["do"] == "losses":
        off = {"wrong": 0.2, "nan": float("nan")}.get(last, 0.0)
        answer({"losses": [4.0 + off] * request["count"], "first_step": 5.0})
    elif request["do"] == "turn":
        if last == "interrupt":
            os.kill(os.getppid(), signal.SIGINT)
        answer(
            {
                "seconds": [1.0 / len(order["rungs"])],
                "tokens": order["batch"] * order["seq"] * (4 if last == "four" else 1),
            }
        )
    elif request["do"] == "loss":
        answer({"loss": float(os.environ["LADDER_LOSS"])})
    elif request["do"] == "memory":
        answer({"bytes": 1 << 30})
    elif request["do"] == "cost":
        answer({"flops": 1e9, "bytes": 1e8})
    else:
        answer({"peak": {"float32": 1e12, "bfloat16": 2e12}, "bandwidth": 1e11})
