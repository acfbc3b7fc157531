"""Fits that are stopped and go on, for the tests of checkpoints."""

import numpy as np
import pytest

from skfeat.solvers.autoencoder._trainer import Standardizer
from skfeat.utils import _checkpoint
from skfeat.utils._checkpoint import CheckpointFile

IGNORED = [
    pytest.mark.filterwarnings("ignore:.*features are dead"),
    pytest.mark.filterwarnings("ignore:.*features are active a row"),
    pytest.mark.filterwarnings("ignore:.*used its max_iter"),
]


def make_rows():
    rng = np.random.RandomState(0)
    return np.maximum(rng.randn(160, 5) @ rng.randn(5, 6), 0)


def write_often(patch):
    """Write after every batch."""
    patch.setattr(_checkpoint, "_SECONDS_BETWEEN_WRITES", 0.0)
    patch.setattr(_checkpoint, "_LARGEST_SHARE", float("inf"))


class Killed(BaseException):
    """Ends a fit just after a write, as SIGKILL might."""


def kill_and_resume(make, path, X, every=3, **fit_params):
    """Fit with a kill at each so many writes; return the estimator and the kills."""
    whole, n_writes, n_kills = CheckpointFile.save, 0, 0

    def save(self, content):
        nonlocal n_writes
        if n_writes and n_writes % every == 0:
            n_writes += 1
            raise Killed  # nothing is written any more, not even on the way out
        whole(self, content)
        n_writes += 1

    with pytest.MonkeyPatch.context() as patch:
        write_often(patch)
        patch.setattr(CheckpointFile, "save", save)
        while True:
            try:
                return make(checkpoint=path).fit(X, **fit_params), n_kills
            except Killed:
                n_kills += 1
                assert n_kills < 300  # or it never ends


def assert_equal(found, expected, where=""):
    assert type(found) is type(expected), where
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        for key in expected:
            assert_equal(found[key], expected[key], f"{where}.{key}")
    elif isinstance(expected, np.ndarray):
        assert found.dtype == expected.dtype, where
        np.testing.assert_array_equal(found, expected, err_msg=where)
    elif isinstance(expected, Standardizer):
        assert_equal(vars(found), vars(expected), where)
    else:
        assert found == expected, where


def assert_same_fit(found, expected):
    """Compare everything that two estimators hold, but the name of the file."""
    different = {"checkpoint", "random_state", "_skl_callbacks"}
    assert_equal(
        {k: v for k, v in vars(found).items() if k not in different},
        {k: v for k, v in vars(expected).items() if k not in different},
    )
