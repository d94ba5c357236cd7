"""Which prompts: public ones that a student may see, hidden ones from a seed or from an instructor's file, all with
the margin.

A case set must catch any head, any row of a block and the last row of the vocabulary that somebody forgets to
compute. So the models are tiny and oddly shaped: few sizes divide evenly among the workers, and with a small vocabulary
every part of the model moves every probability.

Models with GPT-2's vocabulary, tiny otherwise, have the cases on which the order of the softmax's sum decides.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lab.checkpoint import CheckpointError, Config, carve, parameter_shapes, write_checkpoint
from lab.margin import MARGIN, in_double, logits_of, other_sums, safe_tokens
from lab.models import synthetic_parameters
from lab.serial import gpt2_build_from_checkpoint

ATTEMPTS = 200  # prompts tried until one has the margin
LONGEST = 64  # n of the longest case: all that its model takes
MOST_WORKERS = 32  # of a case
# of the last layernorm's weights: many tokens share the probability, so that any change moves the coin to another one
FLATNESS = 0.35

PUBLIC_CONFIG = Config(max_seq_len=64, vocab_size=101, num_layers=2, num_heads=3, channels=42, padded_vocab_size=128)
PUBLIC_SEED = 20240326
WIDE_CONFIG = Config(max_seq_len=16, vocab_size=50257, num_layers=1, num_heads=3, channels=15, padded_vocab_size=50304)
COMMON = 1000  # tokens that share nearly all the probability in a model with this vocabulary
RARITY = 9.5  # how far the logits of all others lie below: each rounds away beside the sum, and together they count
INSIDE_CONFIG = Config(max_seq_len=113, vocab_size=509, num_layers=2, num_heads=8, channels=256, padded_vocab_size=512)


class CasesError(Exception):
    """An instructor's file of cases that cannot be used; one line."""


@dataclass(frozen=True)
class Case:
    """One prompt for one number of workers, and what the serial program answers."""

    kind: str  # what it is about: "prompt lengths", "edge tokens", "3 workers", "long"
    prompt: tuple[int, ...]
    n: int
    workers: int
    tokens: tuple[int, ...]
    hidden: bool = False
    close_after: int = 0


@dataclass(frozen=True)
class CaseSet:
    """The cases for one model."""

    model: Path
    cases: tuple[Case, ...]


def case_model(path: Path, config: Config, seed: int) -> None:
    """Write the tiny model of a case set."""
    memory = synthetic_parameters(config, seed)
    carve(memory, parameter_shapes(config))["lnfw"] *= np.float32(FLATNESS)
    write_checkpoint(path, config, memory)


def wide_model(path: Path, seed: int) -> np.ndarray:
    """Write a model with GPT-2's vocabulary, most of which never occurs, as in trained models; returns what does.

    Channel 0 of the last layernorm is 1, whatever comes in, so wte's channel 0 is a bias of each token's logit.
    """
    memory = synthetic_parameters(WIDE_CONFIG, seed)
    p = carve(memory, parameter_shapes(WIDE_CONFIG))
    V = WIDE_CONFIG.vocab_size
    common = np.random.default_rng(seed).choice(V, COMMON, replace=False)
    rare = np.ones(V, dtype=bool)
    rare[common] = False
    p["lnfw"] *= np.float32(FLATNESS / 2)
    p["lnfw"][0], p["lnfb"][0] = 0.0, 1.0
    p["wte"][:, 0] = 0.0
    wte = p["wte"][:V]
    wte[rare] *= np.float32(0.1)
    wte[rare, 0] = -RARITY
    write_checkpoint(path, WIDE_CONFIG, memory)
    return common


# -------------------------------------------------------------------------------------------------------- making cases


