"""No false alarms: the right programs of tests/zoo and lab.parallel on 1 to 4 workers, under many schedules and in
checked mode. `make check-selftest` runs it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from lab.command import Parser, counted, quietly, whole_number

ZOO = Path(__file__).with_name("zoo") / "right"
LOCK_ORDER_ONLY = (
    "philosophers_with_a_waiter.py",
)  # right thanks to a semaphore, which says nothing about the order of mutexes


def jobs(schedules: int, seed: int) -> list[tuple[str, list[str]]]:
    """(name, command line) of each check."""
    found = []
    for workers in (1, 2, 3, 4):
        found.append((f"lab.parallel, workers {workers}", explore("lab.parallel", schedules, seed, workers)))
        found.append(
            (f"lab.parallel, workers {workers}, checked", ["check", "lab.parallel", "--workers", str(workers)])
        )
    for path in sorted(ZOO.glob("*.py")):
        found.append((path.name, explore(str(path), schedules, seed, 3)))
        if path.name not in LOCK_ORDER_ONLY:
            found.append((f"{path.name}, checked", ["check", str(path), "--repeats", "20"]))
    return found


def explore(program: str, schedules: int, seed: int, workers: int) -> list[str]:
    """The command line for one program."""
    numbers = ["--schedules", str(schedules), "--seed", str(seed), "--workers", str(workers)]
    return ["explore", program, *numbers, "--all", "--seconds", "100000"]


def selftest(schedules: int = 10_000, seed: int = 1, processes: int | None = None, names: Sequence[str] = ()) -> int:
    """Run all checks, or those whose name contains one of `names`, a few at a time; 0 if none raises anything, 4 if one
    does."""
    begin = time.perf_counter()
    waiting = [job for job in jobs(schedules, seed) if not names or any(name in job[0] for name in names)]
    running: list[tuple[str, subprocess.Popen]] = []
    false_alarms = 0
    print(f"{'':<44}{'runs':>8}{'distinct':>10}{'deepest':>9}{'per second':>12}   found")
    while waiting or running:
        while waiting and len(running) < (processes or os.cpu_count() or 1):
            name, arguments = waiting.pop(0)
            command = [sys.executable, "-m", "lab.check", *arguments, "--json"]
            running.append((name, subprocess.Popen(command, stdout=subprocess.PIPE, text=True)))
        name, process = running.pop(0)
        text, _ = process.communicate()
        try:
            result = json.loads(text)
        except ValueError:
            result = {"findings": [{"kind": "crash", "message": f"exit code {process.returncode}"}]}
        false_alarms += len(result["findings"])
        print(row(name, result), flush=True)
    print(f"{counted(false_alarms, 'false alarm')} in {time.perf_counter() - begin:.0f} s")
    return 4 if false_alarms else 0


def row(name: str, result: dict) -> str:
    """One program's result."""
    number, seconds = result.get("schedules", 0), result.get("seconds", 0) or 1
    found = "; ".join(f"{finding['kind']}: {finding['message']}" for finding in result["findings"]) or "-"
    if "checked" in name:
        return f"{name:<44}{number:>8,}{'':>31}   {found}"
    distinct, depth = result.get("distinct", 0), result.get("depth", 0)
    return f"{name:<44}{number:>8,}{distinct:>10,}{depth:>9,}{number / seconds:>12,.0f}   {found}"


def parser() -> Parser:
    """The command line."""
    top = Parser(prog="python -m tests.check_selftest", description=__doc__)
    top.add_argument("names", nargs="*", metavar="NAME", help="only programs whose name contains one of these")
    top.add_argument("--schedules", type=whole_number(1), default=10_000, help="of each program (default 10000)")
    top.add_argument("--seed", type=whole_number(0), default=1, help="random seed (default 1)")
    top.add_argument("--jobs", type=whole_number(1), help="processes (default: one for each core)")
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = parser().parse_args(arguments)
    return selftest(options.schedules, options.seed, options.jobs, options.names)


if __name__ == "__main__":
    sys.exit(quietly(main))
