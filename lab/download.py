"""Files from the network: resumed after a break, and checked before a file takes its name; GPT-2 124M is one of them.

While it is incomplete it is called <name>.part. An interrupted download resumes when it is run again.
"""

import fcntl
import hashlib
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from lab.checkpoint import HEADER_BYTES, CheckpointError, Config, read_checkpoint, read_header
from lab.files import evict
from lab.models import DOWNLOADED, GPT2_124M, ModelError

STARTER_PACK = "https://huggingface.co/datasets/karpathy/llmc-starter-pack/resolve/main"
TIMEOUT = (10, 30)  # seconds to connect, seconds without a byte
ATTEMPTS = 5  # in a row that bring nothing
CHUNK = 1 << 14  # bytes that are written at a time: what is not written when the connection breaks is lost

Show = Callable[[int, int | None], object]  # bytes that have arrived, bytes of the whole file


class DownloadError(Exception):
    """A file that cannot be had; the message is one line and says what to do."""


class Interrupted(Exception):
    """The connection broke; what has arrived can be continued."""


@dataclass(frozen=True)
class Source:
    """Where a file comes from, how to know it, and what to do when it does not come.

    The checks return what is wrong with a file, "" if nothing is.
    """

    url: str
    to_resume: str  # what to do when it has broken off; {:.1f} stands for the megabytes that are kept
    to_begin: str  # when nothing arrives
    elsewhere: str  # when this server will not give it
    sha256: str | None = None  # None: the one the server states, if it does
    head: int = 0  # so many bytes tell what kind of file it is
    check_head: Callable[[Path], str] = lambda _: ""
    check: Callable[[Path], str] = lambda _: ""  # of the whole file


# ------------------------------------------------------------------------------------------------------------- any file


def fetch(source: Source, path: Path, show: Show, wait: Callable[[float], None] = time.sleep) -> None:
    """Download a file to `path`. Raises DownloadError; then `path` does not exist."""
    try:
        if path.exists() and not path.is_file():
            what = "a folder" if path.is_dir() else "not a regular file"
            raise DownloadError(f"{path}: it is {what}; give a file's name")
        partial = path.with_name(path.name + ".part")
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # two downloads at once would write into each other
            try:
                Download(source, file, partial, show).finish(wait)
                evict(file)
                partial.replace(path)
            finally:
                if partial.is_file() and partial.stat().st_size == 0:
                    partial.unlink()
    except BlockingIOError:
        raise DownloadError(f"{path}.part: another download is writing it; wait for that one") from None
    except OSError as error:
        raise DownloadError(f"{error.filename or path}: cannot be written: {error.strerror or error}") from None


class Download:
    """A file on its way: `file` writes at the end of `partial`."""

    def __init__(self, source: Source, file: BinaryIO, partial: Path, show: Show) -> None:
        self.source, self.file, self.partial, self.show = source, file, partial, show
        self.sha256 = source.sha256

    def failure(self, why: str) -> DownloadError:
        """The error that names the address."""
        return DownloadError(f"{self.source.url}: {why}")

    def have(self) -> int:
        """How many bytes have arrived."""
        return self.partial.stat().st_size

    def finish(self, wait: Callable[[float], None]) -> None:
        """Bring the file to its full length, and check it; deletes a wrong one. Raises DownloadError."""
        if self.source.check_head(self.partial):  # only the beginning of such a file is worth continuing
            self.file.truncate(0)
        self.complete(wait)
        if wrong := self.wrong_sha256() or self.source.check(self.partial):
            self.file.truncate(0)
            raise self.failure(f"the file that arrived is wrong and was deleted: {wrong}")

    def complete(self, wait: Callable[[float], None]) -> None:
        """In as many connections as it takes. Raises DownloadError."""
        failures = 0
        while True:
            before = self.have()
            try:
                return self.receive()
            except Interrupted as error:
                arrived = self.have()
                failures = 1 if arrived > before else failures + 1
                if failures >= ATTEMPTS or arrived == 0:
                    advice = self.source.to_resume.format(arrived / 1e6) if arrived else self.source.to_begin
                    raise self.failure(f"{error}; {advice}") from None
                wait(2.0**failures)

    def receive(self) -> None:
        """One connection: append what is missing. Raises Interrupted or, when going on is useless, DownloadError."""
        have = self.have()
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
        try:
            with requests.get(self.source.url, headers=headers, stream=True, timeout=TIMEOUT) as reply:
                self.sha256 = self.sha256 or stated_sha256(reply)
                if reply.status_code == 416 and reply.headers.get("Content-Range") in (None, f"bytes */{have}"):
                    return  # there is nothing after what we have
                if reply.status_code in (429, 500, 502, 503, 504):
                    raise Interrupted(f"{reply.status_code} {reply.reason}")
                if reply.status_code in (200, 416):  # from the beginning, whatever was asked for; longer than the file
                    self.file.truncate(0)
                if reply.status_code not in (200, 206):
                    raise self.failure(f"{reply.status_code} {reply.reason}; {self.source.elsewhere}")
                self.copy(reply)
        except requests.exceptions.SSLError:
            why = f"the server's certificate is not trusted here; {self.source.elsewhere}"
            raise self.failure(why) from None
        except ValueError:  # requests' own, and urllib3's that it lets pass: InvalidURL, LocationParseError and others
            raise self.failure("not an address; it begins with https:// or http://") from None
        except requests.RequestException as error:
            raise Interrupted(reason(error)) from None

    def copy(self, reply: requests.Response) -> None:
        """Append the reply; stop as soon as it is seen to be another kind of file. Raises DownloadError."""
        have, length = self.have(), reply.headers.get("Content-Length", "")
        total = have + int(length) if length.isdigit() else None
        free = shutil.disk_usage(self.partial.parent).free
        if total and total - have > free:
            needed = f"{(total - have) / 1e6:.0f} MB are needed there, {free / 1e6:.0f} MB are free"
            raise DownloadError(f"{self.partial.parent}: {needed}")
        for chunk in reply.iter_content(CHUNK):
            self.file.write(chunk)
            self.file.flush()
            before, have = have, have + len(chunk)
            if before < self.source.head <= have:
                self.check_head(reply)
            self.show(have, total)

    def check_head(self, reply: requests.Response) -> None:
        """An error page is noticed by its first bytes. Raises DownloadError."""
        if wrong := self.source.check_head(self.partial):
            kind = reply.headers.get("Content-Type", "something").split(";")[0]
            self.file.truncate(0)
            raise self.failure(f"the server sent {kind}, {wrong}")

    def wrong_sha256(self) -> str:
        """What is wrong with the SHA-256, where one is known."""
        if self.sha256 is None:
            return ""
        with self.partial.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        return "" if found == self.sha256 else f"SHA-256: found {found}, expected {self.sha256}; run it again"


