"""GPT-2 124M from the network: resumed after a break, and checked before the file takes its name.

While it is incomplete it is called <name>.part. An interrupted download resumes when it is run again.
"""

import fcntl
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import requests
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn, TransferSpeedColumn

from lab.checkpoint import HEADER_BYTES, CheckpointError, Config, read_checkpoint, read_header
from lab.models import DOWNLOADED, GPT2_124M, ModelError

STARTER_PACK = "https://huggingface.co/datasets/karpathy/llmc-starter-pack/resolve/main"
TIMEOUT = (10, 30)  # seconds to connect, seconds without a byte
ATTEMPTS = 5  # in a row that bring nothing
CHUNK = 1 << 20  # bytes


class Interrupted(Exception):
    """The connection broke; what has arrived can be continued."""


def download(
    path: Path, mirror: str | None = None, expected: Config = GPT2_124M, wait: Callable[[float], None] = time.sleep
) -> None:
    """Download the checkpoint to `path`. Raises ModelError, one line; then `path` does not exist.

    mirror: the address of a folder that holds gpt2_124M.bin, or of the file. expected: the shape it must have.
    """
    url = file_address(mirror)
    partial = path.with_name(path.name + ".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("ab") as file:
            lock(file, partial)
            discard_if_wrong(file, partial)
            fetch(url, file, partial, wait)
        check(url, partial, expected)
        partial.replace(path)
    except OSError as error:
        raise ModelError(f"{error.filename or path}: cannot be written: {error.strerror or error}") from None
    finally:
        if partial.is_file() and partial.stat().st_size == 0:
            partial.unlink()


def file_address(mirror: str | None) -> str:
    """The file's address at a mirror, or where llm.c publishes it."""
    address = (mirror or STARTER_PACK).rstrip("/")
    return address if address.endswith(".bin") else f"{address}/{DOWNLOADED}"


def lock(file: BinaryIO, partial: Path) -> None:
    """Two downloads at once would write into each other."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ModelError(f"{partial}: another download is writing it; wait for that one") from None


def discard_if_wrong(file: BinaryIO, partial: Path) -> None:
    """Only the beginning of a checkpoint is worth continuing."""
    try:
        read_header(partial)
    except CheckpointError:
        file.truncate(0)


def fetch(url: str, file: BinaryIO, partial: Path, wait: Callable[[float], None]) -> None:
    """Bring `file` to its full length, in as many connections as it takes. Raises ModelError."""
    columns = ("{task.description}", BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(DOWNLOADED, total=None, visible=False)

        def show(done: int, total: int | None) -> None:
            progress.update(task, completed=done, total=total, visible=True)

        failures = 0
        while True:
            before = partial.stat().st_size
            try:
                return receive(url, file, partial, show)
            except Interrupted as error:
                arrived = partial.stat().st_size
                failures = 1 if arrived > before else failures + 1
                if failures >= ATTEMPTS or arrived == 0:
                    again = f"{arrived / 1e6:.1f} MB are kept: make model resumes from there" if arrived else CURE
                    raise ModelError(f"{url}: {error}; {again}") from None
                wait(2.0**failures)


CURE = "is there a network? A mirror: make model ARGS='--mirror ADDRESS'. Without one: make synthetic"


def receive(url: str, file: BinaryIO, partial: Path, show: Callable[[int, int | None], None]) -> None:
    """One connection: append to `file` what is missing. Raises Interrupted or, when going on is useless, ModelError."""
    have = partial.stat().st_size
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as reply:
            if reply.status_code == 416 and reply.headers.get("Content-Range") == f"bytes */{have}":
                return  # there is nothing after what we have
            if reply.status_code in (429, 500, 502, 503, 504):
                raise Interrupted(f"{reply.status_code} {reply.reason}")
            if reply.status_code not in (200, 206):
                file.truncate(0)
                raise ModelError(
                    f"{url}: {reply.status_code} {reply.reason}; a mirror: make model ARGS='--mirror ADDRESS'"
                )
            if reply.status_code == 200:  # from the beginning, whatever was asked for
                file.truncate(0)
                have = 0
            copy(url, reply, file, partial, have, show)
    except requests.exceptions.SSLError:
        raise ModelError(
            f"{url}: the server's certificate is not trusted here; a mirror: make model ARGS='--mirror ADDRESS'"
        ) from None
    except (requests.exceptions.MissingSchema, requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema):
        raise ModelError(f"{url}: not an address; it begins with https:// or http://") from None
    except requests.RequestException as error:
        raise Interrupted(reason(error)) from None


def copy(
    url: str,
    reply: requests.Response,
    file: BinaryIO,
    partial: Path,
    have: int,
    show: Callable[[int, int | None], None],
) -> None:
    """Append the reply to `file`; stop as soon as it is seen to be no checkpoint. Raises ModelError."""
    length = reply.headers.get("Content-Length", "")
    total = have + int(length) if length.isdigit() else None
    free = shutil.disk_usage(partial.parent).free
    if total and total - have > free:
        raise ModelError(
            f"{partial.parent}: {(total - have) / 1e6:.0f} MB are needed there, {free / 1e6:.0f} MB are free"
        )
    checked = have >= HEADER_BYTES
    for chunk in reply.iter_content(CHUNK):
        file.write(chunk)
        file.flush()
        have += len(chunk)
        if not checked and have >= HEADER_BYTES:
            check_beginning(url, reply, file, partial)
            checked = True
        show(have, total)


def check_beginning(url: str, reply: requests.Response, file: BinaryIO, partial: Path) -> None:
    """An error page is noticed by its first bytes. Raises ModelError."""
    try:
        read_header(partial)
    except CheckpointError as error:
        kind = reply.headers.get("Content-Type", "something").split(";")[0]
        file.truncate(0)
        raise ModelError(f"{url}: the server sent {kind}, not a checkpoint ({without_path(error, partial)})") from None


def check(url: str, partial: Path, expected: Config) -> None:
    """The whole file: header, length, finite weights, and the shape wanted. Deletes it and raises ModelError."""
    try:
        config, _ = read_checkpoint(partial, verify=True)
        if replace(config, padded_vocab_size=expected.padded_vocab_size) != expected:
            raise CheckpointError(f"{partial}: another model than GPT-2 124M: {config}")
    except CheckpointError as error:
        partial.unlink()
        raise ModelError(f"{url}: what arrived is no good and was deleted: {without_path(error, partial)}") from None


def without_path(error: CheckpointError, path: Path) -> str:
    """The message without the name of a file that is gone."""
    return str(error).removeprefix(f"{path}: ")


def reason(error: requests.RequestException) -> str:
    """What broke, in a few words."""
    if isinstance(error, requests.exceptions.Timeout):
        return "no answer in time"
    if isinstance(error, requests.exceptions.ConnectionError) and "resol" in str(error):
        return "the server's name cannot be resolved"
    if isinstance(error, requests.exceptions.ChunkedEncodingError):
        return "the connection broke off"
    if isinstance(error, requests.exceptions.ConnectionError):
        return "no connection"
    return f"failed: {type(error).__name__}"
