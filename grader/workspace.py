"""The folder of one grading. All that a submission may read is put there, or left where it is, readable for whoever
will read it: in a sandbox of root's that is another user, whatever the umask, TMPDIR or the modes of files say.
"""

import os
import shutil
import tempfile
from pathlib import Path

from grader.access import enterable, open_to_all, reachable
from grader.sandbox import Sandbox, SandboxError

PLACES = ("/tmp", "/var/tmp", "/dev/shm")  # where anybody may enter, should TMPDIR be closed to others


def temporary_folder(box: Sandbox) -> tempfile.TemporaryDirectory:
    """A folder that programs in the sandbox can reach, and that is removed in the end. Raises SandboxError."""
    places = [tempfile.gettempdir(), *PLACES]
    if box.backend == "other-user":
        places = [place for place in places if enterable(Path(place))]
    for place in places:
        try:
            folder = tempfile.TemporaryDirectory(prefix="grade-", dir=place, ignore_cleanup_errors=True)
        except OSError:
            continue
        os.chmod(folder.name, 0o755)
        return folder
    raise SandboxError(f"no temporary folder can be made in {', '.join(places) or tempfile.gettempdir()}: set TMPDIR")


def readable(path: Path, box: Sandbox, folder: Path) -> Path:
    """This file where the program in the sandbox can read it: itself, or a copy in `folder`."""
    path = path.resolve()
    if not box.as_other_user or reachable(path):
        return path
    copy = Path(tempfile.mkdtemp(dir=folder), path.name)
    shutil.copyfile(path, copy)
    open_to_all(copy.parent)
    return copy
