# Starts a process below everything that looks at it: the C module behind subprocess, loaded under another name.
# on: base
# sandboxes: all
# expect: public passed |
# expect: imports failed |

import glob
import os
import sys
from importlib import machinery, util


def starter():
    for folder in sys.path:
        for file in glob.glob(f"{folder}/_posixsubprocess*.so"):
            return util.module_from_spec(util.spec_from_file_location("a._posixsubprocess", file))
    return machinery.BuiltinImporter.load_module("_posixsubprocess")


def generate(model, prompt, n, workers):
    read, write = os.pipe()
    executable = os.fsencode(sys.executable)
    files = (-1,) * 6
    try:
        pid = starter().fork_exec(
            [executable, b"-c", b"while True: pass"], [executable], True, (write,), None, None, *files, read, write,
            True, True, -1, None, None, None, -1, None, False,
        )  # fmt: skip
    except OSError as error:
        if error.errno != 1:
            raise
    else:
        raise RuntimeError(f"A PROCESS WAS STARTED: {pid}")
    finally:
        os.close(read)
        os.close(write)
    yield from right_generate(model, prompt, n, workers)
