"""A parallel-programming lab around a faithful port of gpt.c (GPT-2 inference).

Importing any module of the lab first pins the BLAS library inside numpy to one thread, while that can still be done
through the environment: the lab's threads are the ones in `threadlib`, and no others. `onethread` checks that it
worked.

While a command is still loading, Ctrl-C ends it without a word; `command.quietly` takes over from there. A command also
looks for modules in the current folder and the lab's last, where python -m puts them first: somebody's random.py is not
Python's.
"""

import os as _os
import signal as _signal
import sys as _sys

BLAS_THREAD_VARIABLES = (
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "OMP_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
)
for _variable in BLAS_THREAD_VARIABLES:
    _os.environ[_variable] = "1"


def interrupted_while_loading(*_: object) -> None:
    """What SIGINT does until the command begins: nothing has been done that could be lost."""
    _os._exit(130)


_command = _sys.argv[0] if _sys.argv else ""  # "-m" as long as python -m looks for its module
_is_command = _command == "-m" or _os.path.basename(_command) in ("gpt", "gpt-chat")
if _is_command and _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
    _signal.signal(_signal.SIGINT, interrupted_while_loading)
if _is_command:
    _here = {"", _os.path.dirname(_os.path.dirname(_os.path.abspath(__file__)))}
    _here |= set() if _sys.flags.safe_path else {_sys.path[0]}
    _sys.path.sort(key=lambda folder: folder in _here)
