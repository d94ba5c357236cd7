"""From what was observed to a sentence that helps: what is wrong, where in the student's file, and what to look at."""

import base64
import builtins
import re
import signal
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np

from grader.child import Run
from grader.correctness import Outcome
from grader.places import FILE, place, returns_of
from grader.sandbox import MB, Limits
from lab.check.report import counted
from lab.margin import other_sums
from lab.serial import GPT2, gpt2_build_from_checkpoint, gpt2_forward

KNOWN_ERRORS = {name for name, value in vars(builtins).items() if isinstance(value, type)} | {"WorkerFailed"}
near = partial(np.isclose, rtol=2e-3, atol=2e-4)  # rounding in another order stays far below, a mistake does not
IN_LAYER = (
    "ln1",
    "qkv",
    "preatt",
    "att",
    "atty",
    "attproj",
    "residual2",
    "ln2",
    "fch",
    "fch_gelu",
    "fcproj",
    "residual3",
)
SPINE = ("encoded", "residual2", "residual3", "lnf", "logits", "probs")  # what every later tensor is computed from
MEANING = {
    "encoded": "token plus position", "ln1": "the layer's first layernorm", "qkv": "query, key, value: matmul_forward",
    "preatt": "attention's scores", "att": "attention's weights", "atty": "attention's output",
    "attproj": "attention's projection: matmul_forward", "residual2": "the sum after attention",
    "ln2": "the second layernorm",
    "fch": "the wide matmul_forward", "fch_gelu": "gelu", "fcproj": "the matmul_forward after gelu",
    "residual3": "the sum after gelu",
    "lnf": "the last layernorm", "logits": "the product with wte", "probs": "the softmax",
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- one run


def outcome_line(outcome: Outcome, limits: Limits, source: str, private: bool = False) -> str:
    """What went wrong with a case; `private` leaves out everything that could show the case itself."""
    case, run = outcome.case, outcome.run
    if run is None:
        return f"not run: {outcome.why}"
    where = f"{counted(case.workers, 'worker')}" + (
        "" if private else f", prompt {' '.join(map(str, case.prompt))}, n {case.n}"
    )
    return f"{where}: {run_line(run, list(case.tokens), limits, source, private)}"


def run_line(
    run: Run, expected: list[int], limits: Limits, source: str, private: bool = False, count: int | None = None
) -> str:
    """What went wrong in a run of `count` tokens, of which the first ones are `expected` (default: those are all)."""
    count = count or len(expected)
    so_far = f"after {len(run.tokens)} of {counted(count, 'token')}"
    if run.outcome == "error":
        return error_line(run.error, limits, source, private)
    if run.outcome == "contract":
        return contract_line(str(run.values.get("contract")), source, private)
    if run.outcome in ("hang", "spin"):
        doing = "hangs: every thread waits" if run.outcome == "hang" else "goes round and round without a token"
        return f"{doing} ({so_far}); {stacks_line(run.stacks, source)}"
    if run.outcome == "slow":
        return f"far slower than the serial program, stopped {so_far}; {stacks_line(run.stacks, source)}"
    if run.outcome == "flood":
        return f"stopped: it prints without end (more than {limits.output // MB} MB)"
    if run.outcome == "litter":
        return f"stopped: it writes files without end (more than {limits.tmp_size // MB} MB)"
    if run.outcome == "protocol":
        return "stopped: something other than tokens came through the pipe for tokens"
    if run.outcome == "ended":
        return f"the program ended {so_far}: {status_line(run.status, limits, private)}"
    if run.outcome == "processes":
        return "stopped: it starts other processes; workers are threads of one process, from lab.threadlib"
    if run.outcome == "unstoppable":
        return f"it cannot be stopped between two tokens ({so_far}), so it cannot be timed"
    if len(run.tokens) > count and run.tokens[: len(expected)] == expected:
        return f"yields more tokens than asked for: {len(run.tokens)} or more instead of {count}"
    if len(run.tokens) < len(expected) and run.tokens == expected[: len(run.tokens)]:
        return f"yields only {len(run.tokens)} of {counted(count, 'token')}"
    at = next(i for i, (a, b) in enumerate(zip(run.tokens, expected, strict=False)) if a != b)
    if private:
        return f"generated token {at + 1} of {count} differs from the serial program's"
    return f"generated token {at + 1} of {count} is {run.tokens[at]}, the serial program's is {expected[at]}"


def error_line(chain: list[dict], limits: Limits, source: str = "", private: bool = False) -> str:
    """An exception: its type, its message, the student's lines; the cause comes before what it caused.

    `private`: nothing of it in which a submission could tell of the case: no message, no type of its own. Code and
    function names are those of the source we have, not those reported.
    """
    try:
        return _error_line(chain, limits, source, private)
    except (KeyError, TypeError, ValueError, IndexError):  # a forged report
        return "it failed, with a report that cannot be read"


def _error_line(chain: list[dict], limits: Limits, source: str, private: bool) -> str:
    root = chain[-1]
    kind = str(root["type"])
    text = (kind if kind in KNOWN_ERRORS else "an exception") if private else f"{kind}: {root['message']}"
    own = [line for file, line, *_ in root["frames"] if file == FILE]
    places = "; ".join(place(source, line) for line in own[-2:][::-1])
    in_worker = "a worker failed with " if chain[0]["type"] == "WorkerFailed" and len(chain) > 1 else ""
    hint = ""
    if kind == "MemoryError" or "_ArrayMemoryError" in kind:
        hint = f" (the limit is {limits.memory // MB} MB of memory)"
    elif "can't start new thread" in str(root["message"]):
        hint = (
            f" (the limit is {limits.processes} threads and processes: a thread for every row, or for every operation?)"
        )
    elif "not allowed here" in str(root["message"]):
        hint = " (the task needs numpy, lab.threadlib and small parts of the standard library only)"
    return f"{in_worker}{text[:200]}{hint}" + (f" at {places}" if places else "")


def contract_line(kind: str, source: str, private: bool) -> str:
    """generate() returned something, where it has to yield."""
    what = f"a {kind}" if not private or kind in ("list", "tuple", "NoneType") else "something else than an iterator"
    what = "nothing (None)" if kind == "NoneType" else what
    text = f"generate() returns {what}; it has to yield its tokens, each as soon as it is there: `yield token`"
    lines = returns_of(source, "generate")
    return f"{text} at {place(source, lines[-1])}" if lines else text


def status_line(status: int | None, limits: Limits, private: bool = False) -> str:
    """What an exit status means; bubblewrap passes a signal on as 128 + its number. `private`: without the number."""
    if status is None:
        return "for no reason that could be seen"
    number = -status if status < 0 else status - 128 if status > 128 else 0
    if number == signal.SIGXCPU:
        return f"killed by the limit of {limits.cpu_seconds} s of CPU time"
    if number == signal.SIGXFSZ:
        return f"killed by the limit of {limits.file_size // MB} MB on files"
    if number == signal.SIGKILL:
        return f"killed (signal 9): memory? The limit is {limits.memory // MB} MB"
    if number and not private:
        return (
            f"killed by signal {number} ({signal.Signals(number).name if number in set(signal.Signals) else 'unknown'})"
        )
    shown = "by itself or by a signal" if private else f"exit status {status}"
    return f"{shown}; sys.exit() or os._exit() has no place in generate()"


# -------------------------------------------------------------------------------------------------------------- a hang


def thread_stacks(text: str) -> list[list[tuple[str, int, str]]]:
    """faulthandler's dump: for each thread, innermost first, (file, line, function). The main thread is the last."""
    threads: list[list[tuple[str, int, str]]] = []
    for line in text.splitlines():
        if re.match(r"(Current t|T)hread 0x", line):
            threads.append([])
        found = re.match(r'  File "(.*)", line (\d+) in (.*)', line)
        if found and threads:
            threads[-1].append((Path(found[1]).name, int(found[2]), found[3]))
    return threads


def stacks_line(text: str, source: str) -> str:
    """Where each thread stands in the student's file, threads at the same place together."""
    threads = thread_stacks(text)
    places: dict[str, list[str]] = {}
    for number, frames in enumerate(threads):
        who = "main thread" if number == len(threads) - 1 else "worker"
        own = next((line for file, line, _ in frames if file == FILE), None)
        if own is not None:
            places.setdefault(place(source, own), []).append(who)
    if not places:
        return "where it stands could not be seen"
    return "; ".join(f"{people(who)} at {where}" for where, who in places.items())


def people(who: list[str]) -> str:
    """'main thread', '2 workers'."""
    workers = who.count("worker")
    named = [*(["main thread"] if "main thread" in who else []), *([counted(workers, "worker")] if workers else [])]
    return " and ".join(named)


# -------------------------------------------------------------------------------------------------------- wrong tokens


ELSEWHERE = "the program keeps its activations outside model.acts, so which of them differs first cannot be shown"


def first_difference(model_path: Path, prompt: Iterable[int], found: dict) -> str:
    """The first activation tensor that differs from the serial program's in the pass over `prompt`, and the region that
    wrote it; what cannot be shown where model.acts is not filled; "" for a report that cannot be read.
    """
    model = gpt2_build_from_checkpoint(model_path)
    tokens = np.array([list(prompt)], dtype=np.int32)
    T = tokens.shape[1]
    gpt2_forward(model, tokens, 1, T)
    theirs, written = {}, {}
    try:
        for name, (shape, data, regions) in found["tensors"].items():
            theirs[name] = np.frombuffer(base64.b64decode(data), dtype="<f4").reshape(shape)
            written[name] = np.frombuffer(base64.b64decode(regions), dtype="<u2").reshape(shape)
        names = [str(name)[:80] for name in found["regions"]]
    except (KeyError, ValueError, TypeError, AttributeError):
        return ""
    if not theirs.keys() & set(SPINE):
        return ELSEWHERE
    steps = in_order(model.config.num_layers)
    bad = [step for step in steps if differs(model, theirs, *step)]
    spine = next((step for step in bad if step[0] in SPINE), None)
    if spine is None:
        if "probs" not in theirs:
            last = next(name for name in reversed(SPINE) if name in theirs)
            return f"model.acts is right as far as the program fills it, up to {last}; what follows cannot be shown"
        return (
            "run alone, this pass is right: what goes wrong depends on when threads run, or is left over "
            "from the pass before"
        )
    start = (
        max(
            (i for i, step in enumerate(steps[: steps.index(spine)]) if step[0] in SPINE and step not in bad),
            default=-1,
        )
        + 1
    )
    name, layer = next(step for step in steps[start:] if step in bad)
    ours, other = pick(vars(model.acts)[name], layer), pick(theirs[name], layer)
    return (
        f"the first tensor that differs is {name}{'' if layer is None else f' of layer {layer}'} "
        f"({MEANING[name]}){region(ours, other, name)}{writer(ours, other, pick(written[name], layer), names)}"
    )


def writer(ours: np.ndarray, other: np.ndarray, regions: np.ndarray, names: list[str]) -> str:
    """Which region of the pass wrote the wrong numbers, by the name the program gives it; "" if none or several."""
    numbers = set(regions[~near(ours, other)].tolist())
    if len(numbers) != 1 or (number := numbers.pop()) >= len(names):
        return ""
    return f"; written in region {number} of the pass, {names[number]}" if number else "; written outside all regions"


def in_order(L: int) -> list[tuple[str, int | None]]:
    """All tensors in the order they are computed: (name, layer)."""
    layers = [(name, layer) for layer in range(L) for name in IN_LAYER]
    return [("encoded", None), *layers, ("lnf", None), ("logits", None), ("probs", None)]


def pick(tensor: np.ndarray, layer: int | None) -> np.ndarray:
    """The tensor of one layer, without the batch of 1."""
    return tensor[0] if layer is None else tensor[layer, 0]


def differs(model: GPT2, theirs: dict, name: str, layer: int | None) -> bool:
    """Whether a tensor of theirs is there and differs;
    of logits and probabilities only the last position, the V real tokens, count.
    """
    if name not in theirs or theirs[name].shape != vars(model.acts)[name].shape:
        return False
    ours, other = pick(vars(model.acts)[name], layer), pick(theirs[name], layer)
    if name in ("logits", "probs"):
        V = model.config.vocab_size
        ours, other = ours[-1, :V], other[-1, :V]
    if name == "preatt":
        ours, other = np.tril(ours), np.tril(other)
    return not near(ours, other).all()


def region(ours: np.ndarray, other: np.ndarray, name: str) -> str:
    """Where in a tensor the wrong numbers are: heads, positions, channels."""
    if name in ("logits", "probs"):
        ours, other = ours[-1:], other[-1:]
    if name == "preatt":
        ours, other = np.tril(ours), np.tril(other)
    wrong = ~near(ours, other)
    names = {3: ("heads", "positions", "earlier positions"), 2: ("positions", "channels")}[wrong.ndim]
    if name in ("logits", "probs"):
        names = ("", "tokens of the vocabulary")
    parts = []
    for axis, word in enumerate(names):
        hit = np.flatnonzero(wrong.any(axis=tuple(a for a in range(wrong.ndim) if a != axis)))
        if word and len(hit) < wrong.shape[axis]:
            parts.append(f"{word} {span(hit)} of 0-{wrong.shape[axis] - 1}")
    zero = ", where zeros stand" if not other[wrong].any() else ""
    return f": {', '.join(parts) or 'all of it'}{zero}"


def span(hit: np.ndarray) -> str:
    """'3', '3-7', '3, 9-11'."""
    runs: list[list[int]] = []
    for index in map(int, hit):
        if runs and runs[-1][1] == index - 1:
            runs[-1][1] = index
        else:
            runs.append([index, index])
    text = [f"{a}" if a == b else f"{a}-{b}" for a, b in runs]
    return ", ".join(text if len(text) <= 4 else [*text[:3], "..."])


def distributions(model_path: Path, prompt: Iterable[int], expected: int, got: int, found: dict) -> str:
    """Both running sums around the coin at the step that went wrong."""
    model = gpt2_build_from_checkpoint(model_path)
    tokens = np.array([list(prompt)], dtype=np.int32)
    T, V = tokens.shape[1], model.config.vocab_size
    gpt2_forward(model, tokens, 1, T)
    text = f"serial: the running sum goes from {_around(model.acts.probs[0, T - 1, :V], expected)} at token {expected}"
    try:
        shape, data, _regions = found["tensors"]["probs"]
        probs = np.frombuffer(base64.b64decode(data), dtype="<f4").reshape(shape)[0, T - 1, :V]
        total = float(probs.sum())
        text += f"; yours: from {_around(probs, got)} at token {got}" if 0 <= got < V else ""
        if not 0.99 < total < 1.01:
            text += f"; your probabilities add up to {total:.3f}"
    except (KeyError, ValueError, TypeError, IndexError, AttributeError):
        pass
    return text


def _around(probs: np.ndarray, token: int) -> str:
    cdf = np.cumsum(probs.astype(np.float64))
    return f"{cdf[token - 1] if token else 0.0:.5f} to {cdf[token]:.5f}"


def order_of_sum(model_path: Path, prompt: Iterable[int], expected: int, got: int) -> str:
    """If another way to add up the softmax's exponentials gives just the wrong token: that way; else ""."""
    model = gpt2_build_from_checkpoint(model_path)
    tokens = np.array([list(prompt)], dtype=np.int32)
    T, V = tokens.shape[1], model.config.vocab_size
    gpt2_forward(model, tokens, 1, T)
    ways = [how for how, token in other_sums(model.acts.logits[0, T - 1, :V]).items() if token == got != expected]
    if not ways:
        return ""
    return (
        f"token {got} is what comes out if the softmax adds its {V:,} exponentials up {' or '.join(ways[:2])}: "
        "add them one after the other in float32, as gpt.c does, np.cumsum(row, dtype=np.float32)[-1], or call "
        "lab.serial.softmax_forward for the row that is sampled"
    )


# ------------------------------------------------------------------------------------------------------------ too slow


def slow_line(recorded: dict, k: int) -> str:
    """Where the time went in a run with the recorder: how busy each worker was, and what it waited for."""
    try:
        seconds, threads = float(recorded["seconds"]), recorded["threads"]
        workers = {name: use for name, use in threads.items() if str(name).startswith("worker")}
        busy = {name: float(use["task"]) for name, use in workers.items()}
        told = [name for name in busy if busy[name] > 0]
        if not told:
            return (
                "no task was told to the library (threadlib.perform), so where the workers' time goes is "
                "not known: make timeline"
            )
        shares = ", ".join(f"{busy[name] / seconds:.0%}" for name in sorted(busy))
        text = f"the workers were busy {shares} of the time"
        most, least = max(busy.values()), min(busy.values())
        if len(busy) < k:
            text += f"; only {len(busy)} of {k} workers showed up"
        elif least < 0.6 * most:
            text += (
                f"; the busiest had {most / max(least, 1e-9):.1f} times the work of the idlest: cut the "
                "work more evenly"
            )
        waits: dict[str, float] = {}
        for use in workers.values():
            for what, amount in use["wait"].items():
                waits[str(what)[:80]] = waits.get(str(what)[:80], 0.0) + float(amount)
        if waits:
            what = max(waits, key=waits.__getitem__)
            text += (
                f"; most of their waiting, {waits[what] / (seconds * max(1, len(busy))):.0%} of the time, is for {what}"
            )
        return text
    except (KeyError, TypeError, ValueError, ZeroDivisionError, AttributeError):
        return ""
