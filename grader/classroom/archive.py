"""Zip files that are the same, byte for byte, whenever and wherever they are made.

Nothing is compressed: two versions of zlib compress the same text differently.
"""

import zipfile
from collections.abc import Container, Mapping
from pathlib import Path

from lab.files import replacing

LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can name


def write_zip(path: Path, files: Mapping[str, str | bytes], executable: Container[str] = ()) -> Path:
    """A zip of these files, name -> content. Raises WriteError."""
    with replacing(path) as partial, zipfile.ZipFile(partial, "w") as archive:
        for name, text in sorted(files.items()):
            info = zipfile.ZipInfo(name, LONG_AGO)
            info.external_attr = (0o100755 if name in executable else 0o100644) << 16
            archive.writestr(info, text)
    return path
