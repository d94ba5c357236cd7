"""Who does the work: watched arrays see through copies and every kind of product, and forged reports say nothing."""

import random
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from grader_boxes import watched_cases

from grader import grade, inside, shares
from grader.child import Patience
from grader.examples import BASE, LOOPS_SPLIT, program
from grader.inside import Inside, look_inside, well_formed
from grader.sandbox import Limits
from grader.workspace import temporary_folder
from lab.files import ROOT
from lab.serial import gpt2_build_from_checkpoint

PRODUCTS = {  # the body of a worker's product: rows (slice) of weight times inp.T, into out[:, rows]
    "matmul": "out[:, rows] = (weight[rows] @ inp.T).T",
    "dot method": "out[:, rows] = weight[rows].dot(inp.T).T",
    "dot with out": "for t in range(len(inp)): np.dot(weight[rows], inp[t], out=out[t, rows])",
    "einsum": "out[:, rows] = np.einsum('oc,tc->to', weight[rows], inp)",
    "vecdot": "out[:, rows] = np.vecdot(weight[rows], inp[:, None])",
    "matvec": "for t in range(len(inp)): out[t, rows] = np.matvec(weight[rows], inp[t])",
    "vecmat": "out[:, rows] = np.vecmat(inp, weight[rows].T)",
    "sum of products": "for t in range(len(inp)): out[t, rows] = (weight[rows] * inp[t]).sum(axis=1)",
    "transposed copy": "out[:, rows] = inp @ kept(weight, lambda: np.ascontiguousarray(weight.T))[:, rows]",
    "plain copy": "out[:, rows] = inp @ kept(weight, lambda: np.array(weight))[rows].T",
    "other type": "out[:, rows] = inp @ kept(weight, lambda: weight.astype(np.float64))[rows].T",
    "put together": "out[:, rows] = inp @ kept(weight, lambda: np.concatenate([weight[:9], weight[9:]]))[rows].T",
    "in blocks": "out[:, rows] = inp @ kept(weight, lambda: np.stack([weight, weight]))[1, rows].T",
    "list of arrays": "out[:, rows] = inp @ kept(weight, lambda: np.array([weight.T, weight.T]))[1][:, rows]",
    "nested lists": "out[:, rows] = inp @ kept(weight, lambda: np.block([[weight[:9]], [weight[9:]]]))[rows].T",
    "padded": "out[:, rows] = inp @ kept(weight, lambda: np.pad(weight, ((0, 3), (0, 0))))[rows].T",
    "without NaN": "out[:, rows] = inp @ kept(weight, lambda: np.where(np.isnan(weight), 0, weight))[rows].T",
    "filled": "out[:, rows] = inp @ kept(weight, lambda: filled(weight))[:, rows]",
    "filled in parts": "out[:, rows] = inp @ kept(weight, lambda: filled_in_parts(weight))[:, rows]",
    "plain view": "out[:, rows] = inp @ weight.view(np.ndarray)[rows].T",
    "memory": "out[:, rows] = inp @ np.asarray(memoryview(weight))[rows].T",
    "buffer": "out[:, rows] = inp @ np.frombuffer(weight, np.float32).reshape(weight.shape)[rows].T",
    "outer": "out[:, rows] = sum(np.outer(inp[:, c], weight[rows, c]) for c in range(inp.shape[1]))",
    "scaled": "out[:, rows] = 0.5 * (inp @ kept(weight, lambda: weight * np.float32(2))[rows].T)",
}
SOURCE = """

copies = {{}}


def kept(weight, make):
    key = (weight.ctypes.data, weight.shape)
    if key not in copies:
        copies[key] = make()
    return copies[key]


def filled(weight):
    copy = np.zeros(weight.shape[::-1], np.float32)
    np.copyto(copy, weight.T)
    return copy


def filled_in_parts(weight):
    copy = np.empty(weight.shape[::-1], np.float32)
    for row in range(len(weight)):
        copy[:, row] = weight[row]
    return copy


def matmul(workers, out, inp, weight, bias):
    if {copy}:
        for make in [0]:
            {body_on_main}

    def block(rows):
        {body}
        if bias is not None:
            out[:, rows] += bias[rows]

    workers.run(block, split(weight.shape[0], workers.k))
"""


