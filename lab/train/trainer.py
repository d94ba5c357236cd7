"""A model in training: parameters, gradients, optimizer and everything else that the next step depends on."""

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from lab.checkpoint import (
    Config,
    carve,
    check_config,
    count_parameters,
    parameter_shapes,
    read_checkpoint,
    refuse_pipe,
)
from lab.files import replacing
from lab.models import GPT2_124M
from lab.serial import GPT2, GPT2_EOT
from lab.train.adamw import AdamW, gpt2_update
from lab.train.backward import Gradients, gpt2_backward
from lab.train.data import DataError, DataLoader
from lab.train.forward import gpt2_forward
from lab.train.settings import Settings, check_saved, learning_rate
from lab.train.split import WorkersLike, blocks, split
from lab.train.vocabulary import SharedVocabulary

MOST_PARAMETERS = 1 << 40  # of which numpy can still say that there is no memory for them


class StateError(Exception):
    """A saved run that cannot be continued; the message is one line."""


def initial_parameters(config: Config, seed: int) -> np.ndarray:
    """GPT-2's initialisation, flat float32.

    Weights are drawn from a normal distribution of deviation 0.02, smaller by sqrt(2L) where a branch enters the
    residual stream; biases and padding rows are 0, layernorm weights 1.
    """
    random = np.random.default_rng(seed)
    params_memory = np.zeros(count_parameters(config), dtype=np.float32)
    tensors = carve(params_memory, parameter_shapes(config))
    for name, tensor in tensors.items():
        if name in ("ln1w", "ln2w", "lnfw"):
            tensor[...] = 1.0
        elif name.endswith("w") or name in ("wte", "wpe"):
            deviation = 0.02 / (2 * config.num_layers) ** 0.5 if name in ("attprojw", "fcprojw") else 0.02
            random.standard_normal(out=tensor, dtype=np.float32)
            tensor *= np.float32(deviation)
    tensors["wte"][config.vocab_size :] = 0.0
    return params_memory


def evaluate(
    model: GPT2,
    tokens: np.ndarray,
    B: int,
    T: int,
    limit: int = 0,
    workers: WorkersLike | None = None,
    vocabulary: SharedVocabulary | None = None,
) -> float:
    """The mean loss in nats over all tokens but the first, each predicted from those before it in its sequence.

    The sequences, of T tokens, follow one another without overlap; the last may be shorter. `limit`: only that many
    batches.
    """
    whole = (tokens.size - 1) // T
    total, count = 0.0, 0
    pieces = [(start * T, min(B, whole - start), T) for start in range(0, whole, B)]
    if (tokens.size - 1) % T:
        pieces.append((whole * T, 1, (tokens.size - 1) % T))
    for start, rows, length in pieces[: limit or None]:
        piece = np.asarray(tokens[start : start + rows * length + 1], dtype=np.int32)
        if vocabulary is not None:
            piece = vocabulary.compact_tokens(piece)
        inputs, targets = piece[:-1].reshape(rows, length), piece[1:].reshape(rows, length)
        gpt2_forward(model, inputs, targets, rows, length, workers, vocabulary and vocabulary.head_bias)
        total += float(model.acts.losses.sum(dtype=np.float64))
        if vocabulary is not None:
            total += float(vocabulary.correction(targets).sum(dtype=np.float64))
        count += rows * length
    return total / count


def check_tokens(name: str, tokens: np.ndarray, config: Config) -> None:
    """Raise DataError for tokens that the model does not have, and for a single one."""
    V = config.vocab_size
    if tokens.size < 2:
        raise DataError(f"the {name} data holds a single token: nothing to predict")
    for token in (tokens.min(), tokens.max()):
        if not 0 <= token < V:
            raise DataError(f"the {name} data holds token {token}: the model's vocabulary is 0 to {V - 1}")