class Maker:
    """Makes cases for one model from a random generator; every case has the margin."""

    def __init__(self, model: Path, seed: int, hidden: bool, vocabulary: Sequence[int] = ()) -> None:
        self.model = in_double(gpt2_build_from_checkpoint(model))
        self.config = self.model.config
        self.vocabulary = vocabulary or range(self.config.vocab_size)  # what prompts are made of
        self.random, self.hidden = random.Random(seed), hidden

    def prompt(self, length: int, edges: bool = False) -> tuple[int, ...]:
        """A random prompt; with `edges`, of the first and the last token of the vocabulary."""
        choices = (0, self.config.vocab_size - 1) if edges else self.vocabulary
        return tuple(self.random.choice(choices) for _ in range(length))

    def case(self, kind: str, length: int, n: int, workers: int, edges: bool = False, close_after: int = 0) -> Case:
        """One case; another prompt is taken until one has the margin at every step. Raises CasesError."""
        for attempt in range(ATTEMPTS):
            prompt = self.prompt(length, edges and attempt < ATTEMPTS // 2)
            if edges and attempt >= ATTEMPTS // 2:
                prompt = (0, self.config.vocab_size - 1, *prompt)[:length]
            tokens = safe_tokens(self.model, prompt, n)
            if tokens:
                return Case(kind, prompt, n, workers, tokens[: close_after or None], self.hidden, close_after)
        raise CasesError(f"no prompt of {length} tokens with a margin of {MARGIN} was found in {ATTEMPTS} attempts")

    def wide_case(self, length: int, n: int, workers: int) -> Case:
        """A case on which every other way to add up the softmax's exponentials gives another token at some step."""
        while True:
            case = self.case("GPT-2's vocabulary", length, n, workers)
            if self.order_shows(case):
                return case

    def order_shows(self, case: Case) -> bool:
        """Whether each of lab.margin.other_sums has a step at which it takes another token than gpt.c's."""
        unnoticed = [
            {how for how, other in other_sums(self.logits_after(case, made)).items() if other == token}
            for made, token in enumerate(case.tokens)
        ]
        return not set.intersection(*unnoticed)

    def logits_after(self, case: Case, made: int) -> np.ndarray:
        """The logits from which the next token is sampled when so many are made."""
        return logits_of(self.model, [*case.prompt, *case.tokens[:made]]).astype(np.float32)


# ------------------------------------------------------------------------------------------------------ public, hidden


def public_cases(folder: Path) -> CaseSet:
    """The cases a student may see: always the same."""
    model = folder / "public.bin"
    case_model(model, PUBLIC_CONFIG, PUBLIC_SEED)
    make = Maker(model, PUBLIC_SEED, hidden=False).case
    cases = (
        make("1 worker", 4, 10, 1),
        make("1 worker", 1, 10, 1),
        make("2 workers", 1, 10, 2),
        make("2 workers", 5, 12, 2),
        make("2 workers", 9, 10, 2),
        make("edge tokens", 2, 8, 2, edges=True),
        make("4 workers", 3, 12, 4),
        make("4 workers", 7, 10, 4),
    )
    # as long as the one before, so what is kept by its length alone shows; and another follows in the same process
    closed = make("2 workers", 5, 12, 2, close_after=2)
    return CaseSet(model, (*cases[:4], closed, *cases[4:]))


def wide_cases(folder: Path, seed: int, hidden: bool) -> CaseSet:
    """Cases with GPT-2's vocabulary, public or hidden ones."""
    model = folder / ("hidden-wide.bin" if hidden else "public-wide.bin")
    common = wide_model(model, seed)
    make = Maker(model, seed, hidden, common.tolist()).wide_case
    return CaseSet(model, (make(3, 10, 2), make(5, 10, 4 if hidden else 1)))


def inside_cases(folder: Path, small: CaseSet) -> list[CaseSet]:
    """Two prompts for looking at who does the work: a long one on a model just large enough for a program to find its
    work worth sharing; and, if that takes too long, a short one on the small model.
    """
    model = folder / "inside.bin"
    case_model(model, INSIDE_CONFIG, PUBLIC_SEED)
    return [
        CaseSet(model, (inside_case(model, INSIDE_CONFIG.max_seq_len - 1),)),
        CaseSet(small.model, (inside_case(small.model, 9),)),
    ]


def inside_case(model: Path, length: int) -> Case:
    """One prompt, and its token, which is none that NaN would give."""
    maker = Maker(model, PUBLIC_SEED, hidden=False)
    while True:
        case = maker.case("who does the work", length, length + 1, 2)
        if case.tokens[0] not in (0, maker.config.vocab_size - 1):
            return case


def hidden_config(seed: int) -> Config:
    """A model shape from the seed; heads, channels and vocabulary are odd: they do not divide among 2 or 4 workers."""
    choose = random.Random(seed)
    heads, head_size = choose.choice(((5, 7), (5, 9), (7, 7), (5, 11)))
    vocabulary = choose.choice((67, 71, 83, 97, 103))
    return Config(LONGEST, vocabulary, 2, heads, heads * head_size, vocabulary + choose.choice((13, 27, 29)))


def hidden_cases(folder: Path, seed: int) -> CaseSet:
    """Cases of a model that exists only for this seed, so no answer can be known before."""
    model = folder / "hidden.bin"
    case_model(model, hidden_config(seed), seed + 1)
    make = Maker(model, seed, hidden=True).case
    return CaseSet(
        model,
        (
            *(make("prompt lengths", length, 10, k) for length, k in ((1, 2), (2, 4), (5, 2), (6, 4), (8, 2), (9, 4))),
            *(make("edge tokens", length, 10, workers, edges=True) for length, workers in ((1, 2), (4, 4))),
            make("1 worker", 3, 16, 1),
            *(make("3 workers", length, n, 3) for length, n in ((3, 14), (7, 16))),
            make("7 workers", 4, 14, 7),
            make("long", 2, 48, 2),
            make("long", 11, LONGEST, 4),
        ),
    )


def instructor_cases(folder: Path, file: Path) -> CaseSet:
    """Cases from an instructor's JSON file:

    {"model": path, "cases": [{"prompt": [...], "n": 10, "workers": 2, "kind": "..."}, ...]}

    Without "model", the public one. Raises CasesError, also for a case without the margin.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
        entries = data["cases"]
        if not isinstance(entries, list) or not entries:
            raise CasesError("no list of cases in it")
        path = Path(file.parent, data["model"]) if "model" in data else folder / "public.bin"
        if "model" not in data:
            case_model(path, PUBLIC_CONFIG, PUBLIC_SEED)
        maker = Maker(path, 0, hidden=True)
        return CaseSet(path, tuple(instructor_case(maker, number, entry) for number, entry in enumerate(entries, 1)))
    except (CasesError, CheckpointError) as error:
        raise CasesError(f"{file}: {error}") from None
    except OSError as error:
        raise CasesError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        why = f"there is no {error}" if isinstance(error, KeyError) else error
        raise CasesError(
            f'{file}: not a file of cases ({{"cases": [{{"prompt": [5, 310], "n": 10}}]}}): {why}'
        ) from None


def instructor_case(maker: Maker, number: int, entry: object) -> Case:
    """One entry of the file. Raises CasesError."""
    config = maker.config
    if not isinstance(entry, dict) or not isinstance(entry.get("prompt"), list):
        raise CasesError(f'case {number}: not of the form {{"prompt": [5, 310], "n": 10, "workers": 2}}')
    prompt, n, workers = tuple(entry["prompt"]), entry.get("n", 10), entry.get("workers", 2)
    if (
        not all(type(value) is int for value in (*prompt, n, workers))
        or not 0 < len(prompt) < n <= config.max_seq_len + 1
        or not all(0 <= t < config.vocab_size for t in prompt)
        or not 0 < workers <= MOST_WORKERS
    ):
        raise CasesError(
            f"case {number}: 1 to n-1 tokens, whole numbers from 0 to {config.vocab_size - 1}; n at most "
            f"{config.max_seq_len + 1}; 1 to {MOST_WORKERS} workers"
        )
    tokens = safe_tokens(maker.model, prompt, n)
    if not tokens:
        raise CasesError(f"case {number}: the running sum comes nearer than {MARGIN} to the coin; take another prompt")
    return Case(str(entry.get("kind", "instructor's cases"))[:60], prompt, n, workers, tokens, hidden=True)
