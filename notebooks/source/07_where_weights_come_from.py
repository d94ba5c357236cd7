# %% [markdown]
# # 7 · Where the weights come from
#
# **The question: 124 million numbers that nobody has typed in. Where do they come from?**
#
# From the same program, run backwards. `lab/train` is the other half of llm.c: it compares what the model predicted
# with the word that really followed, works out for every weight in which direction it should have been different
# (*backward*), and moves all of them a little (*AdamW*). This chapter trains a small GPT-2 for about a minute, on all
# of Shakespeare.

# %% tags=["parameters"]
TEXT = "tinyshakespeare"  # downloaded once, 1.1 MB; or the path of a text of yours
STEPS = 400
BATCH, LENGTH = 8, 64  # sequences a step, tokens in each

# %%
from lab import notebook  # first: it keeps BLAS to one thread

import math
from dataclasses import replace

from rich.console import Console

from lab.checkpoint import count_parameters
from lab.serial import GPT2, gpt2_build_from_checkpoint
from lab.train import curve, loop
from lab.train.data import DataError
from lab.train.sample import sample_text
from lab.train.settings import Settings
from lab.train.trainer import Trainer

notebook.begin()
folder = notebook.scratch()
settings = Settings(
    data=TEXT, batch=BATCH, seq=LENGTH, steps=STEPS, lr=3e-3, schedule="cosine", beta2=0.99, clip=1.0, weight_decay=0.1,
    share_rare=2, shuffle=True, val_every=max(STEPS // 5, 1), val_batches=4, sample_every=0, save_every=0,
    out=str(folder / "trained.bin"),
)  # fmt: skip
quiet = Console(quiet=True)
try:
    tokens = loop.load_data(settings, quiet)
except DataError as error:  # no network: this lab's own documents are English, too
    print(f"{error}. Instead of it: the lab's documents")
    tokens = loop.load_data(replace(settings, data=str(notebook.documents())), quiet)
trainer = Trainer(settings, *tokens, None)
shape = trainer.config
print(f"L = {shape.num_layers}, NH = {shape.num_heads}, C = {shape.channels}: {count_parameters(shape):,} weights")

# %% [markdown]
# ## Before
#
# The weights are small random numbers, so every one of the 50,257 tokens is about equally probable. What does such a
# model write?

# %%
print(sample_text(GPT2(trainer.config, trainer.full_parameters()), 40))

# %% [markdown]
# ## The loss
#
# The loss is the mean of $-\ln p$, where p is the probability the model gave to the token that really came. A model
# that knows nothing gives each of V tokens the probability 1/V.
#
# **Predict** the loss before the first step. (It is a logarithm; you can work it out.) And after STEPS steps?

# %%
prediction = {"before": None, "after": None}

# %%
before = trainer.validate()
loop.train(trainer, quiet)
after = trainer.validate()
notebook.compare(prediction, {"before": before, "after": after}, "{:.2f}")
rows = [("before", f"{math.exp(before):,.0f}"), ("after", f"{math.exp(after):,.0f}")]
notebook.table("|>tokens it hesitates between (the perplexity)", rows)

# %%
notebook.picture(folder / "trained.png", width=760)
steps = curve.read_curve(folder / "trained.csv")
seconds = sum(float(row["ms"]) for row in steps) / 1e3
seen = len(steps) * BATCH * LENGTH
print(f"{len(steps)} steps, {seen:,} tokens, {seconds:.0f} s: {seen / seconds:,.0f} a second")

# %% [markdown]
# The curve falls steeply, then slowly. In the steep part the model learns which tokens there are at all and how often
# each comes; that is worth half of the loss and takes seconds. Everything else, which word follows which, who speaks to
# whom, is the slow part, and has no end.
#
# ## After

# %%
model = gpt2_build_from_checkpoint(folder / "trained.bin")
print(sample_text(model, 60))

# %% [markdown]
# A minute is not much. The model that came with the lab (`models/tiny_shakespeare.bin`) was trained in the same way for
# half an hour, on two cores; GPT-2 124M for some days on many GPUs. The program is the same, the loop is the same.
#
# ## What it costs
#
# A step computes each product three times: once forwards, and backwards once for the inputs and once for the weights.
# For every token that is about six operations a weight. So:

# %%
small = trainer.model.config  # tokens that do not occur in the text share one row of wte
operations = 6 * (12 * small.num_layers * small.channels**2 + small.vocab_size * small.channels)
reached = operations * seen / seconds
days = 6 * 124e6 * 9e9 / reached / 86400
print(f"here: about {reached / 1e9:.1f} GFLOP/s; GPT-2 124M over 9 billion tokens at this speed: {days:,.0f} days")

# %% [markdown]
# And so everything you have learnt about one product on k threads decides whether a model like this exists at all.
#
# ## Your turn
#
# The trainer shares its products among workers as your `parallel.py` does: what it needs is an object with `k` and
# `run(fn, tasks)`. That is what you have written in stage 2.
#
# 1. Import `Workers` from your file, make one with `with Workers(2) as team:`, and hand it to `Trainer(...)` in place
#    of `None`. Predict the new number of tokens a second, then measure it.
# 2. Train longer: `make train`. Or on a text of your own: `make train ARGS="--data my.txt"`.
#
# **What to look for**: the same losses to the last digits, step by step, whatever the number of workers. If they
# differ, your `run()` returned before all tasks were done.