class Trainer:
    """step() trains on the next batch; save() and Trainer.load() continue exactly where the run was."""

    def __init__(
        self, settings: Settings, train_tokens: np.ndarray, val_tokens: np.ndarray, workers: WorkersLike | None = None
    ):
        self.settings, self.workers = settings, workers
        self.train_tokens, self.val_tokens = train_tokens, val_tokens
        self.config, params_memory = self.starting_point()
        self.check_data()
        self.vocabulary: SharedVocabulary | None = None
        config = self.config
        if settings.share_rare:
            counts = np.bincount(train_tokens, minlength=config.vocab_size)
            always = (GPT2_EOT,) if config.vocab_size > GPT2_EOT else ()
            self.vocabulary = SharedVocabulary(counts, settings.share_rare, always)
            config = self.vocabulary.compact_config(config)
        if params_memory is None:
            params_memory = initial_parameters(config, settings.seed)
        elif self.vocabulary:
            params_memory = self.vocabulary.compact(self.config, params_memory)
        self.model = GPT2(config, params_memory)
        self.gradients = Gradients(config)
        self.optimizer = AdamW(params_memory.size)
        self.average = params_memory.copy() if settings.average else None
        self.masks: SimpleNamespace | None = None
        seed = settings.seed if settings.shuffle else None
        self.loader = DataLoader(train_tokens, settings.batch, settings.seq, seed)
        self.best = float("inf")  # the lowest validation loss so far
        self.waited = 0  # validations since then

    def starting_point(self) -> tuple[Config, np.ndarray | None]:
        """The full model's shape, and its parameters if a checkpoint is where training starts."""
        s = self.settings
        if s.init_from:
            config, params_memory = read_checkpoint(s.init_from)
            return config, np.array(params_memory, dtype=np.float32)
        shape = {"max_seq_len": s.context, "num_layers": s.layers, "num_heads": s.heads, "channels": s.channels}
        config = replace(GPT2_124M, **shape)
        check_config(s.out, config)
        if (count := count_parameters(config)) > MOST_PARAMETERS:
            raise MemoryError(f"{count:,} parameters")
        return config, None

    def check_data(self) -> None:
        """Raise DataError for tokens or a sequence length the model cannot take."""
        maxT = self.config.max_seq_len
        if self.settings.seq > maxT:
            raise DataError(f"--seq {self.settings.seq}: this model takes at most {maxT} positions")
        for name, tokens in (("training", self.train_tokens), ("validation", self.val_tokens)):
            check_tokens(name, tokens, self.config)

    # ---------------------------------------------------------------------------------------------------------- a step

    def step(self) -> tuple[float, float]:
        """Train on the next batch; returns its loss before the update, and the norm of its gradient (0 where nothing
        asks for it).
        """
        s, number = self.settings, self.optimizer.step
        inputs, targets = self.loader.batch(number)
        head_bias, correction = None, 0.0
        if self.vocabulary:
            inputs, targets = self.vocabulary.compact_tokens(inputs), self.vocabulary.compact_tokens(targets)
            head_bias, correction = self.vocabulary.head_bias, float(self.vocabulary.correction(targets).mean())
        self.draw_masks(number)
        loss = gpt2_forward(self.model, inputs, targets, s.batch, s.seq, self.workers, head_bias, self.masks)
        gpt2_backward(self.model, self.gradients, inputs, targets, self.workers, self.masks)
        norm, scale = 0.0, 1.0
        if s.clip:
            norm = self.gradient_norm()
            scale = min(1.0, s.clip / (norm + 1e-6))
        gpt2_update(
            self.model.params_memory, self.gradients.params_memory, self.optimizer, learning_rate(s, number),
            s.beta1, s.beta2, s.weight_decay, self.workers, scale,
        )  # fmt: skip
        self.update_average()
        return loss + correction, norm

    def draw_masks(self, number: int) -> None:
        """Dropout's masks for step `number`; they depend on the seed and the number only, so that a run can resume."""
        s = self.settings
        if not s.dropout:
            return
        shape = (s.batch, s.seq, self.config.channels)
        if self.masks is None:
            layers = (self.config.num_layers, *shape)
            kinds = {"encoded": shape, "attproj": layers, "fcproj": layers}
            self.masks = SimpleNamespace(**{name: np.empty(form, dtype=np.float32) for name, form in kinds.items()})
        random = np.random.default_rng([s.seed, number, 2])
        for mask in vars(self.masks).values():
            random.random(out=mask, dtype=np.float32)
            np.greater_equal(mask, np.float32(s.dropout), out=mask)
            mask *= np.float32(1.0 / (1.0 - s.dropout))

    def gradient_norm(self) -> float:
        """The length of the whole gradient."""
        gradient = self.gradients.params_memory
        return float(sum(np.dot(gradient[b], gradient[b]) for b in blocks(slice(0, gradient.size), 1))) ** 0.5

    def update_average(self) -> None:
        """The running mean of the weights; at first over all steps so far, so that the beginning is soon forgotten."""
        if self.average is None:
            return
        keep = min(self.settings.average, self.optimizer.step / (self.optimizer.step + 10.0))
        average, params_memory = self.average, self.model.params_memory

        def part(piece: slice) -> None:
            for block in blocks(piece, 1):
                average[block] *= keep
                average[block] += params_memory[block] * (1.0 - keep)

        split(self.workers, part, average.size)

    # ---------------------------------------------------------------------------------------------- what it has learnt

    def learnt(self) -> np.ndarray:
        """The parameters as they are validated and written, before expanding: the average, if one is kept."""
        return self.model.params_memory if self.average is None else self.average

    def full_parameters(self) -> np.ndarray:
        """The same for the full vocabulary, flat."""
        return self.learnt() if self.vocabulary is None else self.vocabulary.expand(self.config, self.learnt())

    def validate(self) -> float:
        """The loss on the validation tokens; remembers the best and how long ago it was."""
        s = self.settings
        model = GPT2(self.model.config, self.learnt())
        model.acts_memory = self.model.acts_memory  # the same memory: no step is under way
        loss = evaluate(model, self.val_tokens, s.batch, s.seq, s.val_batches, self.workers, self.vocabulary)
        if self.model.acts_memory.size < model.acts_memory.size:
            self.model.acts_memory, self.model.batch_size = model.acts_memory, 0
        self.waited = 0 if loss < self.best else self.waited + 1
        self.best = min(self.best, loss)
        return loss

    # ----------------------------------------------------------------------------------------------------- saving a run

    def save(self, path: str | os.PathLike) -> None:
        """Write everything the next step depends on, beside `path` and then renamed."""
        meta = {
            "settings": asdict(self.settings),
            "step": self.optimizer.step,
            "waited": self.waited,
            "tokens": self.fingerprint,
            "best": None if self.best == float("inf") else self.best,
        }
        with replacing(Path(path)) as partial, partial.open("wb") as file:
            np.savez(file, meta=np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8), **self.arrays())

    def arrays(self) -> dict[str, Any]:
        """What the next step depends on, by name."""
        found = {"params": self.model.params_memory, "m": self.optimizer.m_memory, "v": self.optimizer.v_memory}
        return found if self.average is None else found | {"average": self.average}

    @cached_property
    def fingerprint(self) -> list[int]:
        """What tells other training data from these."""
        return [self.train_tokens.size, zlib.crc32(np.ascontiguousarray(self.train_tokens, dtype="<u2").data)]

    def restore(self, path: str | os.PathLike) -> None:
        """Take over what `save` wrote, for a trainer of the same settings. Raises StateError."""
        with opened(path) as file:
            meta = read_meta(path)
            if meta["tokens"] != self.fingerprint:
                raise StateError(f"{path}: the run began with other data than {self.settings.data} is now")
            for name, array in self.arrays().items():
                saved = file[name]
                if saved.shape != array.shape:
                    raise StateError(
                        f"{path}: {name}: found {saved.size} numbers, expected {array.size} by its settings"
                    )
                array[...] = saved
            self.optimizer.step, self.waited = int(meta["step"]), int(meta["waited"])
            self.best = float("inf") if meta["best"] is None else float(meta["best"])


@contextmanager
def opened(path: str | os.PathLike) -> Iterator[Mapping[str, np.ndarray]]:
    """The arrays of a saved run, each read when it is asked for. Raises StateError, also for what goes wrong then."""
    try:
        refuse_pipe(path)
        with np.load(path, allow_pickle=False) as file:
            yield file
    except StateError:
        raise
    except FileNotFoundError:
        raise StateError(f"{path}: there is no such file") from None
    except Exception as error:  # a damaged archive raises almost anything
        raise StateError(f"{path}: not the saved state of a training run ({type(error).__name__})") from None


def read_meta(path: str | os.PathLike) -> dict:
    """What describes a saved run: settings (by name), step, waited, best, tokens. Raises StateError."""
    with opened(path) as file:
        meta = json.loads(file["meta"].tobytes())
        Settings(**meta["settings"])
        try:
            check_saved(meta["settings"])
        except ValueError as error:
            raise StateError(f"{path}: among its settings, {error}") from None
        return meta
