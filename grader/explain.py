"""From what was observed to a sentence that helps: what is wrong, where in the student's file, and what to look at."""

import ast
import base64
import builtins
import io
import re
import signal
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from grader.correctness import Outcome
from grader.runs import Run
from grader.sandbox import MB, Limits
from grader.submission import LAB_MODULES
from lab.check.report import grouped
from lab.command import counted
from lab.margin import other_sums
from lab.serial import GPT2, gpt2_build_from_checkpoint, gpt2_forward

FILE = "parallel.py"
KNOWN_ERRORS = {name for name, value in vars(builtins).items() if isinstance(value, type)} | {"WorkerFailed"}
FORGED = (KeyError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError)  # of reports that are none
near = partial(np.isclose, rtol=2e-3, atol=2e-4)  # rounding in another order stays far below, a mistake does not
SPINE = ("encoded", "residual2", "residual3", "lnf", "logits", "probs")  # what every later tensor is computed from
AT_LAST = ("logits", "probs")  # computed at every position, but the last one counts
MEANING = {  # in the order they are computed: one, those of each layer, three
    "encoded": "token plus position", "ln1": "the layer's first layernorm", "qkv": "query, key, value: matmul_forward",
    "preatt": "attention's scores", "att": "attention's weights", "atty": "attention's output",
    "attproj": "attention's projection: matmul_forward", "residual2": "the sum after attention",
    "ln2": "the second layernorm",
    "fch": "the wide matmul_forward", "fch_gelu": "gelu", "fcproj": "the matmul_forward after gelu",
    "residual3": "the sum after gelu",
    "lnf": "the last layernorm", "logits": "the product with wte", "probs": "the softmax",
}  # fmt: skip


# -------------------------------------------------------------------------------------- places, from the source we have


def place(source: str, line: object) -> str:
    """A line of the student's file: where, in which function, what it says."""
    lines = io.StringIO(source, newline=None).readlines()  # as Python counts them: a form feed ends none
    if not isinstance(line, int) or not 0 < line <= len(lines):
        return FILE
    innermost = next((name for first, last, name in functions_of(source)[::-1] if first <= line <= last), "")
    return f"{FILE}:{line}{f' in {innermost}' if innermost else ''}: {lines[line - 1].strip()[:90]}"


@lru_cache(maxsize=4)
def functions_of(source: str) -> tuple[tuple[int, int, str], ...]:
    """(first line, last line, name) of every function, the outer ones first."""
    try:
        return tuple(
            (node.lineno, node.end_lineno or node.lineno, node.name)
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        )
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()


def returns_of(source: str) -> list[int]:
    """The lines of the return statements of generate(), the last one; its first line if it has none."""
    found = [function for function in functions_of(source) if function[2] == "generate"]
    if not found:
        return []
    first, last, _ = found[-1]
    nodes = ast.walk(ast.parse(source))
    return [n.lineno for n in nodes if isinstance(n, ast.Return) and first <= n.lineno <= last] or [first]


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
    match run.outcome:
        case "error":
            return error_line(run.error, limits, source, private)
        case "contract":
            return contract_line(str(run.values.get("contract")), source, private)
        case "hang":
            return f"hangs: every thread waits ({so_far}); {stacks_line(run.stacks, source)}"
        case "spin":
            return f"loops without making a token ({so_far}); {stacks_line(run.stacks, source)}"
        case "slow":
            return f"far slower than the serial program, stopped {so_far}; {stacks_line(run.stacks, source)}"
        case "flood":
            return f"stopped: it prints without end (more than {limits.output // MB} MB)"
        case "litter":
            return f"stopped: it writes files without end (more than {limits.tmp_size // MB} MB)"
        case "protocol":
            return "stopped: something other than tokens came through the pipe for tokens"
        case "ended":
            return f"the program ended {so_far}: {status_line(run.status, limits, private)}"
        case "processes":
            return "stopped: it starts other processes; workers are threads of one process, from lab.threadlib"
        case "unstoppable":
            return f"it cannot be stopped between two tokens ({so_far}), so it cannot be timed"
    return tokens_line(run.tokens, expected, count, private)


