"""A model so small that a program can be run on it hundreds of times a second, and what lab.serial makes of it.

Its shapes are chosen to be awkward: few channels divide evenly among 3 workers, and the vocabulary is long enough for a
product that is cut into blocks of 64 or 128 rows to have more than one.
"""

import copy
from dataclasses import dataclass, replace
from functools import cache, lru_cache

import numpy as np

from lab import serial
from lab.checkpoint import Config, count_numbers, parameter_shapes

CONFIG = Config(max_seq_len=8, vocab_size=301, num_layers=1, num_heads=3, channels=12, padded_vocab_size=304)
SEED = 8  # of the parameters


@dataclass(frozen=True)
class Case:
    """One way to run generate(): n tokens in all; stop after so many (0: at the end); then run it with another prompt,
    which shows what is left over from the first: a shorter one, also behind its own end."""

    prompt: tuple[int, ...]
    n: int
    stop_after: int = 0
    then: tuple[int, ...] = ()

    def runs(self) -> "list[Case]":
        """Each call of generate() as a case."""
        return [self, replace(self, prompt=self.then)] if self.then else [self]


# Together the prompts give a different token if one output channel of any product, one head or the last row of the
# vocabulary is missing, and their running sums stay 1e-4 away from the coin (tests/test_check.py looks).
CASES = (
    Case((270, 116, 161), 5),
    Case((270, 116, 161), 5, stop_after=1, then=(38, 122)),
    Case((270, 116, 161), 4, then=(230, 241, 194)),
    Case((293, 38, 122, 46, 134), 6),
    Case((114, 4, 132, 160, 230, 98), 7),
)


@lru_cache(maxsize=1)
def parameters() -> np.ndarray:
    """All parameters; numpy promises that RandomState gives the same numbers for ever."""
    random = np.random.RandomState(SEED)
    parts = []
    for name, shape in parameter_shapes(CONFIG).items():
        tensor = random.standard_normal(int(np.prod(shape))) * (0.6 if name in ("wte", "wpe") else 0.35)
        if name in ("ln1w", "ln2w", "lnfw"):
            tensor += 1.0
        parts.append(tensor)
    memory = np.concatenate(parts).astype(np.float32)
    memory.flags.writeable = False
    return memory


def acts_size(n: int) -> int:
    """Floats of memory that generate(n) needs for its activations."""
    return count_numbers(serial.activation_shapes(CONFIG, 1, max(n - 1, 1)))


@lru_cache(maxsize=1)
def template() -> serial.GPT2:
    """The model that all are copies of."""
    return serial.GPT2(CONFIG, parameters())


def fresh_model(acts_memory: np.ndarray) -> serial.GPT2:
    """A model that nobody has used, on this memory for its activations."""
    model = copy.copy(template())
    model.acts_memory = acts_memory
    model.acts = type(model.acts)()
    return model


@dataclass(frozen=True)
class Expected:
    """What serial.py does: the tokens, and a copy of all activations after each pass, NaN where it writes nothing."""

    tokens: tuple[int, ...]
    activations: tuple[dict[str, np.ndarray], ...]


@cache
def expected(case: Case) -> Expected:
    """Run serial.py."""
    memory = np.full(acts_size(case.n), np.nan, dtype=np.float32)
    model = fresh_model(memory)
    tokens, activations = [], []
    for token in serial.generate(model, list(case.prompt), case.n):
        tokens.append(int(token))
        activations.append({name: array.copy() for name, array in vars(model.acts).items()})
        memory.fill(np.nan)
    return Expected(tuple(tokens), tuple(activations))
