"""The program inside the sandbox. It knows a model and the submission, and nothing of the grader: no expected token,
no other case.

    argv[1]   JSON: {"paths": [...], "engine": "submission" | "watched" | "trusted" | "capacity", "model": path,
                     "commands": fd, "results": fd, "stacks": fd,
                     "parent": pid (0: no matter), "readable": [...] (null: not to be sealed),
                     "threads": the most at a time, beside the main one}

It loads the model, touches every page of it, locks itself in (confine.py), writes "loaded" (whatever fails before is
not the submission's fault), imports the submission and writes "ready". Then it reads commands, one JSON object a line:

    {"prompt": [...], "n": 10, "workers": 2}                   generate, a line "token N" as each is made, then "done"
    {..., "step": true}                                        wait for an empty line after each token
    {..., "close_after": 1}                                    close the iterator after so many tokens
    {..., "activations": true}                                 after the tokens, the activation tensors of the last pass
    {..., "record": true}                                      with the recorder of lab.threadlib, and what it noted
    (an empty line: go on, after the last token)
    {..., "notes": {"pause": 0.001, "poison": "worker-1", "after": 9}}    who read what (grader.shares; "watched")
    {"capacity": 2, "one_first": true}                         seconds of 1 and of 2 trusted threads (engine "capacity")

Whatever this program reports, the submission can forge, as it runs in the same process: nothing reported here earns
a point. Tokens are compared, times and CPU times are taken, and threads are counted by the parent.
"""

import sys

DENIED_IMPORTS = (
    "ctypes", "_ctypes", "cffi", "_cffi_backend", "threadpoolctl", "subprocess", "_posixsubprocess", "multiprocessing",
    "_multiprocessing", "socket", "_socket", "ssl", "asyncio", "numba",
)  # fmt: skip
DENIED_EVENTS = (
    "os.fork", "os.exec", "os.posix_spawn", "os.spawn", "os.system", "os.kill", "os.killpg", "os.forkpty", "pty.spawn",
    "ctypes.", "socket.",
    "subprocess.", "gc.get_", "signal.pthread_kill", "sys.setprofile", "sys.settrace",
)  # fmt: skip


def guard(threadlib, report, most):
    """Refuse what the task does not need, `most` threads as the kernel would, and note one made past lab.threadlib.
    Returns a list that grows by one with each thread made by lab.threadlib.

    An audit hook cannot be removed. Still this is the friendly fence, the one with a clear message; the sandbox is the
    real one.
    """
    import _thread
    import threading

    getframe, told, started = sys._getframe, [], []
    own = threadlib.__file__.replace("threadlib", "parallel")  # what numpy imports for itself does no harm
    count, start_new_thread = _thread._count, _thread.start_new_thread

    def note_thread(depth):
        if count() >= most:
            raise RuntimeError("can't start new thread")
        frame = getframe(depth)
        while frame.f_back is not None and frame.f_code.co_filename == threading.__file__:
            frame = frame.f_back
        if frame.f_code.co_filename == threadlib.__file__:
            started.append(True)
        elif not told:
            told.append(True)
            report("bypass", "a thread was started without lab.threadlib")

    def hook(event, arguments):
        if event == "import":
            if arguments[0].partition(".")[0] in DENIED_IMPORTS and getframe(1).f_code.co_filename == own:
                raise ImportError(f"import {arguments[0]} is not allowed here")
        elif event.startswith(DENIED_EVENTS):
            raise PermissionError(f"{event} is not allowed here")
        elif event.startswith("_thread.start_"):
            note_thread(2)

    def start_noted(*arguments):
        note_thread(2)
        return start_new_thread(*arguments)

    if sys.version_info < (3, 12):  # from then on it is an event
        _thread.start_new_thread = _thread.start_new = start_noted
        kept = "_start_new_thread"  # threading's own name for it
        setattr(threading, kept, start_noted)
    sys.addaudithook(hook)
    return started


def traceback_as_data(error):
    """An exception and its causes as plain data: [{"type", "message", "frames":
    [[file, line, function, text], ...]}, ...].
    """
    import os
    import traceback

    chain, seen = [], set()
    while error is not None and id(error) not in seen and len(chain) < 4:
        seen.add(id(error))
        frames = [
            [os.path.basename(f.filename), f.lineno, f.name, (f.line or "")[:200]]
            for f in traceback.extract_tb(error.__traceback__)[-30:]
        ]
        try:
            message = str(error)[:500]
        except Exception:
            message = ""  # of a class whose __str__ fails
        chain.append({"type": type(error).__name__, "message": message, "frames": frames})
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
        error = None if isinstance(error, GeneratorExit) else error  # that is how an iterator is closed
    return chain