def tokens_line(tokens: list[int], expected: list[int], count: int, private: bool) -> str:
    """What is wrong with the tokens of a run that has come to its end."""
    if len(tokens) > count and tokens[: len(expected)] == expected:
        return f"yields more tokens than asked for: {len(tokens)} or more instead of {count}; n counts the prompt, too"
    if len(tokens) < len(expected) and tokens == expected[: len(tokens)]:
        return f"yields only {len(tokens)} of {counted(count, 'token')}"
    at = next(i for i, (a, b) in enumerate(zip(tokens, expected, strict=False)) if a != b)
    if private:
        return f"generated token {at + 1} of {count} differs from the serial program's"
    return f"generated token {at + 1} of {count} is {tokens[at]}, the serial program's is {expected[at]}"


def error_line(chain: list[dict], limits: Limits, source: str = "", private: bool = False) -> str:
    """An exception: its type, its message, the student's lines; the cause comes before what it caused.

    `private`: nothing of it in which a submission could tell of the case: no message, no type of its own. Code and
    function names are those of the source we have, not those reported; without it no place is named.
    """
    try:
        root = chain[-1]
        kind, message = str(root["type"]), str(root["message"])
        first = message.split("\n")[0]
        text = kind if not private or kind in KNOWN_ERRORS else "an exception"
        text += f": {first}" if first and not private else ""
        own = [line for file, line, *_ in root["frames"] if file == FILE and source]
        places = "; ".join(dict.fromkeys(place(source, line) for line in own[-2:][::-1]))
        in_worker = "a worker failed with " if chain[0]["type"] == "WorkerFailed" and len(chain) > 1 else ""
        return f"{in_worker}{text[:200]}{error_hint(kind, message, limits)}" + (f" at {places}" if places else "")
    except FORGED:
        return "it failed, with a report that cannot be read"


def error_hint(kind: str, message: str, limits: Limits) -> str:
    """What an exception may come from, in brackets, or ""."""
    if kind == "MemoryError" or "_ArrayMemoryError" in kind:
        return f" (the limit is {limits.memory // MB} MB of memory)"
    if "can't start new thread" in message:
        return (
            f" (the limit is {limits.processes} threads and processes: a thread for every row, or for every operation?)"
        )
    if "not allowed here" in message:
        return " (the task needs numpy, lab.threadlib and small parts of the standard library only)"
    if kind == "ModuleNotFoundError" or "module 'lab.parallel'" in message:
        return f" (there are numpy, {', '.join(LAB_MODULES)}; all of your own has to be in this one file)"
    if "ignored GeneratorExit" in message:
        return " (its iterator was closed early: no yield after that)"
    return ""


def contract_line(kind: str, source: str, private: bool) -> str:
    """generate() returned something, where it has to yield."""
    what = f"a {kind}" if not private or kind in ("list", "tuple", "NoneType") else "something else than an iterator"
    what = "nothing (None)" if kind == "NoneType" else what
    text = f"generate() returns {what}; it has to yield its tokens, each as soon as it is there: `yield token`"
    lines = returns_of(source)
    return f"{text} at {place(source, lines[-1])}" if lines else text


def status_line(status: int | None, limits: Limits, private: bool = False) -> str:
    """What an exit status means; bubblewrap passes a signal on as 128 + its number. `private`: without the number."""
    if status is None:
        return "for no reason that could be seen"
    number = -status if status < 0 else status - 128 if status > 128 else 0
    match number:
        case signal.SIGXCPU:
            return f"killed by the limit of {limits.cpu_seconds} s of CPU time"
        case signal.SIGXFSZ:
            return f"killed by the limit of {limits.file_size // MB} MB on files"
        case signal.SIGKILL:
            return f"killed (signal 9): memory? The limit is {limits.memory // MB} MB"
    if number and not private:
        name = signal.Signals(number).name if number in set(signal.Signals) else "unknown"
        return f"killed by signal {number} ({name})"
    shown = "by itself or by a signal" if private else f"exit status {status}"
    nor = ", nor has closing files or replacing functions that are not its own" if status == 1 and not private else ""
    return f"{shown}; sys.exit() or os._exit() has no place in generate(){nor}"


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
    *workers, main = thread_stacks(text) or [[]]
    who = [*(("worker", frames) for frames in workers), ("main thread", main)]
    own = ((next((line for file, line, _ in frames if file == FILE), None), name) for name, frames in who)
    places = grouped((place(source, line), name) for line, name in own if line is not None)
    return "; ".join(f"{people(who)} at {where}" for where, who in places.items()) or "its position could not be seen"


