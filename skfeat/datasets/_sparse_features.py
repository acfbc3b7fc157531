"""Synthetic activations whose features are known."""

from __future__ import annotations

from bisect import bisect_left
from numbers import Integral, Real

import numpy as np
from scipy import sparse
from scipy.special import ndtr, ndtri
from sklearn.utils import check_random_state, gen_batches

from skfeat.utils._sklearn import (
    Interval,
    InvalidParameterError,
    _align_api_if_sparse,
)

__all__ = ["make_sparse_features"]

# Dense numbers held at once besides X: few enough to stay near the processor.
_BLOCK_ELEMENTS = 2**20


def make_sparse_features(
    n_samples=1000,
    n_features=16,
    n_components=64,
    *,
    n_active=4,
    correlation=0.0,
    group_size=4,
    frequency_exponent=0.0,
    noise=0.0,
    offset=0.0,
    random_state=None,
    dtype=np.float64,
):
    """Draw rows that are sparse non-negative combinations of known directions.

    A clean row is ``codes @ dictionary``. Each feature is either off or has a magnitude
    drawn uniformly between 0.5 and 1.5. With more components than features this is the
    setting of superposition [1]_; how often features fire and that they fire together
    can be set, as in [2]_, to resemble the activations of a trained network.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of rows n.

    n_features : int, default=16
        Length d of a row.

    n_components : int, default=64
        Number of known directions m. Up to d of them are orthonormal, more than d are
        independent and uniform on the unit sphere.

    n_active : float, default=4
        Expected number of active features a row; above 0 and at most `n_components`.

    correlation : float, default=0.0
        In [0, 1). Each feature fires where a hidden standard normal variable is below
        a threshold (a Gaussian copula). This is the correlation of these variables
        within a group; between groups they are independent. How often each feature
        fires does not depend on it.

    group_size : int, default=4
        Features of a group. Groups are consecutive: the first `group_size` features
        are the first group. The last group may be smaller.

    frequency_exponent : float, default=0.0
        At least 0. Feature j = 0, 1, ... fires with a probability proportional to
        ``(j + 1) ** -frequency_exponent``. Probabilities that would exceed 1 are 1,
        and the others grow in proportion, so that their sum stays `n_active`.

    noise : float, default=0.0
        Standard deviation of the white noise added to each entry of X, in units of the
        root mean square deviation of the clean entries from their column means. A
        perfect model of the clean rows thus leaves about ``noise**2 / (1 + noise**2)``
        of the variance of X unexplained.

    offset : float, default=0.0
        Length of a constant vector of random direction that is added to each row, in
        units of the root mean square distance of the clean rows from their mean.

    random_state : int, RandomState instance or None, default=None
        Seeds the draws. ``None`` takes numpy's global generator, as in scikit-learn.
        With a seed, dictionary and codes do not depend on `noise` and `offset`.

    dtype : {np.float64, np.float32}, default=np.float64
        Type of what is returned.

    Returns
    -------
    X : ndarray of shape (n, d)
        ``codes @ dictionary``, plus noise and offset.
    codes : CSR of shape (n, m)
        Magnitudes of the active features. They are never held densely as a whole.
    dictionary : ndarray of shape (m, d)
        The directions; each row has norm one.

    Raises
    ------
    InvalidParameterError
        A ValueError, if a parameter is not valid.

    See Also
    --------
    skfeat.metrics.matching_coefficient : How well a fit has found the dictionary.

    Notes
    -----
    `noise` and `offset` are in units of what is drawn: rows that do not vary, as a
    single row, get neither.

    References
    ----------
    .. [1] N. Elhage et al., "Toy Models of Superposition", Transformer Circuits
       Thread, 2022.
    .. [2] L. Sharkey, D. Braun and B. Millidge, "Taking features out of superposition
       with sparse autoencoders", AI Alignment Forum, 2022.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.datasets import make_sparse_features
    >>> X, codes, dictionary = make_sparse_features(n_samples=5000, random_state=0)
    >>> X.shape, codes.shape, dictionary.shape
    ((5000, 16), (5000, 64), (64, 16))
    >>> np.allclose(X, codes @ dictionary)
    True
    >>> print(f"{codes.nnz / 5000:.1f} active features a row")
    4.0 active features a row
    """
    at_least_one = Interval(Integral, 1, None, closed="left")
    not_negative = Interval(Real, 0, None, closed="left")
    _check("n_samples", n_samples, at_least_one)
    _check("n_features", n_features, at_least_one)
    _check("n_components", n_components, at_least_one)
    _check("n_active", n_active, Interval(Real, 0, n_components, closed="right"))
    _check("correlation", correlation, Interval(Real, 0, 1, closed="left"))
    _check("group_size", group_size, at_least_one)
    _check("frequency_exponent", frequency_exponent, not_negative)
    _check("noise", noise, not_negative)
    _check("offset", offset, not_negative)
    if dtype not in (np.float64, np.float32, "float64", "float32"):
        raise InvalidParameterError(
            f"dtype must be np.float64 or np.float32. Got {dtype!r} instead."
        )
    rng = check_random_state(random_state)

    dictionary = _unit_directions(rng, n_components, n_features)
    probabilities = _firing_probabilities(n_components, n_active, frequency_exponent)
    groups = np.arange(n_components) // group_size
    X = np.empty((n_samples, n_features), dtype=dtype)
    parts = []
    for block in _blocks(n_samples, n_components):
        n_rows = block.stop - block.start
        fires = _draw_firing(rng, n_rows, probabilities, correlation, groups)
        codes = sparse.csr_array(fires)
        codes.data = rng.uniform(0.5, 1.5, codes.nnz)
        X[block] = codes @ dictionary
        parts.append(codes.astype(dtype))

    # Drawn even if it is not used, and before the noise: what noise and offset are
    # asked for then changes no other draw.
    direction = _unit_directions(rng, 1, n_features)[0]
    if noise or offset:
        deviation = _deviation(X)
        shift = offset * deviation * direction
        scale = noise * deviation / np.sqrt(n_features)
        for block in _blocks(*X.shape):
            X[block] += shift
            if noise:
                X[block] += scale * rng.standard_normal(X[block].shape)
    codes = sparse.vstack(parts, format="csr")
    return X, _align_api_if_sparse(codes), dictionary.astype(dtype, copy=False)


