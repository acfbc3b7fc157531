"""Dividing a compiled loop among threads."""

from __future__ import annotations

import functools
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from skfeat.kernels._limits import LIMITS

# Rows, or columns, of a matrix product that one thread computes at a time. A product is
# rounded according to its size: cut the same way for any number of threads, it comes
# out the same for any number.
PRODUCT_ROWS = 512


class _SingleThreadedBlas:
    """Limits numpy's matrix products to one thread while any team works.

    The limit applies to the process: the first team to enter sets it and the last one
    to leave restores it, in whatever order teams of different threads do so.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._n_teams = 0

    def enter(self):
        with self._lock:
            if self._n_teams == 0:
                self._libraries = _libraries("blas")
                if self._libraries is not None:
                    self._limits = self._libraries.limit(limits=1)
            self._n_teams += 1

    def leave(self):
        with self._lock:
            self._n_teams -= 1
            if self._n_teams == 0 and self._libraries is not None:
                self._give_up_control()
                self._limits.restore_original_limits()
                self._give_up_control()

    def _give_up_control(self):
        """Let any thread set limits: threadpoolctl obeys only the first that did."""
        for library in self._libraries.lib_controllers:
            if hasattr(library, "clear_controlling_thread"):  # since 3.8
                library.clear_controlling_thread(force=True)


def _libraries(user_api):
    # Limit one API at a time: on exit threadpoolctl restores every library it saw.
    # A network also predicts where there is no scikit-learn: without limits, threads
    # of several libraries compete for the cores, but no result depends on that.
    try:
        from skfeat.utils._sklearn import _get_threadpool_controller
    except ImportError:
        return None
    return _get_threadpool_controller().select(user_api=user_api)


_single_blas = _SingleThreadedBlas()


def one_thread(function):
    """Return the function, limited to the thread that calls it.

    The number of threads of torch and OpenMP is a setting of each thread. That of
    numpy's matrix products is one of the process, restored after the last such call.
    """

    @functools.wraps(function)
    def alone(*args, **kwargs):
        n_threads()  # in a new thread, torch sets its number on the first query
        _single_blas.enter()
        try:
            with _libraries("openmp").limit(limits=1):
                return function(*args, **kwargs)
        finally:
            _single_blas.leave()

    return alone


def n_threads() -> int:
    """Return how many threads torch may use or, if it is not loaded, OpenMP."""
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):
        return torch.get_num_threads()
    limit = os.environ.get("OMP_NUM_THREADS", "")
    if limit.isdecimal() and int(limit) > 0:
        return int(limit)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Team:
    """As many threads as torch may use, for loops that release the GIL.

    The threads exist inside a ``with`` block; outside of it the calling thread works
    alone. Inside, each of numpy's matrix products uses one thread: the team divides
    products too, and idle threads of other libraries would spin on the cores that it
    needs. Numba's own threads are not used: they abort the process when two threads of
    the user fit at once, and joblib's limits do not apply to them.
    """

    def __init__(self):
        self._pool: ThreadPoolExecutor | None = None
        self._n_threads = 1

    def __enter__(self) -> Team:
        self._n_threads = n_threads()
        _single_blas.enter()
        if self._n_threads > 1:
            self._pool = ThreadPoolExecutor(self._n_threads - 1)
        return self

    def __exit__(self, *error) -> None:
        if self._pool is not None:
            self._pool.shutdown()
        _single_blas.leave()
        self._pool, self._n_threads = None, 1

    def run(
        self,
        function: Callable[[int, int], object],
        n: int,
        *,
        n_elements: int,
        cumulative: np.ndarray | None = None,
        multiple: int = 1,
    ) -> None:
        """Call ``function(first, last)`` on ranges that cover 0 to `n`.

        Parameters
        ----------
        function : callable
        n : int
        n_elements : int
            Work, roughly in nanoseconds.
        cumulative : ndarray of shape (n + 1,), optional
            Work before each index, if it differs from index to index.
        multiple : int, default=1
            Ranges begin at multiples of it. A function that processes its range in
            steps of this size computes the same for any number of threads.
        """
        if self._pool is None or n_elements < LIMITS.threaded_work or n <= multiple:
            function(0, n)
            return
        shares = [i / self._n_threads for i in range(self._n_threads + 1)]
        if cumulative is None:
            n_parts = -(-n // multiple)
            cuts = [min(n, int(n_parts * share) * multiple) for share in shares]
        else:
            goals = [cumulative[-1] * share for share in shares[1:-1]]
            cuts = [0, *map(int, cumulative.searchsorted(goals)), n]
        others = [
            self._pool.submit(function, cuts[i], cuts[i + 1])
            for i in range(1, self._n_threads)
        ]
        function(cuts[0], cuts[1])
        for other in others:
            other.result()
