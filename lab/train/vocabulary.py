"""One row for all rare tokens: training a large vocabulary on a small corpus, exactly and at a fraction of the cost.

tinyshakespeare uses 11.7 thousand of GPT-2's 50,257 tokens. The other 38.5 thousand rows of wte are never looked up
and never a target; all that training does to them is to push them down, each the same way. So let them be one shared
row, which the softmax counts m times:

    sum over the shared tokens of exp(logit)  =  m exp(shared logit)  =  exp(shared logit + ln m)

A model of `kept + 1` rows whose last logit has ln m added (`head_bias`) is therefore the same model, number for
number, as the one with 50,257 rows of which m are equal, and `expand` writes that one down. What a loss needs besides:
a target among the shared tokens has 1/m of the group's probability, so ln m is added to its loss. Nothing about the
evaluation is easier than with the full vocabulary; a test compares the two.

Tokens that occur fewer than `least` times can share the row as well: the model then learns what a rare word is like,
instead of a row from one example, and gives words it has never seen a sensible probability.
"""

from dataclasses import replace

import numpy as np

from lab.checkpoint import Config, carve, parameter_shapes


class SharedVocabulary:
    """Which tokens have a row of their own, and how to go between the full model and the compact one, whose last row
    is shared.
    """

    def __init__(self, counts: np.ndarray, least: int = 1, always: tuple[int, ...] = ()) -> None:
        """counts (V): how often each token occurs in the training tokens; `always`: tokens that keep a row of their
        own.
        """
        keep = counts >= max(least, 1)
        keep[list(always)] = True
        if keep.all():
            keep[np.argmin(counts)] = False  # there has to be a group
        self.kept = np.flatnonzero(keep)
        self.size = self.kept.size + 1  # rows of the compact model
        self.shared = self.kept.size  # the last of them
        self.members = counts.size - self.kept.size  # m
        self.row_of = np.full(counts.size, self.shared, dtype=np.int32)
        self.row_of[self.kept] = np.arange(self.kept.size, dtype=np.int32)
        self.head_bias = np.zeros(self.size, dtype=np.float32)
        self.head_bias[self.shared] = np.log(self.members)

    def compact_tokens(self, tokens: np.ndarray) -> np.ndarray:
        """Token numbers -> row numbers of the compact model, any shape."""
        return self.row_of[tokens]

    def compact_config(self, config: Config) -> Config:
        """The shape of the compact model for a full one."""
        return replace(config, vocab_size=self.size, padded_vocab_size=self.size)

    def correction(self, targets: np.ndarray) -> np.ndarray:
        """What to add to the losses of compact `targets`: ln m where the target is one of the m."""
        return np.where(targets == self.shared, self.head_bias[self.shared], 0.0).astype(np.float32)

    def compact(self, config: Config, params_memory: np.ndarray) -> np.ndarray:
        """The parameters of a full model -> of the compact one; the shared row becomes the mean of those it stands
        for.
        """
        full = carve(params_memory, parameter_shapes(config))["wte"]
        rows = np.empty((self.size, config.channels), dtype=np.float32)
        rows[: self.shared] = full[self.kept]
        rows[self.shared] = full[: config.vocab_size][self.row_of == self.shared].mean(axis=0)
        return np.concatenate([rows.reshape(-1), params_memory[full.size :]])

    def expand(self, config: Config, params_memory: np.ndarray) -> np.ndarray:
        """The parameters of the compact model -> of the full one of shape `config`; its padding rows are 0."""
        rows = params_memory[: self.size * config.channels].reshape(self.size, config.channels)
        full = np.zeros((config.padded_vocab_size, config.channels), dtype=np.float32)
        full[: config.vocab_size] = rows[self.row_of]
        return np.concatenate([full.reshape(-1), params_memory[rows.size :]])