def seen(box, source: str, k: int = 2, **more: object) -> Inside:
    """What a look inside shows."""
    with temporary_folder() as name:
        folder = Path(name)
        tree = grade.build_tree(folder / "lab", grade.GIVEN, source)
        watched = watched_cases()[1]  # the small model
        case, model = watched.cases[0], box.readable(watched.model, folder)
        how = {"limits": Limits(), "patience": Patience(), **more}
        return look_inside(box, tree, model, case.prompt, case.tokens[0], k, **how)


@pytest.mark.parametrize("name", PRODUCTS)
def test_every_way_to_multiply_is_seen(box, name):
    body = PRODUCTS[name]
    copy = "kept(" in body
    source = SOURCE.format(copy=copy, body=body, body_on_main=body.replace("rows", "slice(0, 1)") if copy else "pass")
    found = seen(box, BASE.read_text() + source)
    assert found.problem == "" and found.shared_products and found.shared_attention, found
    assert found.main < 0.25


def test_three_workers_of_whom_one_does_nothing(box):
    source = BASE.read_text() + "\n\nright = split\n\n\ndef split(count, k):\n    return right(count, k - 1)\n"
    found = seen(box, source, k=3, pauses=(0.001,))  # who gets which task is no question of luck
    assert not found.shared_products and not found.shared_attention and found.worked > 0.8
    assert sorted(found.used) == [False, True, True]


MAIN_TOO = """

class Workers(Workers):
    def __init__(self, k):
        super().__init__(k - 1)
        self.k = k

    def work(self, number):
        while True:
            self.start[number - 1].P()
            if self.end:
                return
            for task in self.tasks[number :: len(self.start) + 1]:
                self.fn(task)
            self.done.V()

    def run(self, fn, tasks):
        self.fn, self.tasks = fn, list(tasks)
        for semaphore in self.start:
            semaphore.V()
        for task in self.tasks[:: self.k]:
            fn(task)
        for _ in self.start:
            self.done.P()
"""
IDLE = """

right = Workers.run


def run(self, fn, tasks):
    tasks = list(tasks)
    for task in tasks:
        fn(task)
    right(self, lambda task: None, tasks)


Workers.run = run
"""


def test_the_main_thread_may_be_one_of_the_k(box):
    found = seen(box, BASE.read_text() + MAIN_TOO)
    assert found.problem == "" and found.shared_products and found.shared_attention and found.worked > 0.9, found


def test_workers_that_each_do_all_the_work_share_nothing(box):
    found = seen(box, BASE.read_text().replace("self.tasks[number - 1 :: self.k]", "self.tasks"))
    assert found.problem == "" and not found.shared_products and 1.9 < found.times < 2.1, found
    assert "each repeats others" in found.words()
    found = seen(box, BASE.read_text())
    assert 0.9 < found.times < 1.1 and found.shared_products


def test_workers_that_nobody_joins_are_the_same_ones_in_every_run(box):
    """The next run's have other numbers in the same process."""
    source = BASE.read_text().replace("join(*self.threads)", "pass")
    found = seen(box, source.replace("[number - 1", "[(number - 1) % self.k"))
    assert found.problem == "" and found.shared_products and found.used == [True, True], found.words()


def test_a_main_thread_that_does_it_all_is_none_of_them(box):
    found = seen(box, BASE.read_text() + MAIN_TOO + IDLE)
    assert found.problem == "" and not found.shared_products and found.worked < 0.5, found