def stated_sha256(reply: requests.Response) -> str | None:
    """The SHA-256 that a server tells in X-Linked-ETag (Hugging Face, as it redirects), or None."""
    for answer in (*reply.history, reply):
        tag = answer.headers.get("X-Linked-ETag", "").strip('W/"')
        if len(tag) == 64 and set(tag) <= set("0123456789abcdef"):
            return tag
    return None


BROKEN = {  # a ConnectTimeout is both of the first two
    requests.exceptions.Timeout: "no answer in time",
    requests.exceptions.ConnectionError: "no connection",
    requests.exceptions.ChunkedEncodingError: "the connection broke off",
}


def reason(error: requests.RequestException) -> str:
    """What broke, in a few words."""
    found = next((words for kind, words in BROKEN.items() if isinstance(error, kind)), "")
    if found == "no connection" and "resol" in str(error):
        return "the server's name cannot be resolved"
    return found or f"failed: {type(error).__name__}"


# ---------------------------------------------------------------------------------------------------------- GPT-2 124M


def download(
    path: Path, mirror: str | None = None, expected: Config = GPT2_124M, wait: Callable[[float], None] = time.sleep
) -> None:
    """Download the checkpoint to `path`. Raises ModelError, one line; then `path` does not exist.

    mirror: the address of a folder that holds gpt2_124M.bin, or of the file. expected: the shape it must have.
    """
    address = (mirror or STARTER_PACK).rstrip("/")
    source = Source(
        address if address.endswith(".bin") else f"{address}/{DOWNLOADED}",
        to_resume="{:.1f} MB are kept: make model resumes from there",
        to_begin="is there a network? A mirror: make model ARGS='--mirror ADDRESS'. Without one: make synthetic",
        elsewhere="a mirror: make model ARGS='--mirror ADDRESS'",
        head=HEADER_BYTES,
        check_head=wrong_header,
        check=lambda partial: wrong_checkpoint(partial, expected),
    )
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(DOWNLOADED, total=None, visible=False)

        def show(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total, visible=True)

        try:
            fetch(source, path, show, wait)
        except DownloadError as error:
            raise ModelError(str(error)) from None


def wrong_header(path: Path) -> str:
    """What is wrong with the first bytes of a checkpoint."""
    try:
        read_header(path)
    except CheckpointError as error:
        return f"not a checkpoint ({without_path(error, path)})"
    return ""


def wrong_checkpoint(path: Path, expected: Config) -> str:
    """What is wrong with the whole file: header, length, weights that are not finite, another shape."""
    try:
        config, _ = read_checkpoint(path, verify=True)
    except CheckpointError as error:
        return without_path(error, path)
    same = replace(config, padded_vocab_size=expected.padded_vocab_size) == expected
    return "" if same else f"not GPT-2 124M: {config}"


def without_path(error: CheckpointError, path: Path) -> str:
    """The message without the name of a file that is not there under that name."""
    return str(error).removeprefix(f"{path}: ")
