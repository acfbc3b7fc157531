"""Which autoencoders of an unwrapper are trained side by side, in threads."""

import numpy as np
import pytest

from skfeat import SparseAutoencoder
from skfeat._fitting import _gains_beside_others
from skfeat.kernels._optional import has_numba


@pytest.mark.parametrize(
    ("n_rows", "changes", "gains"),
    [
        # Nothing is compiled: threads would wait for one another.
        (1_000, {"max_iter": 350}, False),
        (1_000_000, {}, has_numba()),
        (1_000_000, {"batch_size": 65_536}, False),  # one gains from both threads
        (1_000_000, {"max_iter": 1}, has_numba()),
        (1_000, {"max_iter": 1}, False),
        (1_000, {"batch_size": "many"}, False),  # `fit` says what is wrong
    ],
)
def test_small_ones_whose_loops_are_compiled(n_rows, changes, gains):
    rows = np.broadcast_to(np.float32(0), (n_rows, 64))
    assert _gains_beside_others(SparseAutoencoder(256, **changes), rows) == gains