@pytest.mark.parametrize(
    "change, said",
    [
        (("yield int(tokens[0, t])", "yield 1"), "another token"),
        (("team = Workers(workers)", "team = Workers(workers, 1)"), "it fails: TypeError"),
        (("import numpy as np", "import numpy as np\nassert type(np.empty(1)) is np.ndarray"), "does not start"),
        (("team = Workers(workers)", "team = Workers(workers)\n    while True: pass"), "takes too long"),
    ],
)
def test_why_nothing_could_be_seen(box, change, said):
    source = BASE.read_text()
    assert change[0] in source
    patience = Patience(token=0.5 if said == "takes too long" else 20.0)
    found = seen(box, source.replace(*change, 1), patience=patience, pauses=(0.0,))
    assert said in found.problem and found.words() == found.problem and not found.used


def test_attention_that_now_this_worker_does_and_now_that_one_is_not_shared():
    shares = Inside(2, [0.5, 0.5], attention=[0.5, 0.5], visits=[0.5, 0.5])
    assert shares.shared_products and not shares.shared_attention and "by one worker alone" in shares.words()
    assert Inside(2, [0.5, 0.5], attention=[0.5, 0.5], visits=[1.0, 0.75]).shared_attention


@pytest.mark.parametrize("name", ["stage3", "stage4"])
def test_what_the_answers_of_stages_share(box, name):
    found = seen(box, (ROOT / "solutions" / f"{name}.py").read_text())
    assert found.problem == "" and found.shared_attention == (name == "stage4"), found


def test_a_product_for_each_position_reads_its_weights_for_each(box):
    found = seen(box, program(LOOPS_SPLIT), pauses=(0.0,))
    assert not found.blocked and max(found.passes) > 0.9 * found.positions, found
    found = seen(box, (ROOT / "solutions" / "stage3.py").read_text(), pauses=(0.0,))
    assert found.blocked and max(found.passes) < 1.5, found


OVER_POSITIONS = """

def matmul(workers, out, inp, weight, bias):
    def some(positions):
        PRODUCT
        if bias is not None:
            out[positions] += bias

    workers.run(some, split(len(inp), workers.k))
"""


@pytest.mark.parametrize(
    "product, blocked",
    [("out[positions] = inp[positions] @ weight.T", True),
     ("for t in range(positions.start, positions.stop): out[t] = weight @ inp[t]", False)],
)  # fmt: skip
def test_positions_may_be_what_is_shared_but_not_one_by_one(box, product, blocked):
    found = seen(box, BASE.read_text() + OVER_POSITIONS.replace("PRODUCT", product), pauses=(0.0,))
    assert found.problem == "" and found.shared_products and found.blocked == blocked, found


KEEPING = """

kept, right = {}, forward


def forward(workers, model, tokens, T):
    key = tokens.tobytes()
    if key not in kept:
        kept[key] = right(workers, model, tokens, T).copy()
    return kept[key]
"""


def test_what_is_kept_of_a_prompt_does_not_hide_who_does_the_work(box):
    found = seen(box, BASE.read_text() + KEEPING)
    assert found.problem == "" and found.shared_products and found.shared_attention, found


IN_TURNS = """

class Workers(Workers):
    turn = 0

    def run(self, fn, tasks):
        tasks = list(tasks)
        self.turn = (self.turn + EVERY) % self.k
        super().run(lambda task: [fn(task) for task in tasks], [None] * self.turn + [0])


class Workers(Workers):
    def work(self, number):
        while True:
            self.start[number - 1].P()
            if self.end:
                return
            if number == len(self.tasks):
                self.fn(0)
            self.done.V()
"""


@pytest.mark.parametrize("every", ["1", "(fn.__name__ == 'attention_heads')"])
def test_whole_products_that_now_this_worker_does_and_now_that_one_are_not_shared(box, every):
    """One after the other, or those of one layer and then those of the next: nothing is done at the same time."""
    found = seen(box, BASE.read_text() + IN_TURNS.replace("EVERY", every), pauses=(0.0,))
    assert found.problem == "" and found.fair(found.weights) and not found.shared_products, found
    assert "most products are done by one worker alone" in found.words()