UNWRITTEN = 1e-30  # stands in activations that nobody has written; as good as the zeros that were there
NOBODY = 0xFFFF  # in place of a region's number
LARGEST = 400_000  # bytes of activations that are reported


def activations_watch(model, n):
    """A runtime that notes in which region each activation is first written, with memory for passes of n positions."""
    from contextlib import contextmanager

    import numpy as np

    from lab import serial, threadlib
    from lab.measure.recorder import name_of

    serial.gpt2_allocate(model, 1, n)
    model.acts_memory.fill(UNWRITTEN)
    memory = model.acts_memory

    class Watch(threadlib.Runtime):
        def __init__(self):
            super().__init__()
            self.memory, self.names = memory, ["no region"]
            self.region_of = np.full(memory.size, NOBODY, dtype="<u2")

        @contextmanager
        def region(self, fn):
            self.note(0)
            yield
            self.names.append(name_of(fn)[:80])
            self.note(len(self.names) - 1)

        def note(self, number):
            self.region_of[(self.region_of == NOBODY) & (memory != np.float32(UNWRITTEN))] = number

    return Watch()


def activations(model, watch):
    """For the explanation of a wrong token: {"regions": [name], "tensors": {name: [shape, base64 of float32, base64 of
    uint16: the region in which each number was first written, 0 for none]}}, without the tensors that nobody writes.
    """
    import base64

    import numpy as np

    def text(array):
        return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()

    watch.note(0)
    tensors, size, begin = {}, 0, watch.memory.__array_interface__["data"][0]
    for name, tensor in vars(model.acts).items():
        size += tensor.nbytes
        if size > LARGEST:
            break
        values = np.array(tensor, dtype="<f4")
        unwritten = values == np.float32(UNWRITTEN)
        first = (tensor.__array_interface__["data"][0] - begin) // 4
        if unwritten.all() or not 0 <= first <= watch.memory.size - tensor.size:
            continue
        values[unwritten] = 0.0
        tensors[name] = [list(values.shape), text(values), text(watch.region_of[first : first + tensor.size])]
    return {"regions": watch.names, "tensors": tensors}


def summary(recorder):
    """What the recorder noted: {thread: {"task": seconds, "wait": {what: seconds}, "tasks":
    count}}, and the regions' seconds.
    """
    from collections import Counter

    threads, regions = {}, Counter()
    for event in recorder.events():
        seconds = event.length / 1e9
        if event.kind == "region":
            regions[event.name] += seconds
        elif event.kind != "thread":
            entry = threads.setdefault(event.thread, {"task": 0.0, "tasks": 0, "wait": Counter()})
            if event.kind == "task":
                entry["task"] += seconds
                entry["tasks"] += 1
            else:
                entry["wait"][f"{event.name} ({event.detail})"] += seconds
    return {"threads": threads, "regions": regions}


def trusted_generate(report, margin, model, prompt, n, workers):
    """The right tokens: the first by the serial program; the later ones, sooner, by the forward pass of training. Their
    margins are reported as well.
    """
    import numpy as np

    from lab.serial import gpt2_forward, sample_mult, softmax_forward
    from lab.train.forward import gpt2_forward as quick_forward

    V, Vp = model.config.vocab_size, model.config.padded_vocab_size
    margins, tokens = [], np.full((1, n), 0, dtype=np.int32)
    tokens[0, : len(prompt)] = prompt
    for t in range(len(prompt), n):
        if t == len(prompt):
            gpt2_forward(model, tokens[:, :t], 1, t)
        else:
            quick_forward(model, tokens[:, :t], None, 1, t)
            last = slice(t - 1, t)
            softmax_forward(model.acts.probs[:, last], model.acts.logits[:, last], 1, 1, V, Vp)  # serial's own sum
        tokens[0, t] = sample_mult(model.acts.probs[0, t - 1], V)
        margins.append(margin(model.acts.probs[0, t - 1, :V]))
        report("margins", margins)
        yield int(tokens[0, t])


