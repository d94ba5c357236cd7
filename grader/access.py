"""Who may read what: the modes of files and of the folders above them."""

import stat
from pathlib import Path


def enterable(folder: Path) -> bool:
    """Whether any user may go through this folder and all above it."""
    folder = folder.resolve()
    try:
        return all(step.stat().st_mode & stat.S_IXOTH for step in (folder, *folder.parents))
    except OSError:
        return False


def reachable(path: Path) -> bool:
    """Whether any user may read this file, or list this folder."""
    path = path.resolve()
    try:
        return enterable(path.parent) and bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def open_to_all(folder: Path) -> None:
    """Let every user read a folder of our own and all in it."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() else 0o644)
