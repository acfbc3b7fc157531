"""A world of features that form trees, correlate and share dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.utils import check_random_state

from skfeat.datasets._sparse_features import _check
from skfeat.datasets._world_draws import (
    CodeSampler,
    compensated,
    draw_directions,
    draw_exclusive,
    draw_factors,
    draw_parents,
)
from skfeat.utils._checks import check_flag, value_error
from skfeat.utils._sklearn import (
    Interval,
    InvalidParameterError,
    _align_api_if_sparse,
)


class FeatureWorld:
    """Known features, and how often, how strongly and with which others they fire.

    Made by :func:`make_feature_world`, which says what the parts are for.

    Parameters
    ----------
    dictionary : ndarray of shape (m, d)
        Directions of norm one.
    bias : ndarray of shape (d,)
        Added to each row.
    rates : ndarray of shape (m,)
        Share of the rows on which each feature should fire.
    sampler : CodeSampler
        Draws codes.

    Attributes
    ----------
    dictionary, bias, rates : ndarray
        As above.
    parents : ndarray of int of shape (m,)
        The feature without which each one does not fire; -1 for none.
    exclusive : ndarray of bool of shape (m,)
        Features of whose children at most one fires on a row.
    probabilities : ndarray of shape (m,)
        With which features fire where their parent does, before those that exclude one
        another are sorted out.
    factors : ndarray of shape (m, rank)
        Weights of the shared normal variables that correlate features.
    means, deviations : ndarray of shape (m,)
        Of the magnitudes with which features fire, before a child's is scaled.
    scaled : bool
        Whether children have their parent's magnitude, over its mean, as a factor.

    Examples
    --------
    >>> from skfeat.datasets import make_feature_world
    >>> world = make_feature_world(64, 16, n_trees=4, random_state=0)
    >>> X, codes = world.sample(100, random_state=0)
    >>> X.shape, codes.shape
    ((100, 16), (100, 64))
    """

    def __init__(
        self,
        dictionary: np.ndarray,
        bias: np.ndarray,
        rates: np.ndarray,
        sampler: CodeSampler,
    ):
        self.dictionary = dictionary
        self.bias = bias
        self.rates = rates
        self._sampler = sampler
        self.parents = sampler.parents
        self.exclusive = sampler.exclusive
        self.probabilities = sampler.probabilities
        self.factors = sampler.factors
        self.means = sampler.means
        self.deviations = sampler.deviations
        self.scaled = sampler.scaled

    def sample(
        self, n_samples: int = 1, random_state=None
    ) -> tuple[np.ndarray, sparse.csr_array]:
        """Draw rows, and the codes they are made of.

        Parameters
        ----------
        n_samples : int, default=1
            Number of rows n.
        random_state : int, RandomState instance or None, default=None
            Seeds the draws.

        Returns
        -------
        X : ndarray of shape (n, d)
            ``codes @ dictionary + bias``.
        codes : CSR of shape (n, m)
            Magnitudes of the features that fire. They are never held densely.

        Raises
        ------
        InvalidParameterError
            A ValueError, if `n_samples` is not an int of at least 1.
        """
        _check("n_samples", n_samples, Interval(Integral, 1, None, closed="left"))
        seed = check_random_state(random_state).randint(2**31, size=4)
        # Single-precision draws, and fast ones, which RandomState does not have.
        rng = np.random.Generator(np.random.SFC64(seed))
        dtype = self.dictionary.dtype
        X = np.empty((n_samples, self.dictionary.shape[1]), dtype=dtype)
        parts, begin = [], 0
        for n_rows in self._sampler.blocks(n_samples):
            codes = self._sampler.draw(rng, n_rows).astype(dtype)
            block = X[begin : begin + n_rows]
            np.add(codes @ self.dictionary, self.bias, out=block)
            parts.append(codes)
            begin += n_rows
        return X, _align_api_if_sparse(sparse.vstack(parts, format="csr"))

    def __repr__(self) -> str:
        m, d = self.dictionary.shape
        return f"<FeatureWorld of {m} features in {d} dimensions>"


def make_feature_world(
    n_components=2048,
    n_features=256,
    *,
    rates=(0.4, 5e-4),
    frequency_exponent=0.5,
    n_trees=32,
    n_children=3,
    depth=3,
    exclusive=1.0,
    compensate=True,
    scaled=True,
    correlation_rank=25,
    correlation_scale=0.1,
    magnitudes=(5.0, 4.0),
    deviations=(0.5, 0.5),
    n_orthogonal_steps=100,
    bias=0.5,
    random_state=None,
    dtype=np.float32,
):
    """Make a world of known features from which rows can be drawn without end.

    A row is ``codes @ dictionary + bias``, of features that resemble those of a
    language model in five ways: a few fire often and most hardly ever; some fire only
    where a more general one does, their parent, and children of the same parent exclude
    one another; they correlate; they fire with different strengths; and there are many
    more of them than dimensions. It is the generator of SynthSAEBench [1]_, in which
    trained autoencoders show the faults that they have on language models: features
    that are absorbed by those below them, and features that several are mixed in. The
    defaults are those of its published world, but for an eighth of the features, a
    third of the dimensions, a quarter of the trees, and three children, not four.

    Parameters
    ----------
    n_components : int, default=2048
        Number of features m.

    n_features : int, default=256
        Dimensions d.

    rates : pair of float, default=(0.4, 5e-4)
        Largest and smallest share of the rows on which a feature fires, between which
        those of features 1, 2, ... fall as a power law: ``low + (high - low) * s``,
        with s from 1 to 0 and linear in ``rank ** -frequency_exponent``.

    frequency_exponent : float, default=0.5
        Above 0.

    n_trees : int, default=32
        Trees, the roots of which are the first features; 0 for none. They are grown
        level by level from the features that come next, while there are any; features
        left over belong to no tree.

    n_children : int or pair of int, default=3
        Children of each feature of a tree that is not a leaf, or the least and the
        most of them, between which each number is drawn.

    depth : int, default=3
        Levels of a tree below its root.

    exclusive : float, default=1.0
        Share of the features with two or more children of which at most one child fires
        on a row. Of several that would, one is drawn.

    compensate : bool, default=True
        Raise the probabilities of children, given that their parent fires, so that
        features of trees fire about as often as `rates` says. Where that is more than
        the parent does, they fire less. ``False``: a child fires with its own rate
        where its parent does, thus much more rarely.

    scaled : bool, default=True
        Multiply a child's magnitude by that of its parent on the row, over the parent's
        mean. ``False``: magnitudes are independent.

    correlation_rank : int, default=25
        Normal variables that features share; 0 for none. Each fires where the sum of
        one of its own and its share in these is above a threshold.

    correlation_scale : float, default=0.1
        Standard deviation of the weights of the shared variables. Two features' hidden
        variables have a correlation of about ``scale ** 2 * sqrt(rank)``, of either
        sign.

    magnitudes : pair of float, default=(5.0, 4.0)
        Mean magnitude of the first and of the last feature, between which those of the
        others are spaced evenly; positive.

    deviations : pair of float, default=(0.5, 0.5)
        Mean and standard deviation of a normal variable the magnitude of which is the
        standard deviation of a feature's magnitudes. These are normal; a feature does
        not fire where they are not positive.

    n_orthogonal_steps : int, default=100
        Steps that make random directions more orthogonal, by gradient descent on their
        squared products; 0 for random directions.

    bias : float, default=0.5
        Length of a vector of random direction that is added to each row.

    random_state : int, RandomState instance or None, default=None
        Seeds the world. Rows have seeds of their own.

    dtype : {np.float32, np.float64}, default=np.float32
        Type of the dictionary, and of rows and codes.

    Returns
    -------
    world : FeatureWorld
        With the known parts as attributes, and a method `sample`.

    Raises
    ------
    InvalidParameterError
        A ValueError, if a parameter is not valid.

    See Also
    --------
    make_sparse_features : Rows with a known dictionary, without trees.
    skfeat.metrics.feature_detection : How well a fit tells where features fire.

    Notes
    -----
    All features that have no parent are drawn for each row, others only where their
    parent fires; codes stay sparse throughout. That makes about fifty thousand
    rows of the default world a second on one core.

    References
    ----------
    .. [1] D. Chanin and A. Garriga-Alonso, "SynthSAEBench: Evaluating Sparse
       Autoencoders on Scalable Realistic Synthetic Data", 2026.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.datasets import make_feature_world
    >>> world = make_feature_world(256, 64, n_trees=8, random_state=0)
    >>> X, codes = world.sample(1000, random_state=0)
    >>> X.shape, codes.shape
    ((1000, 64), (1000, 256))
    >>> child = int(np.flatnonzero(world.parents == 0)[0])
    >>> fires = codes.toarray() > 0
    >>> bool(fires[fires[:, child], 0].all())  # a child never fires without its parent
    True
    """
    at_least_one = Interval(Integral, 1, None, closed="left")
    not_negative = Interval(Integral, 0, None, closed="left")
    _check("n_components", n_components, at_least_one)
    _check("n_features", n_features, at_least_one)
    _check("n_trees", n_trees, not_negative)
    _check("depth", depth, at_least_one)
    _check("correlation_rank", correlation_rank, not_negative)
    _check("n_orthogonal_steps", n_orthogonal_steps, not_negative)
    _check(
        "frequency_exponent",
        frequency_exponent,
        Interval(Real, 0, None, closed="neither"),
    )
    _check("exclusive", exclusive, Interval(Real, 0, 1, closed="both"))
    for name, value in (("correlation_scale", correlation_scale), ("bias", bias)):
        _check(name, value, Interval(Real, 0, None, closed="left"))
    if dtype not in (np.float64, np.float32, "float64", "float32"):
        raise InvalidParameterError(
            f"dtype must be np.float32 or np.float64. Got {dtype!r} instead."
        )
    high, low = _pair(
        "rates",
        rates,
        "two numbers above 0 and at most 1, the first at least the second",
        lambda high, low: 0 < low <= high <= 1,
    )
    begin, end = _pair(
        "magnitudes",
        magnitudes,
        "two positive numbers",
        lambda begin, end: 0 < begin < np.inf and 0 < end < np.inf,
    )
    mean, spread = _pair(
        "deviations",
        deviations,
        "two finite numbers of at least 0",
        lambda mean, spread: 0 <= mean < np.inf and 0 <= spread < np.inf,
    )
    children = _children(n_children)
    rng = check_random_state(random_state)

    rates = _rates(n_components, high, low, frequency_exponent)
    parents = draw_parents(rng, n_components, n_trees, children, depth)
    is_exclusive = draw_exclusive(rng, parents, exclusive)
    sampler = CodeSampler(
        parents=parents,
        exclusive=is_exclusive,
        probabilities=compensated(rates, parents, is_exclusive)
        if check_flag("compensate", compensate)
        else rates,
        factors=draw_factors(rng, n_components, correlation_rank, correlation_scale),
        means=np.linspace(begin, end, n_components),
        deviations=np.abs(mean + spread * rng.standard_normal(n_components)),
        scaled=check_flag("scaled", scaled),
    )
    shift = rng.standard_normal(n_features)
    shift *= bias / np.linalg.norm(shift)
    dictionary = draw_directions(
        rng, n_components, n_features, n_orthogonal_steps, np.dtype(dtype)
    )
    return FeatureWorld(dictionary, shift.astype(dtype), rates, sampler)


def _rates(n_components, high, low, exponent) -> np.ndarray:
    """Return a power law of the rank, moved and scaled to lie between two rates."""
    law = np.arange(1.0, n_components + 1) ** -exponent
    share = (law - law[-1]) / (1.0 - law[-1]) if n_components > 1 else np.ones(1)
    return low + (high - low) * share


def _pair(name, values, allowed, is_valid) -> tuple[float, float]:
    """Return two numbers as floats, or say what they must be."""
    try:
        first, second = (float(value) for value in values)
    except (TypeError, ValueError):
        raise value_error(name, allowed, values) from None
    if not is_valid(first, second):
        raise value_error(name, allowed, values)
    return first, second


def _children(n_children) -> tuple[int, int]:
    """Return the least and the most children of a feature."""
    several = isinstance(n_children, Sequence | np.ndarray)
    each = list(n_children) if several else [n_children] * 2
    allowed = Interval(Integral, 1, None, closed="left")
    valid = len(each) == 2 and all(map(allowed.is_satisfied_by, each))
    if not valid or each[0] > each[1]:
        raise value_error(
            "n_children",
            "an int of at least 1, or two of them, the least and the most",
            n_children,
        )
    return int(each[0]), int(each[1])