def by_sums(product: str, who: str) -> str:
    """base.py with attention by elementwise products that are added up; `who` does it."""
    text = BASE.read_text()
    for before, after in {
        "preatt[h] = query @ key.T / ": "for t in range(T):\n                preatt[h, t] = (PRODUCT).sum(axis=1) / ",
        "att[h] @ value": "(att[h][:, :, None] * value[None]).sum(axis=1)",
        "workers.run(attention_heads, split(NH, workers.k))": who,
    }.items():
        assert text.count(before) == 1
        text = text.replace(before, after.replace("PRODUCT", product))
    return text


@pytest.mark.parametrize("who", [0, 1])
def test_attention_that_nobody_uses_is_not_shared(box, who):
    """All workers have products without weights in every layer; the main thread, or one of them, does attention."""
    doing = "attention_heads(slice(0, NH))", "workers.run(lambda i: i and attention_heads(slice(0, NH)), [0, 1])"
    both = "workers.run(lambda i: [inp @ inp.T for _ in range(9)], range(workers.k))\n    " + doing[who]
    found = seen(box, by_sums("query[t] * key", both))
    assert found.problem == "" and found.shared_products and not found.shared_attention, found
    assert "computes of it is not used" in found.words()


PLAIN = """

def attention(workers, out, preatt, att, inp, NH):
    T, C = out.shape
    hs = C // NH
    qkv = np.frombuffer(bytearray(inp.tobytes()), np.float32).reshape(inp.shape)

    def attention_heads(heads):
        for h in range(heads.start, heads.stop):
            query, key, value = (qkv[:, i * C + h * hs : i * C + (h + 1) * hs] for i in range(3))
            scores = np.where(np.tri(T, dtype=bool), query @ key.T / np.float32(np.sqrt(hs)), np.float32(-np.inf))
            weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
            out[:, h * hs : (h + 1) * hs] = weights / weights.sum(axis=-1, keepdims=True) @ value

    workers.run(attention_heads, split(NH, workers.k))
"""


def test_a_layernorm_on_the_main_thread_is_no_attention(box):
    """It multiplies vectors with themselves; of arrays of a submission's own making attention cannot be seen."""
    found = seen(box, BASE.read_text() + PLAIN, pauses=(0.0,))
    assert found.problem == "" and found.shared_products and found.shared_attention, found


@pytest.mark.parametrize("product", ["query[t] * key", "key * query[t : t + 1]"])
@pytest.mark.parametrize("who", ["workers.run(attention_heads, split(NH, workers.k))", "attention_heads(slice(0, NH))"])
def test_attention_by_elementwise_products_is_seen(box, who, product):
    found = seen(box, by_sums(product, who))
    assert found.problem == "" and found.shared_attention == who.startswith("workers"), found


GOOD = {
    "weights": {"MainThread": 0.1, "worker-1": 0.9}, "attention": {}, "visits": {"worker-1": 1.0},
    "passes": {"worker-1": 1.0}, "work": {"worker-1": 5.0}, "matrices": {"worker-1": 1.0}, "poisoned": False,
}  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"weights": None},
        {"weights": {"worker-1": "all"}},
        {"weights": {"worker-1": -1}},
        {"weights": {"somebody": 0.5}},
        {"work": {"worker-1": float("nan")}},
        {"attention": {f"worker-{i}": 0.0 for i in range(1000)}},
        {"work": []},
        {"visits": None},
        {"passes": {"worker-1": -1}},
        {"matrices": {"worker-1": "all"}},
    ],
)
def test_a_forged_report_says_nothing(change):
    assert well_formed(GOOD) == GOOD
    assert well_formed({**GOOD, **change}) == {}
    assert well_formed([]) == {}


