# %% [markdown]
# # 2 · Observe before you optimise
#
# **The question: where does the time go? And how do you know?**
#
# You have read `serial.py` and counted operations in chapter 1. Now the program runs, and a *profiler* looks at it a
# hundred times a second and notes which function it is in. If you optimise before you have looked, you work on the
# wrong function: nearly everybody's guess is wrong somewhere.

# %% tags=["parameters"]
MODEL = None  # None is GPT-2 124M, or a random one of the same shape
N = 20  # tokens in all; 3 of them are the prompt
LONG = 200  # tokens of a long prompt

# %%
from lab import notebook  # first: it keeps BLAS to one thread

import json

from lab.files import PROFILES
from lab.measure import profile
from lab.measure.hotspots import amdahl

notebook.begin()
model = ["--model", MODEL] if MODEL else []

# %% [markdown]
# ## Predict
#
# `serial.py` spends its time in these functions. Write down the share of each, as a fraction of 1, before you measure.
# What do you expect of attention, the part of a transformer everybody talks about?

# %%
prediction = {
    "matmul_forward": None,
    "attention_forward": None,
    "layernorm_forward": None,
    "softmax_forward": None,
    "gelu_forward": None,
}

# %% [markdown]
# ## Measure
#
# The same as `make profile` in a terminal. It runs the program without and with the profiler, so that you know what
# looking costs, and compares the tokens, so that you know it was the same program.

# %%
notebook.tool(profile.main, "--engine", "serial", "-n", N, "--rounds", 2, *model)

# %%
measured = {
    row["name"]: row["self_share"] for row in json.loads((PROFILES / "serial.profile.json").read_text())["rows"]
}
notebook.compare(prediction, measured)

# %% [markdown]
# ## The same, as a flame graph
#
# Each box is a function, its width the share of samples it was in, and what it called lies on top. Width is all that
# counts; the order from left to right is the alphabet. The file `profiles/serial.svg` in a browser zooms and searches.

# %%
notebook.picture(PROFILES / "serial.svg")

# %% [markdown]
# The topmost boxes are single lines. One line, a call of `np.dot`, is most of the picture. It is a good sign: a program
# with one wide box is easier to make faster than one with a hundred narrow ones.
#
# ## What is it worth? Amdahl's law
#
# If a share `p` of the time becomes `k` times as fast and the rest stays, the whole becomes
#
# $$ S = \frac{1}{(1-p) + p/k} $$
#
# times as fast. With the shares you have just measured:

# %%
both = sum(measured.get(name, 0.0) for name in ("matmul_forward", "attention_forward"))
cases = {"matmul alone": measured["matmul_forward"], "matmul and attention": both, "all but 1 %": 0.99}
rows = [(name, f"{p:.1%}", *(f"{amdahl(p, k):.1f}" for k in (2, 4, 16, 64, float("inf")))) for name, p in cases.items()]
notebook.table("made parallel|>share|>k = 2|>k = 4|>k = 16|>k = 64|>without end", rows)

# %% [markdown]
# Read the last column aloud: whatever you leave serial is the end of the road. On 4 threads a forgotten 5 % costs
# little; on 64 it costs more than half of the machine.
#
# ## Does the picture stay the same?
#
# Attention looks back at all earlier positions: its work grows with the square of the length, that of the products only
# with the length.
#
# **Predict** the share of attention with a prompt of LONG tokens.

# %%
prediction_long = {"attention_forward": None}

# %%
notebook.tool(
    profile.main, "--engine", "serial", "--prompt", LONG, "-n", LONG + 1, "--rounds", 1, "--rate", 200, *model
)
long = {row["name"]: row["self_share"] for row in json.loads((PROFILES / "serial.profile.json").read_text())["rows"]}
notebook.compare(prediction_long, {"attention_forward": long.get("attention_forward", 0.0)})

# %% [markdown]
# A profile belongs to a job. Change the job, measure again.
#
# ## What a sampling profiler does not see
#
# - *Why* a line is slow. `np.dot` here waits for memory most of the time: every weight is loaded for every position,
#   used once, and forgotten. `make profile ARGS="--profiler perf"` looks below numpy; chapter 5 draws the roofline.
# - *Waiting*. A thread that waits is in no function of interest. Chapter 3 has the timeline for that.
# - *Short things*. At a hundred samples a second, what takes less than a hundredth of the time is a few samples: noise.
#
# ## Your turn
#
# 1. Profile your own `parallel.py` as the task begins: `make profile FILE=parallel.py` (or ENGINE=…, see `make help`).
#    The widest boxes are the same, but not quite as wide. Which line of your file is narrower than in `serial.py`, and
#    why? (Chapter 1, first task.)
# 2. Write the two lines into your answers: *the two hot spots are … and …, together … of the time; on 4 threads, with
#    nothing else changed, at most … times as fast.*
#
# **What to look for**: your number for 4 threads from the table above. When your program is done, `make grade` tells
# you how near you came to it, and chapter 5 why you can also come out *above* it.
