"""Ctrl-C at a moment when nothing is half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_wait() -> Iterator[None]:
    """Let Ctrl-C wait until a short piece of work is whole; a second one does not wait.

    Python's own handler is put back at the end, before any code of the user runs. One
    that the user has installed stays in place all the time, and so does everything in
    threads, which Ctrl-C does not reach.
    """
    python = signal.default_int_handler
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGINT) is not python:
        yield
        return
    interrupted = False

    def wait(number, frame):
        nonlocal interrupted
        interrupted = True
        signal.signal(signal.SIGINT, python)

    signal.signal(signal.SIGINT, wait)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, python)
    if interrupted:
        raise KeyboardInterrupt