def test_however_late_it_is_a_worker_whose_products_matter_is_heard(box, monkeypatch):
    monkeypatch.setattr(inside, "SECONDS", 0.0)
    found = seen(box, BASE.read_text())
    assert found.problem == "" and found.used == [True, True]
    source = BASE.read_text() + "\n\nright = split\n\n\ndef split(count, k):\n    return right(count, k - 1)\n"
    assert sorted(seen(box, source, k=3).used) == [False, True, True]


def test_a_look_inside_ends_in_time(monkeypatch):
    asked = []
    watch = inside.Watch(lambda: None, [1], 2, 1, until=0.0, limits=Limits())
    monkeypatch.setattr(watch, "run", lambda **notes: (asked.append(notes), (None, {}))[1])
    watch.work = {"worker-1": 1.0}
    assert not watch.matters("worker-1", 0.0, random.Random(1), inside.SAMPLES)
    assert len(asked) == inside.LEAST


@pytest.mark.parametrize("left, processes", [(2, 1), (3, 2)])
def test_only_threads_that_a_run_leaves_cost_its_process(left, processes):
    """Not those that were there before it: of a submission that starts them when it is imported."""
    run, started = SimpleNamespace(status=None, tokens=[2], left_threads=left, values={}), []
    child = SimpleNamespace(threads_at_ready=2, ask=lambda *_, **__: run, close=lambda: None)
    watch = inside.Watch(lambda: started.append(child) or child, [1], 2, 1, until=0.0, limits=Limits())
    watch.run(), watch.run()
    assert len(started) == processes


def test_shares_are_fair_from_half_of_an_even_one():
    assert inside.Inside(2, [0.75, 0.25]).fair([0.75, 0.25])
    assert not inside.Inside(2, [0.8, 0.2]).fair([0.8, 0.2])
    assert not inside.Inside(4, [0.5, 0.5]).fair([0.5, 0.5])


def test_a_copy_kept_from_an_earlier_run_is_weights_still(tiny, monkeypatch):
    monkeypatch.setattr(sys, "setswitchinterval", lambda seconds: None)
    model = gpt2_build_from_checkpoint(tiny)
    shares.begin(model)
    copy = model.params.qkvw[0].T.copy()
    shares.begin(model)
    np.ones((2, model.config.channels), np.float32) @ copy
    assert shares.NOTES.shares()["weights"] == {"MainThread": 1.0}


def test_a_few_rows_of_weights_put_together_are_weights_still(tiny, monkeypatch):
    monkeypatch.setattr(sys, "setswitchinterval", lambda seconds: None)
    model = gpt2_build_from_checkpoint(tiny)
    shares.begin(model)
    rows = model.params.qkvw[0][:4]
    for few in (np.concatenate([rows[:1], rows[2:]]), np.stack([*rows]), np.column_stack([*rows])):
        assert shares.is_weight(few) and few.size < shares.NOTES.large
    assert not shares.is_weight(rows + rows), "a token's vector plus its position's is none"
    filled, joined, biases = np.empty_like(rows), np.empty_like(rows), np.empty_like(rows[:, :9])
    for row in range(4):
        filled[row] = rows[row]
        biases[row] = model.params.qkvb[0, :9]
    np.concatenate([rows[:1], rows[1:]], out=joined)
    assert shares.is_weight(filled) and shares.is_weight(joined) and not shares.is_weight(biases)


def test_memory_that_something_else_was_written_into_is_no_copy_of_weights(tiny, monkeypatch):
    monkeypatch.setattr(sys, "setswitchinterval", lambda seconds: None)
    model = gpt2_build_from_checkpoint(tiny)
    shares.begin(model)
    weight = model.params.qkvw[0]
    scratch = np.empty_like(weight)
    assert scratch.root is None
    np.add(weight, np.zeros_like(weight), out=scratch)
    scratch[...] = weight
    assert scratch.root is None
    scratch = np.zeros_like(weight)
    scratch[...] = weight
    assert scratch.root is not None
    plain = np.zeros_like(weight, subok=False)
    np.copyto(plain, weight)
    np.copyto(dst=plain, src=weight)
    assert type(plain) is np.ndarray
