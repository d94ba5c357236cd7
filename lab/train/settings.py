"""What a training run is told: one dataclass, saved with the run so that it can go on exactly as it began."""

import math
from dataclasses import dataclass


@dataclass
class Settings:
    """Every choice that the losses depend on. Lengths are in tokens, probabilities and rates plain numbers."""

    data: str = "tinyshakespeare"
    val_data: str | None = None
    data_format: str = "uint16"
    init_from: str | None = None
    layers: int = 4
    heads: int = 4
    channels: int = 64
    context: int = 256
    batch: int = 8
    seq: int = 64
    steps: int = 200
    lr: float = 1e-3
    schedule: str = "constant"
    warmup: int = 10
    final_lr: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.999
    weight_decay: float = 0.0
    clip: float = 0.0
    dropout: float = 0.0
    average: float = 0.0
    share_rare: int = 0
    shuffle: bool = False
    val_every: int = 50
    val_batches: int = 10
    sample_every: int = 100
    sample_tokens: int = 64
    save_every: int = 100
    keep: str = "last"
    patience: int = 0
    seed: int = 1337
    out: str = "models/trained.bin"
    version: int = 3


def learning_rate(settings: Settings, step: int) -> float:
    """The rate of step `step`, counted from 0: a linear warm-up, then constant, or falling to final_lr of it at the
    last step.
    """
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    if settings.schedule == "constant":
        return settings.lr
    done = min(1.0, (step - settings.warmup) / max(1, settings.steps - settings.warmup))
    share = 1.0 - done if settings.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return settings.lr * (settings.final_lr + (1.0 - settings.final_lr) * share)
