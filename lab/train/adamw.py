"""AdamW (gpt2_update of llm.c): every weight moves against its gradient, by about the learning rate."""

import numpy as np

from lab.train.split import WorkersLike, blocks, split

EPS = 1e-8  # so that nothing is divided by 0


class AdamW:
    """The optimizer's memory: running means of each gradient (m) and of its square (v), and the steps taken."""

    def __init__(self, count: int) -> None:
        self.step = 0
        self.m_memory, self.v_memory = np.zeros((2, count), dtype=np.float32)


def gpt2_update(
    params_memory: np.ndarray,
    grads_memory: np.ndarray,
    optimizer: AdamW,
    learning_rate: float,
    beta1: float = 0.9,
    beta2: float = 0.999,
    weight_decay: float = 0.0,
    workers: WorkersLike | None = None,
    scale: float = 1.0,
) -> None:
    """One step for all parameters, in place: 1-D float32 arrays of one length; `scale` is a factor for the gradients.

        m = beta1 m + (1 - beta1) g          v = beta2 v + (1 - beta2) g g
        p -= lr (m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + EPS) + weight_decay p)

    The decay is decoupled from the gradient, and as in llm.c all tensors decay.
    """
    optimizer.step += 1
    m_memory, v_memory = optimizer.m_memory, optimizer.v_memory
    m_correction, root = 1.0 - beta1**optimizer.step, (1.0 - beta2**optimizer.step) ** 0.5

    def part(piece):
        for block in blocks(piece, 1):
            # sqrt(v / c) + EPS = (sqrt(v) + EPS sqrt(c)) / sqrt(c): the corrections become one factor of the step
            p, g, m, v = params_memory[block], grads_memory[block], m_memory[block], v_memory[block]
            work = g * ((1.0 - beta1) * scale)
            m *= beta1
            m += work
            np.multiply(g, g, out=work)
            work *= (1.0 - beta2) * scale * scale
            v *= beta2
            v += work
            np.sqrt(v, out=work)
            work += EPS * root
            np.divide(m, work, out=work)
            work *= learning_rate * root / m_correction
            if weight_decay:
                p *= 1.0 - learning_rate * weight_decay
            p -= work

    split(workers, part, params_memory.size)
