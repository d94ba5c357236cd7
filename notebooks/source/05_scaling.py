# %% [markdown]
# # 5 · Scaling
#
# **The question: twice the workers, and not twice as fast. Is it the program or the machine?**
#
# Four numbers answer it, and you should not mix them up:
#
# | number | what it is | what it tells |
# | --- | --- | --- |
# | $T_s$, $T_k$ | the time of the serial program; of yours on k workers | |
# | $S_k = T_s / T_k$ | speedup | what a user gains: your better algorithm *and* your threads |
# | $E_k = T_1 / T_k$ | self-scaling | what the threads alone gain |
# | $C_k$ | capacity | what this machine can gain at all, just now |
#
# The grade looks at the *gain* $(E_k - 1)/(C_k - 1)$: how much of the possible gain your threads reach.

# %% tags=["parameters"]
MODEL = None  # None is GPT-2 124M, or a random one of the same shape
WORKERS = 2
PROMPT = 96  # tokens of the prompt
N = 98  # tokens in all
ROUNDS = 2  # how often each is measured
FILE = None  # your program; None is parallel.py, else the starter

# %%
from lab import notebook  # first: it keeps BLAS to one thread

import json

from lab.checkpoint import read_header
from lab.files import PROFILES
from lab.measure import bench, beside, plots, scale, timeline
from lab.measure.capacity import Kernel, capacity
from lab.measure.runner import choose_program

notebook.begin()
file = FILE or notebook.mine()
model = ["--model", MODEL] if MODEL else []
stages = json.loads((notebook.REFERENCE / "stages.json").read_text())
print("your program:", file)

# %% [markdown]
# ## What the machine can do
#
# Threads that do nothing but the matrix products of GPT-2, and never talk to each other. Nobody scales better than
# they do.
#
# **Predict** $C_2$ on two cores.

# %%
prediction = {f"C_{WORKERS}": None}

# %%
found = capacity(WORKERS, repeats=3, kernel=Kernel(PROMPT))
notebook.compare(prediction, {f"C_{WORKERS}": found}, "{:.2f}")

# %% [markdown]
# ## Why C_k is not k
#
# Cores share what they need: the memory behind the caches, the clock frequency (the more cores are at work, the
# slower each of them is), on many machines even the arithmetic units (two *hyperthreads* are one core). In the cloud
# they also share with neighbours you cannot see. So C_k changes from minute to minute, and every honest measurement of
# scaling measures it along with the program.
#
# ## Your file beside the stages
#
# The committed measurements below are those of three finished programs, on two quiet cores. Stage 3 has the products in
# parallel, stage 4 attention as well, stage 5 is as near to the machine as its authors came. Yours is measured live.

# %%
times = beside.milliseconds(stages)
order = {"serial": "serial.py", "stage3": "stage 3", "stage4": "stage 4", "parallel": "stage 5"}
note = f"{stages['model']}, prompt of {stages['prompt_length']}, {stages['date'][:10]}: {stages['load']}"
notebook.picture(beside.draw_times({order[name]: times[name] for name in order}, "Where the stages lead", note))

# %% [markdown]
# Look at the bars for *one* worker first. Stage 3 on one worker is several times as fast as the serial program, without
# any thread: one product of many positions uses each weight that has come from memory for all positions at once. It is
# the largest single gain of the lab, and it is not parallelism.
#
# **Predict** E_2 of your own file, as it is now.

# %%
prediction = {"your E_2": None}

# %%
result = PROFILES / "notebook.json"
counts = f"1,{WORKERS}"
job = ["--prompt", PROMPT, "-n", N, "--rounds", ROUNDS, "--workers", counts, *model]
notebook.tool(bench.main, "--engines", file, "--out", result, *job)
yours = json.loads(result.read_text())

# %%
curves = beside.curves(stages)
(mine,) = beside.curves(yours).values()
lines = {order[name]: curves[name] for name in ("stage3", "stage4", "parallel")} | {"yours": mine}
notebook.compare(prediction, {"your E_2": mine[WORKERS].median}, "{:.2f}")
notebook.picture(beside.draw_scaling(lines, beside.capacities(stages), "Self-scaling: the stages, and your file", note))

# %% [markdown]
# The starter does not scale: its line is flat. Each stage bends it up, towards the green one. Note the intervals: they
# are wide where the machine was disturbed, and two programs whose intervals overlap have not been told apart.
#
# ## Why it is slow: the roofline
#
# An operation is limited by what has to come from memory or by what has to be computed. Which of the two it is depends
# on its *intensity*: operations for each byte.

# %%
program = choose_program(file, MODEL, n=12, workers=WORKERS)
seconds, costs, roofs = plots.measure_operations(program, read_header(program.model)[1])
notebook.picture(plots.draw_operations(seconds, f"Where the time goes: serial and {program.file}", ""))
notebook.picture(plots.draw_roofline(roofs, plots.points(seconds, costs), f"Roofline: serial and {program.file}", ""))

# %% [markdown]
# The slanted roof is memory, the flat one arithmetic. The products of the serial program lie far below the roof at
# their intensity: they *could* use each weight for all positions and do not, so they run at the speed of memory. Move
# right, not up: change the order of the work, and the same machine allows ten times as much.
#
# ## 64 cores
#
# `make scale` records every task of a program one at a time and computes how k workers would share them, k up to 64:
# what the tasks divide into, the interpreter lock and handing out the work, the memory that all share. Amdahl's law
# knows only the serial part, and is the most optimistic of all predictions.
#
# **Predict** how many times as fast as on one core the answer to stage 5 would be on 64 cores with this machine's
# memory.

# %%
prediction = {"E_64": None}

# %%
foreseen = json.loads((notebook.REFERENCE / "prediction.json").read_text())
speedups = plots.speedups(foreseen, None, {int(k): c for k, c in foreseen["capacity"].items()})
notebook.compare(prediction, {"E_64": speedups.limited[64]}, "{:.1f}")
note = f"{foreseen['model']}, {foreseen['n']} tokens, {foreseen['date']}; {foreseen['machine']}"
notebook.picture(plots.draw_speedup(speedups, "Stage 5: predicted up to 64 cores, measured on 2", note))

# %% [markdown]
# Where the blue line falls, every further worker costs more (it has to be woken, given its share, and waited for) than
# it brings. With 12 heads, attention has work for 12. Now yours; a program that names no regions (the starter) can only
# be measured:

# %%
notebook.tool(scale.main, "--engine", file, "--rounds", ROUNDS, *model)

# %% [markdown]
# ## Who waits for what
#
# Your own program, one forward pass:

# %%
(recording,) = timeline.record(program, [WORKERS])
notebook.picture(timeline.draw(recording, program.title, ""), width=1000)
waiting = {row["thread"]: row["waiting"] for row in timeline.thread_rows(recording)}
notebook.table("thread|>waits", [(thread, f"{share:.0%}") for thread, share in waiting.items()])

# %% [markdown]
# ## Your turn
#
# Stage 5 in your `parallel.py`: as near to the green line as you can.
#
# 1. Look at the picture above: is it the main thread that works alone (dark), the workers that wait for the last one
#    (uneven ends), or the gaps between many small regions?
# 2. Change *one* thing. Predict what it brings. Measure (`make bench` or this page). Write down: *I measured …, so I
#    tried …, and got …*.
# 3. Stop when the gain is above 0.9 or the next change would bring less than the noise.
#
# **What to look for**: E_k beside C_k, not beside k; the interval, not only the median; and T_1: a program that is slow
# on one worker scales beautifully and helps nobody.
