"""What each operation costs: its time, counted exactly, and how much it computes and moves, from its shapes."""

from dataclasses import replace
from typing import NamedTuple

from lab.checkpoint import Config
from lab.measure.palette import OPERATIONS
from lab.measure.runner import Program, check_tokens, run, serial_program


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


def counted(program: Program, expected: list[int] | None) -> tuple[dict[str, float], list[int]]:
    """Wall seconds by operation, "other" for the rest of the generation; and the tokens. Raises ProgramError."""
    report = run(program, "--count")
    check_tokens(program, report["tokens"], expected or report["tokens"])
    seconds = {name: report["count"].get(name, 0.0) for name in OPERATIONS}
    seconds["other"] = max(0.0, report["seconds"] - sum(seconds.values()))
    return seconds, report["tokens"]


def measure(program: Program, counts: list[int]) -> dict[str, dict[str, float]]:
    """{"serial": {operation: seconds}, "1": {...}, ...}: the serial program, then `program` on 1, ... workers."""
    serial, tokens = counted(serial_program(program), None)
    return {"serial": serial} | {str(k): counted(replace(program, workers=k), tokens)[0] for k in counts}
