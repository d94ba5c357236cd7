# %% [markdown]
# # 6 · The last rung
#
# **The question: your program scales. What would make it ten times as fast again?**
#
# Not more threads. Chapter 1 found that the state of the program is the sequence, and that every token runs all earlier
# ones through the model once more. And chapter 5 found that what is read from memory sets the pace. Both have a cure,
# and behind the second there is a wall.

# %% tags=["parameters"]
MEGABYTES = 400  # what is read to measure the memory: more than any cache holds
WORKERS = 2

# %%
from lab import notebook  # first: it keeps BLAS to one thread

import json
import time

import numpy as np

from lab import models
from lab.checkpoint import count_parameters
from lab.measure import beside, machine
from lab.measure.operations import generation_costs, pass_costs

notebook.begin()
config = models.GPT2_124M
stages = json.loads((notebook.REFERENCE / "stages.json").read_text())

# %% [markdown]
# ## Keep the keys and values
#
# Attention at position t reads query t, and the keys and values of all positions up to t. Those of earlier positions do
# not change when a token is appended: nothing earlier looks at it. So a program that *keeps* keys and values computes
# one position for each token, and not t.
#
# **Predict**, for a prompt of 96 tokens and four more: how many times fewer operations? And how many times as fast?

# %%
prediction = {"fewer operations": None, "as fast": None}

# %%
prompt, n = stages["prompt_length"], stages["n"]
again = sum(cost.flops for cost in generation_costs(config, prompt, n, last_only=True).values())
passes = [pass_costs(config, T, last_only=True) for T in [prompt] + [1] * (n - prompt - 1)]
kept = sum(cost.flops for costs in passes for cost in costs.values())
times = beside.milliseconds(stages)
most = max(times["cached"])
notebook.compare(
    prediction,
    {"fewer operations": again / kept, "as fast": times["parallel"][most] / times["cached"][most]},
    "{:.1f} times",
)
note = f"{stages['model']}, prompt of {prompt}, n = {n}, {stages['date'][:10]}: {stages['load']}"
names = {"serial": "serial.py", "parallel": "everything again", "cached": "keys and values kept"}
notebook.picture(beside.draw_times({names[name]: times[name] for name in names}, "What a cache is worth", note))

# %% [markdown]
# The first token still needs all positions; that is why four tokens do not gain what forty would. Here is a token
# *after* the first, from the same measurement:

# %%
after = {
    f"{names[entry['engine']]}, {entry['k']} worker{'s' if entry['k'] > 1 else ''}": 1e3
    * float(np.median(entry["per_token"]))
    for entry in stages["contenders"]
    if entry["engine"] in ("parallel", "cached")
}
notebook.table("a token after the first|>milliseconds", [(name, f"{ms:.1f}") for name, ms in after.items()])

# %% [markdown]
# ## The wall
#
# With one position, every weight is read from memory for *two* operations: a multiplication and an addition. The
# processor could do dozens in that time. So the floor of a token is the time it takes to read the weights once:

# %%
weights = 4 * count_parameters(config)
data = np.ones(MEGABYTES * 250_000, dtype=np.float32)
rate = {}
for k in (1, WORKERS):
    shares = np.array_split(data, k)
    rate[k] = (
        data.nbytes / 1e9 / machine.best_seconds([lambda share=share: np.dot(share, share) for share in shares], 3)
    )
rows = [
    (k, f"{gb:.1f} GB/s", f"{weights / 1e6 / gb:.1f} ms", f"{1e3 * gb * 1e6 / weights:.0f}") for k, gb in rate.items()
]
notebook.table(
    ">threads|>read|>a token at least|>tokens a second at most", rows, title=f"{weights / 1e6:.0f} MB of weights"
)

# %% [markdown]
# No program in float32 goes below that on this machine, in any language. A second thread helps only as long as one
# alone does not fill the bus: compare the two rows, and you know what k is worth for the last rung.
#
# What does go below is *reading less*: bfloat16 has half the bytes, 8 bits a quarter. Or *using each weight more than
# once*: several sequences at a time share what is read. That is why one chat is slow and a thousand at once are cheap.
#
# ## Reading in order
#
# Memory arrives in lines of 64 bytes, 16 numbers. Whoever uses one number of each line pays for sixteen.
#
# **Predict**: how many times as long does it take to add every 16th number of an array as to add as many that lie side
# by side?

# %%
prediction = {"every 16th": None}

# %%
count = len(data) // 16


def milliseconds(part):
    """How long its sum takes, the best of five."""
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        part.sum()
        best = min(best, time.perf_counter() - start)
    return 1e3 * best


side_by_side, spread = milliseconds(data[:count]), milliseconds(data[::16])
notebook.table(
    "as many numbers|>time", [("side by side", f"{side_by_side:.1f} ms"), ("every 16th", f"{spread:.1f} ms")]
)
notebook.compare(prediction, {"every 16th": spread / side_by_side}, "{:.1f} times")

# %% [markdown]
# ## What a GPU changes
#
# - **SIMT**: not two workers but tens of thousands, and 32 of them (a *warp*) execute the same instruction on 32
#   numbers. A branch that half of them take costs both ways. No queue, no mutex: the share of a thread follows from its
#   number, as in your `blocks` of output channels.
# - **Coalesced loads**: the 32 threads of a warp should read 32 numbers that lie side by side: then they arrive in a
#   few lines. Otherwise you have just measured what happens.
# - **Ten times the bandwidth and a hundred times the arithmetic.** So the ridge of the roofline lies further right, and
#   even more depends on using each weight more than once.
#
# The lab's *ladder* climbs this one optimisation at a time, with PyTorch (`make ladder`). A committed run:

# %%
report = json.loads((notebook.REFERENCE / "ladder" / "ladder.json").read_text())
print(f"{report['title']}; PyTorch {report['torch']}; {report['date']}")
notebook.picture(notebook.REFERENCE / "ladder" / "generation.png", width=760)
notebook.picture(notebook.REFERENCE / "ladder" / "training.png", width=760)

# %% [markdown]
# ## Your turn
#
# This rung is for fun; it earns no scaling points: a cache makes the work smaller and the threads less useful.
#
# 1. Which arrays of your `gpt2_forward` would have to outlive one token? How many megabytes are they at 1,024
#    positions, with L = 12 and C = 768? Compare with the weights.
# 2. Copy `parallel.py` to `cached.py` and let a pass compute only the positions it has not computed yet. Half a page.
# 3. `make bench ARGS="--engines parallel.py,cached.py"`.
#
# **What to look for**: the column *of the floor* in the table of `make bench`, or the milliseconds of a token after the
# first beside the floor you have measured above. The lab's own answer reaches 0.55 to 0.8 on two
# workers, depending on the processor: the quicker the memory, the more it matters that
# workers wait for each other and for the interpreter lock. Can you beat it?
