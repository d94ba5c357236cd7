"""What each operation costs: its time, counted exactly, and how much it computes and moves, from its shapes."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any, NamedTuple

from lab.checkpoint import Config
from lab.measure.recording import Recording
from lab.measure.runner import Program, check_tokens, run, safe_tokens, serial_program
from lab.measure.style import OPERATIONS, OUTSIDE, UNTOLD, operation


class Cost(NamedTuple):
    """Arithmetic operations, and bytes that must be moved at least: every number once."""

    flops: float
    bytes: float

    @property
    def intensity(self) -> float:
        """Operations for each byte."""
        return self.flops / self.bytes

    def __add__(self, other: object) -> "Cost":
        assert isinstance(other, Cost)
        return Cost(self.flops + other.flops, self.bytes + other.bytes)


def product(T: int, C: int, OC: int) -> Cost:
    """A matrix product: inp (T,C), weight (OC,C), out (T,OC)."""
    return Cost(2 * T * C * OC, 4 * (T * C + OC * C + T * OC))


def pass_costs(config: Config, T: int, last_only: bool) -> dict[str, Cost]:
    """Of one forward pass over T positions, by operation; with `last_only` logits and softmax of the last only.

    exp, tanh and division count as one operation each, although they take longer.
    """
    C, L, NH, Vp = config.channels, config.num_layers, config.num_heads, config.padded_vocab_size
    rows = 1 if last_only else T
    layer = product(T, C, 3 * C) + product(T, C, C) + product(T, C, 4 * C) + product(T, 4 * C, C)
    pairs = T * (T + 1) / 2  # (t, t2) with t2 <= t
    return {
        "matmul_forward": times(L, layer) + product(rows, C, Vp),
        "attention_forward": times(L, Cost(pairs * (4 * C + 5 * NH), 4 * (4 * T * C + 2 * NH * T * T))),
        "layernorm_forward": times(2 * L + 1, Cost(8 * T * C, 4 * (2 * T * C + 2 * C + 2 * T))),
        "gelu_forward": times(L, Cost(9 * T * 4 * C, 4 * 2 * T * 4 * C)),
        "residual_forward": times(2 * L, Cost(T * C, 4 * 3 * T * C)),
        "softmax_forward": Cost(4 * rows * Vp, 4 * 2 * rows * Vp),
        "encoder_forward": Cost(T * C, 4 * 3 * T * C),
    }


def times(number: int, cost: Cost) -> Cost:
    """The cost of doing it `number` times."""
    return Cost(number * cost.flops, number * cost.bytes)


def generation_costs(config: Config, prompt: int, n: int, last_only: bool) -> dict[str, Cost]:
    """Of generating up to n tokens from `prompt`, one pass for each new one."""
    total = dict.fromkeys(OPERATIONS, Cost(0, 0))
    for T in range(prompt, n):
        for name, cost in pass_costs(config, T, last_only).items():
            total[name] = total[name] + cost
    return total


def measure(program: Program, counts: list[int]) -> dict[str, dict[str, float]]:
    """{"serial": {operation: seconds}, "1": {region: seconds}, ...}: serial, then `program` on 1, ... workers.

    The serial program's time is that in its functions; the other's is that of the main thread in the regions it names
    and outside them. Raises ProgramError.
    """
    report = run(serial_program(program), count=True, margins=True)
    seconds = {"serial": {name: report["count"].get(name, 0.0) for name in OPERATIONS}}
    seconds["serial"][OUTSIDE] = max(0.0, report["seconds"] - sum(seconds["serial"].values()))
    recorded = run(program, record=counts)
    for one in recorded["runs"]:
        check_tokens(program, one["tokens"], safe_tokens(program, report))
        seconds[str(one["workers"])] = region_seconds(Recording(one))
    return seconds


def region_seconds(recording: Recording) -> dict[str, float]:
    """Wall seconds of the generation by region, and outside all regions; without any region nothing is told."""
    seconds: dict[str, float] = {}
    for region in recording.regions:
        name = operation(region.name)
        seconds[name] = seconds.get(name, 0.0) + region.length / 1e9
    return seconds | {OUTSIDE if seconds else UNTOLD: recording.length / 1e9 - sum(seconds.values())}


@contextmanager
def counting(module: ModuleType) -> Iterator[dict[str, float]]:
    """The exact, slow way to know where the time goes: a clock around every function. Profilers are checked against it.

    {function: seconds of self time} of the ..._forward functions of a module within the with block, on the thread that
    enters it: the time in a function without that in others it calls; and, behind the block, "whole": all seconds.
    """
    seconds: dict[str, float] = {}
    ours = {
        name: value
        for name, value in vars(module).items()
        if name.endswith("_forward") and getattr(value, "__module__", "") == module.__name__
    }
    inner = [0.0]  # for each call on the stack: time in counted functions below it
    ident, clock = threading.get_ident(), time.perf_counter

    def counted(name: str, function: Callable, *arguments: Any, **options: Any) -> Any:
        if threading.get_ident() != ident:
            return function(*arguments, **options)
        inner.append(0.0)
        begin = clock()
        try:
            return function(*arguments, **options)
        finally:
            total = clock() - begin
            seconds[name] = seconds.get(name, 0.0) + total - inner.pop()
            inner[-1] += total

    begin = clock()
    vars(module).update({name: partial(counted, name, function) for name, function in ours.items()})
    try:
        yield seconds
    finally:
        vars(module).update(ours)
        seconds["whole"] = clock() - begin
