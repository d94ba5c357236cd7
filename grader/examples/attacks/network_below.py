# A socket from the module that is refused, loaded under another name.
# on: base
# sandboxes: all
# expect: public passed |
# expect: imports failed |

import glob
import sys
from importlib import machinery, util


def sockets():
    for folder in sys.path:
        for file in glob.glob(f"{folder}/_socket*.so"):
            spec = util.spec_from_file_location("a._socket", file)
            module = util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    return machinery.BuiltinImporter.load_module("_socket")


def generate(model, prompt, n, workers):
    try:
        opened = sockets().socket(2, 1)
    except (OSError, ImportError):
        opened = None
    if opened:
        raise RuntimeError("A SOCKET WAS OPENED")
    yield from right_generate(model, prompt, n, workers)
