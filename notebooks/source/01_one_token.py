# %% [markdown]
# # 1 · One token through the machine
#
# **The question: what does the program compute when it writes one word, and why do ten words cost what they cost?**
#
# You will follow a sentence through GPT-2, from text to numbers and back, in the program you are going to make
# parallel: [lab/serial.py](../lab/serial.py). Keep it open beside this page. Every name below (`encoded`, `qkv`, `att`,
# `logits`) is one of its arrays.
#
# Run a cell with Shift+Enter. The cell after this paragraph says what is measured; change it and run again.

# %% tags=["parameters"]
MODEL = "tiny_shakespeare"  # the model that is looked into; "gpt2_124M" after make model
TIMED = None  # the model that is timed: None is GPT-2 124M, or a random one of the same shape
N = 10  # tokens in all, prompt included: what gpt.c generates
SENTENCE = "To be, or not to be, that is the"

# %%
import time

from lab import notebook  # first: it keeps BLAS to one thread

import numpy as np

from lab import models, serial, tokenizer
from lab.measure import style
from lab.measure.operations import generation_costs, pass_costs

notebook.begin()
model = serial.gpt2_build_from_checkpoint(models.find(MODEL))
config = model.config
L, NH, C, V = config.num_layers, config.num_heads, config.channels, config.vocab_size
print(
    f"{MODEL}: L = {L} layers, NH = {NH} heads, C = {C} channels, V = {V:,} tokens; "
    f"{model.params_memory.size:,} weights"
)

# %% [markdown]
# ## Text becomes numbers
#
# The model knows no letters. A *tokenizer* cuts text into pieces, most of them whole words with the blank before them,
# and each piece has a number. From here on a sentence is a list of integers, and the program never sees anything else.

# %%
tokens = tokenizer.encode(SENTENCE)
words = [tokenizer.decode([token]) for token in tokens]
T = len(tokens)
notebook.table(
    ">position t|>token|text", [(t, token, repr(word)) for t, (token, word) in enumerate(zip(tokens, words))]
)

# %% [markdown]
# ## Numbers become vectors
#
# `encoder_forward` looks up row `token` of `wte`, adds row `t` of `wpe`, and has a vector of C numbers for each
# position. Both tables were learnt. The sum is the beginning of the *residual stream*: every layer reads it, and adds
# to it.

# %%
serial.gpt2_forward(model, np.array([tokens], dtype=np.int32), 1, T)
acts, params = model.acts, model.params
t = T - 1
print(f"encoded has the shape (B, T, C) = {acts.encoded.shape}; the vector of {words[t]!r} begins with")
print(acts.encoded[0, t, :6].round(3), "=", params.wte[tokens[t], :6].round(3), "+", params.wpe[t, :6].round(3))

# %% [markdown]
# ## One layer
#
# A layer does two things, each after a normalisation and each added to the stream:
#
# - **attention**: every position looks back at all positions up to itself and mixes what it finds there;
# - the **MLP**: every position for itself, C numbers to 4C, a bend (GELU), and back to C.
#
# That is all there is. The layer does it once, the model L times, each time with other weights. Here are the arrays of
# the first layer, in the order in which `gpt2_forward` fills them:

# %%
made_by = {
    "ln1": "layernorm",
    "qkv": "matmul: query, key and value",
    "att": "attention: who looks at whom",
    "atty": "attention: what is seen",
    "attproj": "matmul",
    "residual2": "add to the stream",
    "ln2": "layernorm",
    "fch": "matmul, C to 4C",
    "fch_gelu": "gelu",
    "fcproj": "matmul, 4C to C",
    "residual3": "add to the stream",
}
arrays = {name: getattr(acts, name)[0] for name in made_by}
rows = [(name, array.shape, f"{array.size:,}", made_by[name]) for name, array in arrays.items()]
notebook.table("array|shape|>numbers|made by", rows)

# %% [markdown]
# ## Attention, seen
#
# `att[l, b, h, t, t2]` is how much position `t` looks at position `t2` in head `h` of layer `l`. Each row adds up to 1,
# and the upper triangle is empty: nobody looks into the future.
#
# **Before you run the next cell**: where will the second " be" look, if a head has learnt something about this
# sentence? Write your guess down.

# %%
my_guess = ""  # for example "at the first ' be'" or "at the comma"

# %%
layer = 1  # from 0
plt = style.pyplot()
figure, axes = plt.subplots(1, min(NH, 4), figsize=(12.5, 4.1), sharey=True, squeeze=False, layout="constrained")
for h, panel in enumerate(axes[0]):
    panel.imshow(acts.att[layer, 0, h], cmap="Blues", vmin=0, vmax=0.6)
    panel.set_title(f"layer {layer}, head {h}")
    panel.set_xticks(range(T), [word.strip() for word in words], rotation=90)
    panel.set_yticks(range(T), [word.strip() for word in words])
axes[0, 0].set_ylabel("position that looks")
figure.supxlabel("position that is looked at")
notebook.picture(figure)
print("Your guess:", my_guess or "none yet")

