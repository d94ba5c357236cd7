"""gpt-chat: type the beginning of a text, read on.

It tokenises, calls the program gpt, and shows that program's tokens as text as they arrive.

$ gpt-chat "Ladies and"                     one text
$ gpt-chat                                  one after the other, until Ctrl-D
$ gpt-chat < beginnings.txt                 one a line
"""

import codecs
import importlib.util
import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.text import Text

from lab.checkpoint import CheckpointError, Config, read_header
from lab.command import Parser, in_one_line, quietly, shortened, whole_number
from lab.files import ROOT
from lab.gpt import add_model_options
from lab.models import ModelError, resolve
from lab.pipes import pipe
from lab.tokenizer import EOT, TokenizerError, decode_bytes, encode, whole

NEW_TOKENS = 40
LONGEST_LINE = 1 << 20  # characters, read at a time: what is piped in may have no end
PROGRAM = [sys.executable, "-P", "-m", "lab.gpt"]  # -P: this lab, and not a folder of that name where one happens to be


class ChatError(Exception):
    """No answer is possible; one line."""


@in_one_line("gpt-chat: ", ModelError, CheckpointError, TokenizerError, ChatError)
def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = Parser(prog="gpt-chat", description="Type the beginning of a text; GPT-2 continues it. Ctrl-D ends.")
    parser.add_argument(
        "text", nargs="*", metavar="TEXT", help="the text to continue (default: what you type or pipe in)"
    )
    parser.add_argument(
        "-n", type=whole_number(1), default=NEW_TOKENS, help=f"tokens to add (default {NEW_TOKENS}; a word has 1 or 2)"
    )
    add_model_options(parser)
    options = parser.with_words(arguments, "text")
    fastest = "cached" if importlib.util.find_spec("lab.cached") else "serial"  # both make the same tokens
    chat = Chat(resolve(options.model), options.engine or fastest, options.n, options.workers)
    if options.text:
        return chat.answer(" ".join(options.text))
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # lab.tokenizer.whole reads the rest
    return chat.converse() if sys.stdin.isatty() else chat.answer_lines()


class Chat:
    """A model to talk to: which one, computed how. Raises CheckpointError, ChatError."""

    def __init__(self, model: Path, engine: str, n: int, workers: int | None) -> None:
        self.config: Config = read_header(model)[1]
        if self.config.vocab_size <= EOT:
            raise ChatError(f"{model}: a vocabulary of {self.config.vocab_size} tokens, not GPT-2's {EOT + 1}")
        self.n, self.name = n, model.stem
        self.arguments = ["--model", str(model), "--engine", engine]
        if workers is not None:
            self.arguments += ["--workers", str(workers)]
        self.console = Console(highlight=False, soft_wrap=True)

    def converse(self) -> int:
        """Ask for texts until Ctrl-D, or Ctrl-C at the prompt; in an answer it ends the answer only."""
        with suppress(ImportError):
            import readline  # noqa: F401  (arrow keys at the prompt)
        self.console.print(
            f"[dim]Type the beginning of a text; {escape(self.name)} continues it. Ctrl-C stops, Ctrl-D ends.[/dim]"
        )
        while True:
            try:
                text = input("> ")
            except (EOFError, KeyboardInterrupt):
                print()
                return 0
            try:
                if text.strip():
                    self.answer(text)
            except ChatError as error:
                print(error, file=sys.stderr)
            except KeyboardInterrupt:
                pass

    def answer_lines(self) -> int:
        """Answer each line of standard input, whatever happens with those before it; returns the worst exit code."""
        worst = 0
        for number, line in enumerate(iter(partial(sys.stdin.readline, LONGEST_LINE), ""), start=1):
            if len(line) == LONGEST_LINE:
                raise ChatError(f"line {number} has {LONGEST_LINE:,} characters or more: this is no list of texts")
            try:
                text = whole(line).strip("\r\n\ufeff")
                if text.strip():
                    worst = max(worst, self.answer(text))
            except ChatError as error:
                print(f"gpt-chat: line {number}: {error}", file=sys.stderr)
                worst = max(worst, 1)
        return worst

    def answer(self, text: str) -> int:
        """Print the text and how it goes on; returns gpt's exit code. Raises ChatError for a text that is too long."""
        text = whole(text)
        tokens = encode(text)
        if not tokens:
            raise ChatError("type at least one word")
        longest = self.config.max_seq_len
        if len(tokens) >= longest:
            raise ChatError(f"that text has {len(tokens)} tokens; this model takes up to {longest - 1}")
        n = min(len(tokens) + self.n, longest)
        with gpt([*self.arguments, "-n", str(n), *map(str, tokens)]) as process:
            lines = pipe(process.stdout)
            first = lines.readline()
            if not first:  # gpt has said why, on a line of its own
                return self.outcome(process)
            self.write(text, style="dim")
            lines = chain([first], lines)
            try:
                for piece in pieces(map(token_of, lines)):
                    self.write(piece)
            finally:
                self.console.print()
            if next(lines, None) is not None:  # tokens after the end of the text: nobody needs the rest
                return 0
            return self.outcome(process)

    def outcome(self, process: subprocess.Popen) -> int:
        """gpt's exit code. Raises ChatError where a signal ended it."""
        code = process.wait()
        if code < 0:  # too little memory ends programs, too
            raise ChatError(f"the program that computes was ended: {signal.strsignal(-code)}")
        return code

    def write(self, text: str, style: str = "") -> None:
        """Show text at once, as it is: on a terminal without the control characters a model may come up with."""
        if self.console.is_terminal:
            text = "".join(
                sign if sign.isprintable() or sign in "\n\t" else "\N{REPLACEMENT CHARACTER}" for sign in text
            )
        if style and self.console.is_terminal:
            self.console.print(Text(text, style=style), end="")
        else:
            self.console.file.write(text)
        self.console.file.flush()


@contextmanager
def gpt(arguments: list[str]) -> Iterator[subprocess.Popen]:
    """The program gpt, running; ended with the block. Ctrl-C reaches only this process, which then ends gpt."""
    process = subprocess.Popen(
        [*PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        process_group=0,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()
        pipe(process.stdout).close()


def token_of(line: str) -> int:
    """A line of gpt's. Raises ChatError for what else a program of one's own may print."""
    if not line.strip().isdecimal():
        raise ChatError(f"the program prints {shortened(line.strip())!r} among its tokens: print to sys.stderr instead")
    return int(line)


def pieces(tokens: Iterator[int]) -> Iterator[str]:
    """The text of tokens as it becomes known: a character whose bytes are spread over tokens waits for the last one."""
    decoder, spoken = codecs.getincrementaldecoder("utf-8")("replace"), False
    for token in tokens:
        if token == EOT and spoken:  # the model says that its text is over
            break
        if token != EOT:  # what was typed was a whole text: the answer is the next one
            piece = decoder.decode(decode_bytes([token]))
            spoken = spoken or bool(piece.strip())
            yield piece
    yield decoder.decode(b"", final=True)


def command() -> None:
    """What the script gpt-chat runs."""
    quietly(main)


if __name__ == "__main__":
    command()
