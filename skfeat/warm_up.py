"""Compile the loops of large fits ahead: ``python -m skfeat.warm_up``.

Small fits compile nothing. The first large one compiles loops for its own kind of
problem, which takes some ten seconds, and numba keeps them in the folder that
`NUMBA_CACHE_DIR` names, by default beside the installed modules. This compiles those of
common fits at once, as when an image of a container is built.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict

import numpy as np
from scipy import sparse
from torch import nn

from skfeat.autoencoder import SparseAutoencoder
from skfeat.connector import FeatureConnector
from skfeat.kernels._limits import LIMITS
from skfeat.kernels._optional import has_numba
from skfeat.unwrapper import FeatureUnwrapper
from skfeat.utils._sklearn import InvalidParameterError
from skfeat.utils._torch import make_generator

__all__ = ["warm_up"]

_WIDE, _NARROW = 320, 32


def warm_up(verbose: int = 1) -> dict[str, float]:
    """Compile the loops of common large fits, where that has not been done.

    These are fits of `SparseAutoencoder` with top-k and with ReLU codes, narrow and
    wide, to rows of float32 and float64; of `FeatureConnector` by both links; and of
    `FeatureUnwrapper`, with the prediction of its network. Other fits, such as those
    with `precision="int8"`, compile when they first run.

    Parameters
    ----------
    verbose : int, default=1
        1: print a line after each kind of fit; 0: print nothing.

    Returns
    -------
    dict of str to float
        Seconds that each kind of fit took; a second time they are few.

    Raises
    ------
    ImportError
        If numba is not installed, without which nothing is compiled.

    Examples
    --------
    >>> from skfeat.warm_up import warm_up
    >>> seconds = warm_up(verbose=0)  # doctest: +SKIP
    """
    if verbose not in (0, 1):
        raise InvalidParameterError(
            f"The 'verbose' parameter must be 0 or 1. Got {verbose!r} instead."
        )
    if not has_numba():
        raise ImportError(
            "warm_up needs numba, without which skfeat compiles nothing; install it "
            "with pip install 'skfeat[fast]'."
        )
    seconds = {}
    with _as_large_fits(), warnings.catch_warnings():
        # These fits are too short to be of use.
        warnings.simplefilter("ignore")
        for name, fit in _fits().items():
            start = time.perf_counter()
            fit()
            seconds[name] = time.perf_counter() - start
            if verbose:
                print(f"{name}: {seconds[name]:.1f} s", flush=True)
    return seconds


@contextmanager
def _as_large_fits() -> Iterator[None]:
    """Let small problems run what large ones run."""
    before = asdict(LIMITS)
    try:
        for name in before:
            if name.startswith("compiled_"):
                setattr(LIMITS, name, 0)
        yield
    finally:
        for name, value in before.items():
            setattr(LIMITS, name, value)


def _fits() -> dict[str, Callable[[], object]]:
    """Return a fit of each kind, by what to call it."""
    rng = np.random.default_rng(0)
    narrow, wide = (rng.random((600, d)).astype(np.float32) for d in (_NARROW, _WIDE))
    X = sparse.random_array((600, 60), density=0.05, random_state=rng, format="csr")
    Y = np.maximum(X @ rng.standard_normal((60, 40)), 0)

    def autoencoder(rows, **params):
        m = 2 * rows.shape[1]
        params = {"k": 4, "max_iter": 2, "random_state": 0} | params
        return SparseAutoencoder(m, **params).fit(rows).transform(rows)

    def connector(link):
        return FeatureConnector(1e-3, link=link, random_state=0).fit(X, Y).predict(X)

    return {
        "narrow top-k": lambda: autoencoder(narrow),
        "narrow top-k, float64 rows": lambda: autoencoder(narrow.astype(np.float64)),
        "wide top-k": lambda: autoencoder(wide),
        "narrow ReLU": lambda: autoencoder(narrow, activation="relu"),
        "wide ReLU": lambda: autoencoder(wide, activation="relu"),
        "linear connector": lambda: connector("identity"),
        "rectified connector": lambda: connector("relu"),
        "unwrapping": lambda: _unwrap(narrow),
    }


def _unwrap(rows: np.ndarray) -> np.ndarray:
    """Unwrap an untrained network, and predict with its sparse network."""
    layers = [nn.Linear(_NARROW, 24), nn.ReLU(), nn.Linear(24, 24), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(24, 5))
    generator = make_generator(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3, generator=generator)
    unwrapper = FeatureUnwrapper(
        model,
        autoencoder=SparseAutoencoder(64, k=4, max_iter=2),
        n_nonzero_coefs=200,
        connect_input=True,
        connect_output=True,
        max_iter=30,
        random_state=0,
    )
    return unwrapper.fit(rows).network().compact().predict_raw(rows)


if __name__ == "__main__":
    warm_up()