def people(who: list[str]) -> str:
    """'main thread', '2 workers'."""
    workers = who.count("worker")
    named = [*(["main thread"] if "main thread" in who else []), *([counted(workers, "worker")] if workers else [])]
    return " and ".join(named)


# -------------------------------------------------------------------------------------------------------- wrong tokens


DIFFERS = "the first tensor that differs"
ALONE = (
    "run alone, this pass is right: what goes wrong depends on when threads run, or is left over from the pass before "
    "or an earlier prompt"
)
ELSEWHERE = "the program keeps its activations outside model.acts, so which of them differs first cannot be shown"


def after_pass(model_path: Path, prompt: Sequence[int]) -> GPT2:
    """The model as the serial program leaves it after its pass over `prompt`."""
    model = gpt2_build_from_checkpoint(model_path)
    gpt2_forward(model, np.array([prompt], dtype=np.int32), 1, len(prompt))
    return model


def tensor_of(shape: list[int], data: str, kind: str) -> np.ndarray:
    """A tensor as the harness reports it; for a forged report, one of FORGED."""
    return np.frombuffer(base64.b64decode(data), dtype=kind).reshape(shape)


def first_difference(model_path: Path, prompt: Sequence[int], found: dict) -> str:
    """The first activation tensor that differs from the serial program's in the pass over `prompt`, and the region that
    wrote it; what cannot be shown where model.acts is not filled; "" for a report that cannot be read.
    """
    model = after_pass(model_path, prompt)
    theirs, written = {}, {}
    try:
        for name, (shape, data, regions) in found["tensors"].items():
            theirs[name], written[name] = tensor_of(shape, data, "<f4"), tensor_of(shape, regions, "<u2")
        names = [str(name)[:80] for name in found["regions"]]
    except FORGED:
        return ""
    if not theirs.keys() & set(SPINE):
        return ELSEWHERE
    steps = in_order(model.config.num_layers)
    bad = [step for step in steps if differs(model, theirs, *step)]
    spine = next((step for step in bad if step[0] in SPINE), None)
    if spine is None:
        return no_difference(theirs)
    right = max((i for i in range(steps.index(spine)) if steps[i][0] in SPINE), default=-1)  # so far all is
    name, layer = next(step for step in steps[right + 1 :] if step in bad)
    ours, other, regions = (pick(tensors[name], name, layer) for tensors in (vars(model.acts), theirs, written))
    of_layer = "" if layer is None else f" of layer {layer}"
    where = region(ours, other, name) + writer(ours, other, regions, names)
    return f"{DIFFERS} is {name}{of_layer} ({MEANING[name]}){where}"


def no_difference(theirs: dict[str, np.ndarray]) -> str:
    """What can be said of a pass in which nothing differs that later tensors are computed from."""
    if "probs" in theirs:
        return "all tensors are right: what goes wrong is how the token is taken from the probabilities"
    last = next(name for name in reversed(SPINE) if name in theirs)
    return f"model.acts is right as far as the program fills it, up to {last}; what follows cannot be shown"


def writer(ours: np.ndarray, other: np.ndarray, regions: np.ndarray, names: list[str]) -> str:
    """Which region of the pass wrote the wrong numbers, by the name the program gives it; "" if none or several."""
    numbers = set(regions[~near(ours, other)].tolist())
    if len(numbers) != 1 or (number := numbers.pop()) >= len(names):
        return ""
    return f"; written in region {number} of the pass, {names[number]}" if number else "; written outside all regions"


