"""Whether rows may be mixed: what a model makes of mixtures, beside what of rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from skfeat.utils._distributed import agreed
from skfeat.utils._rows import Batch, mapped_file, release
from skfeat.utils._warnings import warn

# Mixtures that are looked at, of rows from all over the data, and how many at a time.
N_PROBED = 4096
_BLOCK = 512
# How many times as large as any row's the values of a mixture may be. Between its rows
# a network of linear layers and rectifiers gives no larger values than theirs, more or
# less; one that divides by its inputs does, and these would be all it is trained on.
_FARTHEST = 4.0


def share_that_suits(
    share: float,
    batch_size: int,
    X: np.ndarray,
    compute: Callable[[np.ndarray], Sequence[np.ndarray]],
    names: Sequence[str],
    first: Callable[[np.ndarray], np.ndarray] = np.asarray,
    n_probed: int = N_PROBED,
) -> float:
    """Return the share of rows to mix, zero with a warning if mixtures are no rows.

    Parameters
    ----------
    share : float
        That of each batch which is asked for.
    batch_size : int
    X : ndarray of shape (n, d)
    compute : callable
        Maps rows, or mixtures of them, to tables of values (n_values, d_i), those of
        each layer and the outputs.
    names : sequence of str
        What each table is called, for the warning.
    first : callable, default=np.asarray
        What is made of rows of X before they are mixed.
    n_probed : int, default=4096
        Mixtures to look at.
    """
    if share == 0:
        return share
    if batch_size < len(X) and (batch_size == 1 or round(share * batch_size) == 0):
        warn(
            f"mixup={share:g} mixes no rows of minibatches of {batch_size}; a larger "
            "batch_size does."
        )
        return 0.0
    ids = np.linspace(0, len(X) - 1, n_probed).astype(np.int64)
    batch = Batch(ids, X, ids)
    with np.errstate(all="ignore"):
        of_rows = _reach(batch, compute, first)
        of_mixtures = _reach(batch.mixed(1.0, np.random.default_rng(0)), compute, first)
        times = of_mixtures / np.where(of_rows > 0, of_rows, np.inf)
    if agreed(bool(np.all(times <= _FARTHEST))):
        return share
    # What is not a number is the worst.
    worst = int(np.argmax(np.where(np.isfinite(times), times, np.inf)))
    found = f"up to {times[worst]:.2g} times as large for mixtures of rows as for rows"
    if not np.isfinite(times[worst]):
        found = "not finite for mixtures of rows"
    warn(
        f"{names[worst]} are {found}; no rows are mixed in this fit. Set mixup=0 to "
        "choose that."
    )
    return 0.0


def _reach(
    batch: Batch,
    compute: Callable[[np.ndarray], Sequence[np.ndarray]],
    first: Callable[[np.ndarray], np.ndarray],
) -> np.ndarray:
    """Return how long the longest row of each table is."""
    n, longest = len(batch.ids), []
    for block in np.array_split(np.arange(n), -(-n // _BLOCK)):
        tables = compute(batch.take(block).rows(first))
        release(mapped_file(batch.source))
        squares = [
            np.square(values.astype(np.float64)).sum(axis=1) for values in tables
        ]
        longest.append([values.max() for values in squares])
    return np.sqrt(np.max(longest, axis=0))
