"""Ctrl-C at a moment when nothing is half done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

_Result = TypeVar("_Result")

# Of this thread: set once what it does is to end.
_ENDED: ContextVar[threading.Event | None] = ContextVar("skfeat_ended", default=None)


class EndTogether:
    """Work in several threads, all of which end where one of them does not finish.

    Ctrl-C reaches the main thread alone, which waits for the others: without this they
    would go on, unseen, when the call that began them has long ended.
    """

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._changed = threading.Condition()
        self._n_running = 0

    def part(self, function: Callable[..., _Result]) -> Callable[..., _Result]:
        """Make a function one that ends when the others do, with KeyboardInterrupt."""

        def run(*args, **options) -> _Result:
            with self._changed:
                if self._ended.is_set():
                    raise KeyboardInterrupt
                self._n_running += 1
            token = _ENDED.set(self._ended)
            try:
                return function(*args, **options)
            finally:
                _ENDED.reset(token)
                with self._changed:
                    self._n_running -= 1
                    self._changed.notify_all()

        return run

    @contextmanager
    def joined(self) -> Iterator[None]:
        """Wait, where an error leaves this context, until all parts have ended."""
        try:
            yield
        except BaseException:
            with self._changed:
                self._ended.set()
                self._changed.wait_for(lambda: self._n_running == 0)
            raise


def end_if_others_have() -> None:
    """Raise KeyboardInterrupt in a part of `EndTogether` that is to end."""
    ended = _ENDED.get()
    if ended is not None and ended.is_set():
        raise KeyboardInterrupt


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Let no Ctrl-C arrive in work that ends soon, and whose callbacks would lose it.

    However many came, the handler that was there is called once at the end. It is
    called in the main thread, which alone receives signals.
    """
    handler = None
    if threading.current_thread() is threading.main_thread():
        handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):  # None, or the signal is ignored or ends the process
        yield
        return
    arrived: list[tuple] = []
    signal.signal(
        signal.SIGINT, lambda *signal_and_frame: arrived.append(signal_and_frame)
    )
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if arrived:
            handler(*arrived[0])


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
        if kind is None:
            end_if_others_have()

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