def in_order(L: int) -> list[tuple[str, int | None]]:
    """All tensors in the order they are computed: (name, layer)."""
    first, *in_layer, lnf, logits, probs = MEANING
    layers = [(name, layer) for layer in range(L) for name in in_layer]
    return [(first, None), *layers, (lnf, None), (logits, None), (probs, None)]


def pick(tensor: np.ndarray, name: str, layer: int | None) -> np.ndarray:
    """The tensor of one layer, without the batch of 1, as far as it counts: of scores those of earlier positions, of
    logits and probabilities the last position.
    """
    picked = tensor[0] if layer is None else tensor[layer, 0]
    return picked[-1:] if name in AT_LAST else np.tril(picked) if name == "preatt" else picked


def differs(model: GPT2, theirs: dict, name: str, layer: int | None) -> bool:
    """Whether a tensor of theirs is there and differs; of logits and probabilities the V real tokens count."""
    if name not in theirs or theirs[name].shape != vars(model.acts)[name].shape:
        return False
    count = model.config.vocab_size if name in AT_LAST else None
    ours, other = (pick(tensors[name], name, layer)[..., :count] for tensors in (vars(model.acts), theirs))
    return not near(ours, other).all()


def region(ours: np.ndarray, other: np.ndarray, name: str) -> str:
    """Where in a tensor the wrong numbers are: heads, positions, channels."""
    wrong = ~near(ours, other)
    names = {3: ("heads", "positions", "earlier positions"), 2: ("positions", "channels")}[wrong.ndim]
    if name in AT_LAST:
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
    runs = np.split(hit, np.flatnonzero(np.diff(hit) > 1) + 1)
    text = [f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return ", ".join(text if len(text) <= 4 else [*text[:3], "..."])


def distributions(model_path: Path, prompt: Sequence[int], expected: int, got: int, found: dict) -> str:
    """Both running sums around the coin at the step that went wrong."""
    model, last = after_pass(model_path, prompt), len(prompt) - 1
    V = model.config.vocab_size
    text = f"serial: the running sum goes from {_around(model.acts.probs[0, last, :V], expected)} at token {expected}"
    try:
        shape, data, _regions = found["tensors"]["probs"]
        probs = tensor_of(shape, data, "<f4")[0, last, :V]
        total = float(probs.sum())
        text += f"; yours: from {_around(probs, got)} at token {got}" if 0 <= got < V else ""
        text += "" if 0.99 < total < 1.01 else f"; your probabilities add up to {total:.3f}"
    except FORGED:
        pass  # nothing of theirs can be told
    return text


def _around(probs: np.ndarray, token: int) -> str:
    cdf = np.cumsum(probs.astype(np.float64))
    return f"{cdf[token - 1] if token else 0.0:.5f} to {cdf[token]:.5f}"


def order_of_sum(model_path: Path, prompt: Sequence[int], expected: int, got: int) -> str:
    """If another way to add up the softmax's exponentials gives just the wrong token: that way; else ""."""
    model = after_pass(model_path, prompt)
    V = model.config.vocab_size
    sums = other_sums(model.acts.logits[0, len(prompt) - 1, :V])
    ways = [how for how, token in sums.items() if token == got != expected]
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
        if not any(amount > 0 for amount in busy.values()):
            return (
                "the program does not report its tasks (threadlib.perform), so where the workers' time goes is "
                "not known: make timeline"
            )
        text = f"the workers were busy {', '.join(f'{busy[name] / seconds:.0%}' for name in sorted(busy))} of the time"
        most, least = max(busy.values()), min(busy.values())
        if len(busy) < k:
            text += f"; only {len(busy)} of {k} workers showed up"
        elif least < 0.6 * most:
            times = most / max(least, 1e-9)
            text += f"; the busiest had {times:.1f} times the work of the idlest: cut the work more evenly"
        waits: dict[str, float] = defaultdict(float)
        for use in workers.values():
            for what, amount in use["wait"].items():
                waits[str(what)[:80]] += float(amount)
        if waits:
            what = max(waits, key=waits.__getitem__)
            share = waits[what] / (seconds * max(1, len(busy)))
            text += f"; most of their waiting, {share:.0%} of the time, is for {what}"
        return text
    except FORGED:
        return ""
