"""gpt TOKEN...: the course's program. Tokens in, the tokens GPT-2 writes next out, one on a line, as they are made.

    $ gpt 31373 612
    318
    530
    ...

With n = 10 tokens in all, as in gpt.c; `python -m lab.tokenizer "hello there"` says what the tokens of a text are.
"""

import json
import re
import resource
import sys
import time
from collections.abc import Iterator

from lab import onethread
from lab.checkpoint import CheckpointError, read_checkpoint, touch_pages
from lab.command import Parser, counted, default_workers, in_one_line, quietly, shortened, whole_number, worker_count
from lab.engines import EngineError, checked, engine_name, load_engine, start, why_not_loaded
from lab.models import ModelError, resolve
from lab.serial import gpt2_build_from_checkpoint

N = 10  # gpt.c's limit of tokens, the prompt's included


class UsageError(Exception):
    """What was asked for cannot be done; one line, exit code 2."""


@in_one_line("gpt: ", UsageError, code=2)
@in_one_line("gpt: ", ModelError, CheckpointError)
def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = parser().with_words(arguments, "tokens")
    if not options.tokens:
        return say("Provide at least one token.", 1)
    if len(options.tokens) >= options.n:
        return say(f"Too many tokens. -n {options.n} takes at most {options.n - 1}, not {len(options.tokens)}.", 1)
    try:
        run(options)
    except MemoryError:
        return say(f"gpt: not enough memory for {options.n} tokens of this model: use a smaller -n", 1)
    return 0


def parser() -> Parser:
    """gpt's options."""
    options = Parser(prog="gpt", description="Continue a text with GPT-2: tokens in, new tokens out, one per line.")
    options.add_argument("tokens", nargs="*", metavar="TOKEN", help="the prompt: 1 to n-1 tokens of the vocabulary")
    options.add_argument(
        "-n", type=whole_number(1), default=N, help=f"tokens in all, the prompt's included (default {N})"
    )
    add_model_options(options)
    options.set_defaults(engine="serial")
    options.add_argument("--text", action="store_true", help="show each token's text as well, and all of it at the end")
    options.add_argument("--time", action="store_true", help="report on stderr how long loading and generating took")
    options.add_argument(
        "--verify", action="store_true", help="read the whole model first and look for NaN and infinity"
    )
    return options


def add_model_options(parser: Parser) -> None:
    """What gpt and gpt-chat share: --model, --engine, --workers."""
    parser.add_argument(
        "--model", help="a checkpoint's path or its name in models/ (default: GPT_MODEL, else the best there)"
    )
    parser.add_argument(
        "--engine",
        type=engine_name,
        metavar="ENGINE",
        help="the program to run: serial, parallel, cached or your file.py (default: gpt serial, gpt-chat cached)",
    )
    parser.add_argument(
        "--workers",
        type=worker_count,
        help="worker threads, for every engine but serial (default: GPT_WORKERS, else the cores, at most 4)",
    )


def run(options) -> None:
    """Load, generate, print. Raises UsageError, ModelError, CheckpointError."""
    onethread.warn()
    generate = engine(options.engine, options.workers)
    begin = time.perf_counter()
    path = resolve(options.model)
    if options.verify:
        read_checkpoint(path, verify=True)
    model = gpt2_build_from_checkpoint(path)
    prompt = [vocabulary_token(text, model.config.vocab_size) for text in options.tokens]
    most = model.config.max_seq_len
    if len(prompt) >= most:
        raise UsageError(f"a prompt of {len(prompt)} tokens: this model takes up to {most - 1}")
    if options.n > most:
        raise UsageError(f"-n {options.n}: this model takes up to {most} tokens")
    if options.time:
        touch_pages(model.params_memory)
    loaded = time.perf_counter()
    try:
        made = show(prompt, generate(model, prompt, options.n), options.text)
    except EngineError as error:
        raise UsageError(f"--engine {options.engine}: {error}") from None
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        raise UsageError("the system allows no more threads: use fewer --workers, or raise ulimit -u") from None
    if made < (wanted := options.n - len(prompt)):
        raise UsageError(f"--engine {options.engine}: generate() stops after {counted(made, 'token')} of {wanted}")
    if options.time:
        seconds = time.perf_counter() - loaded
        rate = f"{made} tokens, {made / seconds:.1f} a second"
        say(f"load {loaded - begin:.3f} s, generate {seconds:.3f} s ({rate}), memory {peak_memory():.0f} MB", 0)


def peak_memory() -> float:
    """The most memory this process has had so far, the mapped model included, in MB."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes, or KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def vocabulary_token(text: str, vocab_size: int) -> int:
    """A token of the command line. Raises UsageError."""
    if not re.fullmatch(r"[+-]?[0-9]+", text):
        raise UsageError(
            f"token {shortened(text)!r}: not a whole number; python -m lab.tokenizer turns text into tokens"
        )
    digits = text.lstrip("+0") or "0"
    if len(digits) > len(str(vocab_size)) or not 0 <= int(digits) < vocab_size:
        raise UsageError(f"token {shortened(digits)}: the vocabulary is 0 to {vocab_size - 1}")
    return int(digits)


def engine(name: str, workers: int | None):
    """The function generate(model, prompt, n) of an engine. Raises UsageError."""
    if name == "serial" and workers is not None:
        raise UsageError("--workers: the serial engine has none; add --engine parallel or cached")
    try:
        workers = 1 if name == "serial" else workers or default_workers()
    except ValueError as error:
        raise UsageError(str(error)) from None
    try:
        module = load_engine(name)
    except (Exception, SystemExit) as error:  # it may be a student's: anything may be wrong with it
        raise UsageError(f"--engine {name}: {why_not_loaded(error)}") from None
    return lambda model, prompt, n: checked(start(module, model, prompt, n, workers), n - len(prompt))


def show(prompt: list[int], tokens: Iterator[int], text: bool) -> int:
    """Print each token as it is made; with `text` its text beside it, then prompt and completion as one text.

    Returns how many tokens were made.
    """
    made = []
    for token in tokens:
        print(f"{token}\t{json.dumps(text_of([token]), ensure_ascii=False)}" if text else token, flush=True)
        made.append(token)
    if text:
        print(f"\n{text_of(prompt + made)}")
    return len(made)


def text_of(tokens: list[int]) -> str:
    """The text of tokens."""
    from lab.tokenizer import decode  # here, because the plain program does without

    return decode(tokens)


def say(message: str, code: int) -> int:
    """A line on stderr; returns `code`."""
    print(message, file=sys.stderr, flush=True)
    return code


def command() -> None:
    """What the script gpt runs."""
    quietly(main)


if __name__ == "__main__":
    command()