def prepare(config, report, go_on):
    """Load what the engine needs; for a submission, lock in and import it. Returns what answers a command."""
    from functools import partial

    import confine

    import lab.measure.recorder  # before any clock runs
    from lab import checkpoint, serial, threadlib

    engine = config["engine"]
    if engine == "capacity":
        from lab.measure.capacity import Kernel

        kernel = Kernel(config["kernel"]["positions"], checkpoint.Config(*config["kernel"]["shape"]))
        kernel.seconds(1)  # pages and caches as they will be
        return lambda command: report("value", kernel.one_and(command["capacity"], command["one_first"]))
    model = serial.gpt2_build_from_checkpoint(config["model"])
    checkpoint.touch_pages(model.params_memory)
    if engine == "trusted":
        from lab.margin import margin

        return partial(answer, report, go_on, model, partial(trusted_generate, report, margin), [])
    confine.lock_in(config["readable"])
    if engine == "watched":
        import shares

        shares.watch_arrays()
        shares.watch_tasks(threadlib)
    started = guard(threadlib, report, config["threads"])
    report("loaded")
    import lab.parallel

    obey = partial(answer, report, go_on, model, lab.parallel.generate, started)

    def watched(command):
        shares.begin(model, **command["notes"])
        obey(command)
        report("notes", shares.NOTES.shares())

    return watched if engine == "watched" else obey


def answer(report, go_on, model, generate, started, command):
    """Make the tokens of one command, and report what it asks for besides; `started` grows with each thread."""
    from contextlib import nullcontext

    from lab import threadlib
    from lab.measure.recorder import Recorder

    prompt, n, before = command["prompt"], command["n"], len(started)
    recorder = Recorder() if command.get("record") else None
    watch = activations_watch(model, n) if command.get("activations") else None
    runtime = recorder or watch
    with threadlib.use(runtime) if runtime else nullcontext():
        try:
            tokens = generate(model, prompt, n, command["workers"])
            if not hasattr(type(tokens), "__next__"):
                report("contract", type(tokens).__name__)
                tokens = ()
            report_tokens(tokens, n - len(prompt) + 1, command, report, go_on)
        except BaseException as error:
            report("error", traceback_as_data(error))
    if len(started) - before > command["workers"]:
        report("started", len(started) - before)
    if recorder:
        report("recorded", summary(recorder))
    if watch:
        report("activations", activations(model, watch))


def report_tokens(tokens, most, command, report, go_on):
    """Each token as it is made, `most` of them, which is one more than asked for, or as many as the command says."""
    import operator

    stop, step = command.get("close_after", 0), command.get("step", False)
    for count, token in enumerate(tokens, 1):
        try:
            number = operator.index(token)
        except TypeError:
            kind = type(token).__name__
            raise TypeError(f"generate() yields {kind}, where a token is one whole number, int(token)") from None
        report(f"token {number if abs(number) < 1 << 40 else -1}")
        if count == stop or count + 1 == most or (step and count < most):
            # the parent looks at the threads, before those that end now have ended; then it says go on, or stops this
            # process until its next turn
            go_on()
        if count in (stop, most):
            getattr(tokens, "close", int)()  # an iterator of another kind than a generator has nothing to close
            break


def main():
    """Load, say ready, obey."""
    import faulthandler
    import json
    import os
    import signal

    config = json.loads(sys.argv[1])
    sys.path[:0] = config["paths"]
    sys.argv[1:] = []

    import confine

    confine.die_with_parent(config["parent"])
    results, write = config["results"], os.write
    for fd in (config["commands"], results, config["stacks"]):
        os.set_inheritable(fd, False)
    faulthandler.register(signal.SIGUSR1, file=config["stacks"], all_threads=True, chain=False)
    commands = os.fdopen(config["commands"], "rb", buffering=0)

    def report(word, value=None):
        data = (word if value is None else f"{word} {json.dumps(value)}").encode() + b"\n"
        while data:
            data = data[write(results, data) :]

    try:
        obey = prepare(config, report, commands.readline)
    except BaseException as error:
        report("error", traceback_as_data(error))
        return
    report("ready")
    for line in iter(commands.readline, b""):
        if line != b"\n":  # a "go on" that nobody waited for
            obey(json.loads(line))
            sys.stdout.flush()
            report("done")


if __name__ == "__main__":
    main()
