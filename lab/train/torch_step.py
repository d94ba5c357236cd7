"""The same training step in PyTorch, for bench.py: run by a Python that has PyTorch, which need not be the lab's.

    python lab/train/torch_step.py CHECKPOINT B T THREADS LEARNING_RATE WEIGHT_DECAY

Reads one line from standard input for each step wanted, and answers with its seconds and its loss. Written as one would
in PyTorch: its fused attention, its fused AdamW, its own threads.
"""
# pyright: reportMissingImports=false

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from lab.torch_gpt2 import GPT2, flash

checkpoint, B, T, threads = sys.argv[1], *map(int, sys.argv[2:5])
lr, decay = map(float, sys.argv[5:7])
torch.set_num_threads(threads)
model = GPT2(checkpoint)
model.attention = flash
optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=decay, fused=True)
random = np.random.default_rng(0)
print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads()}), flush=True)
for _ in sys.stdin:
    tokens = random.integers(0, model.config.vocab_size, size=(B, T + 1))
    inputs, targets = torch.from_numpy(tokens[:, :-1].copy()), torch.from_numpy(tokens[:, 1:].copy())
    begin = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    loss = model.loss(inputs, targets)
    loss.backward()
    optimizer.step()
    print(json.dumps({"seconds": time.perf_counter() - begin, "loss": loss.item()}), flush=True)
