"""The same training step in PyTorch, for bench.py: run by a Python that has PyTorch, which need not be the lab's.

Reads one line from standard input for each step wanted, and answers with "seconds loss". Written as one would in
PyTorch: its fused attention, its fused AdamW, its own threads.
"""
# pyright: reportMissingImports=false

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from lab.checkpoint import carve, parameter_shapes, read_checkpoint

checkpoint, B, T, threads = sys.argv[1], *map(int, sys.argv[2:5])
lr, decay = map(float, sys.argv[5:7])
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[name] = str(threads)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402

torch.set_num_threads(threads)
config, params_memory = read_checkpoint(checkpoint)
L, NH, C = config.num_layers, config.num_heads, config.channels
p = {
    name: torch.nn.Parameter(torch.from_numpy(np.array(values)))
    for name, values in carve(params_memory, parameter_shapes(config)).items()
}
p["wte"] = torch.nn.Parameter(p["wte"].detach()[: config.vocab_size].clone())  # as PyTorch's GPT-2 has it: no padding
whole = ("wte", "wpe", "lnfw", "lnfb")  # the others hold a tensor for each layer
layers = [
    {name: torch.nn.Parameter(values.detach()[l].clone()) for name, values in p.items() if name not in whole}
    for l in range(L)
]
leaves = [*(p[name] for name in whole), *(values for layer in layers for values in layer.values())]
optimizer = torch.optim.AdamW(leaves, lr=lr, weight_decay=decay, fused=True)


def loss_of(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mean loss of GPT-2."""
    x = p["wte"][inputs] + p["wpe"][:T]
    for layer in layers:
        y = F.linear(F.layer_norm(x, (C,), layer["ln1w"], layer["ln1b"]), layer["qkvw"], layer["qkvb"])
        q, k, v = (part.view(B, T, NH, C // NH).transpose(1, 2) for part in y.split(C, dim=2))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(B, T, C)
        x = x + F.linear(y, layer["attprojw"], layer["attprojb"])
        y = F.linear(F.layer_norm(x, (C,), layer["ln2w"], layer["ln2b"]), layer["fcw"], layer["fcb"])
        x = x + F.linear(F.gelu(y, approximate="tanh"), layer["fcprojw"], layer["fcprojb"])
    logits = F.linear(F.layer_norm(x, (C,), p["lnfw"], p["lnfb"]), p["wte"])
    return F.cross_entropy(logits.view(B * T, -1), targets.view(-1))


random = np.random.default_rng(0)
print("ready", torch.__version__, torch.get_num_threads(), flush=True)
for _ in sys.stdin:
    tokens = random.integers(0, config.vocab_size, size=(B, T + 1))
    inputs, targets = torch.from_numpy(tokens[:, :-1].copy()), torch.from_numpy(tokens[:, 1:].copy())
    begin = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    loss = loss_of(inputs, targets)
    loss.backward()
    optimizer.step()
    print(time.perf_counter() - begin, loss.item(), flush=True)
