"""Loaded by the server that forks the grader's processes, before it notes how they handle signals: Ctrl-C, which a
terminal sends to all of them, does nothing to one from its first moment on. It ends with its worker."""

import signal

signal.signal(signal.SIGINT, lambda *_: None)  # a handler, unlike SIG_IGN, is not passed on
