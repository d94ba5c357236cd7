"""Wrong submissions: right/submission.py with one mistake each, those that students of this lab hand in.

Each is (name, tool, kind, what the message says, {old: new}). In `new`, a line that ends in "# BUG" is the one that
must be named.
"""

from pathlib import Path
from typing import NamedTuple

SUBMISSION = Path(__file__).parent / "right" / "submission.py"


class Variant(NamedTuple):
    """One wrong submission."""

    name: str
    tool: str  # explore or races
    kind: str
    says: str
    edits: dict[str, str]

    def source(self) -> str:
        """The program's text."""
        text = SUBMISSION.read_text()
        for old, new in self.edits.items():
            if text.count(old) != 1:
                raise ValueError(f"{self.name}: {old!r} stands {text.count(old)} times in {SUBMISSION.name}")
            text = text.replace(old, new)
        return text


MATMUL = """        rows = part(OC, workers.k, index)
        for b in range(B):
            for t in range(T):
                result = out[b, t, rows]
                np.dot(weight[rows], inp[b, t], out=result)
"""
RUN = """        for semaphore in self.start:
            semaphore.V()
        for _ in range(self.k):
            self.done.P()

    def close"""

VARIANTS = [
    Variant(
        "split_over_the_batch",
        "races",
        "contract",
        "worker 1 does all the work",
        {
            MATMUL: """        for b in range(index, B, workers.k):
            for t in range(T):
                result = out[b, t]
                np.dot(weight, inp[b, t], out=result)  # BUG
""",
            "result += bias[rows]": "result += bias",
            "for h in range(NH)[part(NH, workers.k, index)]:": "for h in range(NH) if index == 0 else ():",
        },
    ),
    Variant(
        "thread_for_four_rows",
        "explore",
        "contract",
        "threads instead of 3",
        {
            "    workers.run(block)\n": """    for first in range(0, OC, 4):
        spawn(lambda number, first=first: block(first))  # BUG
    join()
""",
            "rows = part(OC, workers.k, index)": "rows = slice(index, index + 4)",
            "    workers.run(heads)\n": "    for index in range(workers.k):\n        heads(index)\n",
            "        for _ in range(k):\n            spawn(self.work)\n": "",
        },
    ),
    Variant(
        "threads_for_every_operation",
        "explore",
        "contract",
        "threads instead of 3",
        {
            "        self.fn = fn\n": """        self.fn = fn
        for _ in range(self.k):
            spawn(self.once)  # BUG
""",
            "        for _ in range(k):\n            spawn(self.work)\n": "",
            RUN: """        join()

    def once(self, number):
        self.fn(number - 1)

    def close""",
        },
    ),
    Variant(
        "waits_for_the_wrong_semaphore",
        "races",
        "race",
        "acts.",
        {
            "            self.done.V()\n": "            self.done[index].V()\n",
            "self.done = Semaphore(0)": "self.done = [Semaphore(self.k) for _ in range(k)]",
            "            self.done.P()\n": "            self.done[0].P()\n",
            "result += bias[rows]": "result += bias[rows]  # BUG",
        },
    ),
    Variant(
        "waits_for_one_worker_only",
        "races",
        "race",
        "acts.",
        {
            "            self.done.P()\n": "            self.done[0].P()\n            return\n",
            "            self.done.V()\n": "            self.done[index].V()\n",
            "self.done = Semaphore(0)": "self.done = [Semaphore(0) for _ in range(k)]",
            "np.dot(weight[rows], inp[b, t], out=result)": "np.dot(weight[rows], inp[b, t], out=result)  # BUG",
            "result += bias[rows]": "result += bias[rows]  # BUG",
        },
    ),
    Variant(
        "reads_before_the_workers_are_done",
        "explore",
        "tokens",
        "but nobody has written it in this pass",
        {
            "        for _ in range(self.k):\n            self.done.P()\n": "",
            "residual, a.attproj[l], B * T * C)": "residual, a.attproj[l], B * T * C)  # BUG",
        },
    ),
    Variant(
        "numbers_from_one_as_from_zero",
        "explore",
        "tokens",
        "counts from 1",
        {
            "rows = part(OC, workers.k, index)": """size = OC // workers.k
        rows = slice((index + 1) * size, (index + 2) * size)""",
            "result += bias[rows]": "result += bias[rows]  # BUG",
        },
    ),
    Variant(
        "adds_to_what_nobody_cleared",
        "explore",
        "tokens",
        "adds to what was left there",
        {
            "np.dot(weight[rows], inp[b, t], out=result)": "result += np.dot(weight[rows], inp[b, t])  # BUG",
        },
    ),
    Variant(
        "overlapping_blocks",
        "races",
        "race",
        "written by worker",
        {
            "rows = part(OC, workers.k, index)": """rows = part(OC, workers.k, index)
        rows = slice(rows.start, rows.stop + 1)""",
            "np.dot(weight[rows], inp[b, t], out=result)": "np.dot(weight[rows], inp[b, t], out=result)  # BUG",
            "                if bias is not None:\n                    result += bias[rows]\n": "",
            "    workers.run(block)\n": "    workers.run(block)\n    if bias is not None:\n        out += bias\n",
        },
    ),
    Variant(
        "last_row_missing",
        "explore",
        "tokens",
        "the last part is missing",
        {
            "rows = part(OC, workers.k, index)": """rows = part(OC, workers.k, index)
        rows = slice(rows.start, min(rows.stop, OC - 1))""",
            "result += bias[rows]": "result += bias[rows]  # BUG",
        },
    ),
    Variant(
        "remainder_forgotten",
        "explore",
        "tokens",
        "the last part is missing",
        {
            "rows = part(OC, workers.k, index)": "rows = slice(index * (OC // 5), (index + 1) * (OC // 5))",
            "result += bias[rows]": "result += bias[rows]  # BUG",
        },
    ),
    Variant(
        "not_stopped_when_closed_early",
        "explore",
        "unjoined",
        "without joining worker-1",
        {
            "    try:\n        for t in range(len": "    if True:\n        for t in range(len",
            "    finally:\n        workers.close()": "    workers.close()",
            "            spawn(self.work)\n": "            spawn(self.work)  # BUG\n",
        },
    ),
    Variant(
        "started_at_import",
        "explore",
        "contract",
        "importing the program starts",
        {
            "def part(size, k, index):": "team = Workers(3)\n\n\ndef part(size, k, index):",
            "    workers = Workers(k)\n": "    workers = team\n",
            "            spawn(self.work)\n": "            spawn(self.work)  # BUG\n",
        },
    ),
    Variant(
        "wrong_mask_between_heads",
        "explore",
        "tokens",
        "acts.preatt",
        {
            "preatt[0, h, t, : t + 1] = scores\n": """preatt[0, h, t, : t + 1] = scores * 2  # BUG
                scores = preatt[0, h, t, : t + 1]
""",
        },
    ),
    Variant(
        "scratch_shared_by_all_workers",
        "races",
        "race",
        "scratch",
        {
            "    hs = C // NH\n": "    hs = C // NH\n    scratch = np.empty(T, dtype=np.float32)\n",
            "                scores = np.dot(keys, query) * scale\n": """                scores = scratch[: t + 1]
                np.dot(keys, query, out=scores)  # BUG
                scores *= scale
""",
        },
    ),
]
