"""Ctrl-C at a moment when nothing is half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class InterruptsWait:
    """A context for short pieces of work, at whose end a Ctrl-C arrives.

    A second one does not wait. It does so while `installed` only.
    """

    def __init__(self):
        self._busy = self._interrupted = False

    def __enter__(self) -> None:
        self._busy = True

    def __exit__(self, kind, *error) -> None:
        self._busy = False
        if self._interrupted and kind is None:
            self._interrupted = False
            raise KeyboardInterrupt

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Stand in for Python's own handler, while no code of the user runs.

        One that the user has installed stays in place, and so does everything in
        threads, which Ctrl-C does not reach.
        """
        python = signal.default_int_handler
        in_main_thread = threading.current_thread() is threading.main_thread()
        if not in_main_thread or signal.getsignal(signal.SIGINT) is not python:
            yield
            return
        signal.signal(signal.SIGINT, self._handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, python)

    def _handle(self, number, frame) -> None:
        if self._busy and not self._interrupted:
            self._interrupted = True
        else:
            raise KeyboardInterrupt