def _check(name, value, allowed):
    if isinstance(value, bool | np.bool_) or not allowed.is_satisfied_by(value):
        raise InvalidParameterError(f"{name} must be {allowed}. Got {value!r} instead.")


def _blocks(n_rows, n_columns):
    return gen_batches(n_rows, max(1, _BLOCK_ELEMENTS // n_columns))


def _unit_directions(rng, n_directions, n_features):
    """Draw directions uniformly; orthonormal ones if there is room for all."""
    gaussian = rng.standard_normal((n_features, n_directions))
    if n_directions <= n_features:
        orthonormal, upper = np.linalg.qr(gaussian)
        # The signs of the diagonal are LAPACK's choice, not uniform.
        directions = orthonormal * np.where(np.diag(upper) < 0, -1.0, 1.0)
    else:
        directions = gaussian / np.linalg.norm(gaussian, axis=0)
    return np.ascontiguousarray(directions.T)


def _firing_probabilities(n_components, n_active, exponent):
    """Share `n_active` out in proportion to a power law, at most 1 to each feature.

    The first k features get 1, for the smallest k that leaves the next at most 1.
    """

    def weights_from(k):
        # Relative to feature k's, so that steep laws do not underflow.
        return ((k + 1) / np.arange(k + 1, n_components + 1)) ** exponent

    # If k features at probability 1 are enough, so are more: bisection finds them.
    k = bisect_left(
        range(n_components - 1),
        True,
        key=lambda k: n_active - k <= weights_from(k).sum(),
    )
    weights = weights_from(k)
    probabilities = np.ones(n_components)
    probabilities[k:] = (n_active - k) / weights.sum() * weights
    return probabilities


def _draw_firing(rng, n_rows, probabilities, correlation, groups):
    """Draw which features fire on each row, a bool array (n_rows, m).

    Given what a group shares, its features fire independently: so one normal variable
    a group is drawn, and averaging over it gives back `probabilities` exactly.
    """
    if correlation:
        shared = rng.standard_normal((n_rows, groups[-1] + 1))[:, groups]
        shared *= np.sqrt(correlation)
        thresholds = ndtri(probabilities) - shared
        probabilities = ndtr(thresholds / np.sqrt(1 - correlation))
    return rng.uniform(size=(n_rows, len(groups))) < probabilities


def _deviation(X):
    """Root mean square distance of rows from their mean, in float64."""
    mean = X.mean(axis=0, dtype=np.float64)
    total = sum(np.square(X[block] - mean).sum() for block in _blocks(*X.shape))
    return float(np.sqrt(total / len(X)))