# %% [markdown]
# Head 2 looks at the latest comma, whatever the position: where the phrase began. Head 3 looks at the first token, as
# if to say "nothing for me here". Nobody told them to. Change `layer` in the cell above and look at the others; the
# later layers look at many places at once.
#
# What matters for you: **the heads do not need each other.** Head 3 never reads what head 0 wrote. Remember that when
# you look for something to share among threads.

# %% [markdown]
# ## Vectors become words
#
# After the last layer the vector of the last position is multiplied by every row of `wte`: V *logits*, one for each
# token. `softmax_forward` turns them into probabilities, and `sample_mult` takes the first token at which their running
# sum exceeds 0.5. No dice: the same sentence always goes on in the same way, or you could not compare two programs.

# %%
probs = acts.probs[0, T - 1, :V]
best = np.argsort(probs)[::-1][:12]
chosen = serial.sample_mult(probs, V)
figure, panel = plt.subplots(figsize=(8.6, 3.6), layout="constrained")
colours = [style.VERMILLION if token == chosen else style.BLUE for token in best]
panel.barh(range(len(best)), probs[best], color=colours)
panel.set_yticks(range(len(best)), [repr(tokenizer.decode([int(token)])) for token in best], parse_math=False)
panel.invert_yaxis()
panel.set_xlabel("probability of being the next token")
panel.set_title(f"after {SENTENCE!r}", loc="left", parse_math=False)
notebook.picture(figure)
place = int((probs > probs[chosen]).sum()) + 1
print(f"sample_mult takes {tokenizer.decode([chosen])!r}, number {place} by probability")

# %% [markdown]
# Surprised that it need not be the most probable one? The running sum goes through the vocabulary *in the order of the
# token numbers*, and half of the probability lies before the token that is taken. It is a fixed throw of the dice.

# %% [markdown]
# ## Everything is a state machine
#
# Writing a text is a loop:
#
#     state = the sequence of tokens
#     while it is shorter than n:   state = state + [next_token(state)]
#
# The state is the sequence, and nothing else: `gpt.c` keeps nothing of the pass for token t when it computes token t+1.
# It runs the *whole* sequence through all layers again. (Chapter 6 asks what happens if it does keep something.)
#
# **Predict**: from the same three tokens, how many times as long as n = 10 does n = 20 take? And n = 40?

# %%
prediction = {"n = 20": None, "n = 40": None}  # times as long as n = 10; fill in numbers

# %%
timed = serial.gpt2_build_from_checkpoint(models.find(TIMED) if TIMED else models.timing_model())
prompt = [818, 262, 3726]


def seconds(n: int) -> float:
    """How long it takes to come to n tokens."""
    start = time.perf_counter()
    for _ in serial.generate(timed, prompt, n):
        pass
    return time.perf_counter() - start


seconds(len(prompt) + 1)  # once to warm up
taken = {n: seconds(n) for n in (N, 2 * N, 4 * N)}
positions = {n: sum(range(len(prompt), n)) for n in taken}
rows = [(n, n - len(prompt), positions[n], f"{s:.2f} s", f"{1e3 * s / positions[n]:.1f} ms") for n, s in taken.items()]
notebook.table(">n|>new tokens|>positions computed|>time|>a position", rows)
notebook.compare(
    {f"n = {n}": prediction.get(f"n = {n}") for n in taken},
    {f"n = {n}": taken[n] / taken[N] for n in list(taken)[1:]},
    "{:.1f} times",
)

# %% [markdown]
# The time of a position is nearly constant, and the number of positions grows as the *square* of n. That is the price
# of a state that is only the sequence.
#
# ## What a pass costs
#
# Counted, not measured: multiplications and additions of one pass of GPT-2 124M over T = 9 positions, and the bytes
# that have to come from memory at least once.

# %%
costs = pass_costs(models.GPT2_124M, N - 1, last_only=False)
whole = sum(cost.flops for cost in costs.values())
rows = [
    (name, f"{cost.flops / 1e6:,.1f}", f"{cost.flops / whole:.1%}", f"{cost.bytes / 1e6:,.1f}")
    for name, cost in sorted(costs.items(), key=lambda item: -item[1].flops)
]
notebook.table("operation|>million operations|>share|>MB moved", rows)
total = sum(cost.flops for cost in generation_costs(models.GPT2_124M, 3, N, last_only=False).values())
print(f"{N} tokens from 3: {total / 1e9:.1f} billion operations for {N - 3} new ones")

# %% [markdown]
# Nearly all of it is one function. But operations are not seconds: chapter 2 measures.
#
# ## Your turn
#
# Open your file, `parallel.py` (`make starter` writes it), and find `gpt2_forward`.
#
# 1. For the next token only the logits of the *last* position are needed. Find the line where your file already uses
#    this, and where `serial.py` does not. How many of the operations in the table above does it save at T = 9?
# 2. Of the operations in a layer, which could two threads do at the same time without waiting for each other? Make a
#    list with three columns: *array written*, *who could write which part*, *what must be finished before*.
#
# **What to look for**: in each row of your list no two threads write the same element. Then the arrays need no lock,
# only the moment at which everybody is done. Keep the list for chapter 3.
