"""The pipes to another process."""

from typing import IO, Any


def pipe(stream: IO[Any] | None) -> IO[Any]:
    """One end of a pipe: Popen has None there unless it was asked for one. Raises ValueError."""
    if stream is None:
        raise ValueError("the process was started without this pipe")
    return stream
