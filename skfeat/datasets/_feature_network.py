"""Layers of known features that are computed from one another."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real

import numpy as np
from scipy import sparse
from sklearn.utils import Bunch, check_random_state

from skfeat.datasets._circuits import CircuitDrawer, Feature
from skfeat.datasets._sparse_features import _blocks, _check, _unit_directions
from skfeat.utils._checks import value_error
from skfeat.utils._sklearn import Interval, _align_api_if_sparse
from skfeat.utils._warnings import warn

# Circuits are drawn this many times, and the one with the most features is taken.
_N_DRAWS = 8
# Inputs of a circuit: fewer leave no room for its operations, truth tables of more
# grow large.
_WIDTHS = (6, 14)
# Beyond, autoencoders do not find the features of a layer (`load` in the docstring).
_MOST_LOAD = 0.2
# Smallest over largest magnitude of the inputs: an OR needs it.
_LEAST_RATIO = 0.6


def make_feature_network(
    n_samples=20_000,
    n_layers=3,
    *,
    n_circuits=12,
    width=10,
    n_hidden=96,
    n_active=3.0,
    together=0.4,
    magnitudes=(0.75, 1.0),
    n_distractors=8,
    noise=0.0,
    random_state=None,
):
    """Draw layers of known features in superposition, each computed from the last.

    The features of the first layer fire sparsely. Those of each later one are
    ``relu(features @ coef.T + intercept)`` of the layer before, with few weights and
    by known logic. Each layer is written as ``features @ dictionary``, in fewer
    dimensions than it has features: in superposition [1]_. So it is known what an
    autoencoder should find in each layer, and a connector between them.

    Parameters
    ----------
    n_samples : int, default=20_000
        Number of rows n.

    n_layers : int, default=3
        Number of layers, at least 2. Paths through the network have one hop fewer.

    n_circuits : int, default=12
        Number of circuits: groups of features that are computed from one another alone.
        Each is on, or off, independently of the others.

    width : int, default=10
        From 6 to 14. Features of a circuit in the first layer, and the most in a later
        one, which may have fewer: only operations that can be identified are drawn.

    n_hidden : int or sequence of int, default=96
        Dimensions d of each layer, or one number for each.

    n_active : float, default=3.0
        Expected number of active features a row in the first layer; above 0 and at most
        ``n_circuits * width * together``, where all circuits are always on.

    together : float, default=0.4
        From 0.3 to 0.5. Probability with which a feature of the first layer fires
        where its circuit is on, independently of the others: how often parents fire
        together.

    magnitudes : pair of float, default=(0.75, 1.0)
        Range in which the magnitudes of active features of the first layer are uniform;
        the lower one at least 0.6 times the upper.

    n_distractors : int, default=8
        Features of each later layer that no earlier one computes, and that none reads.
        They fire at random. (Besides, no feature reads one of each circuit and layer.)

    noise : float, default=0.0
        Standard deviation of the white noise added to each entry of the written layers,
        in units of the root mean square deviation of the clean entries of the layer
        from their column means.

    random_state : int, RandomState instance or None, default=None
        Seeds the draws. With a seed, the network does not depend on `n_samples` and
        `noise`, nor the features on `noise`.

    Returns
    -------
    network : Bunch
        With one item a layer:

        features : list of CSR of shape (n, m)
            The magnitudes.
        activations : list of ndarray of shape (n, d)
            ``features @ dictionary``, plus noise.
        dictionaries : list of ndarray of shape (m, d)
            Directions of norm one: orthonormal if there is room for all, else
            independent and uniform.
        kinds : list of ndarray of shape (m,)
            What each feature is: "input" of the first layer, "copy", "and", "and not",
            "any", "limit", "or" or "distractor".
        circuits : list of ndarray of shape (m,)
            The circuit of each feature; -1 for distractors.
        load : ndarray of shape (n_layers,)
            How full each layer is: ``s * log(m / s) / d`` with s active features a row,
            in proportion to the number of measurements that recover a sparse code
            [2]_ over the number there are.

        and with one item for each layer but the first:

        coefs : list of CSR of shape (m, m of the layer before)
            The weights; rows of zeros for distractors.
        intercepts : list of ndarray of shape (m,)
            What each feature adds to them before its ReLU.

    Raises
    ------
    InvalidParameterError
        A ValueError, if a parameter is not valid.

    Warns
    -----
    UserWarning
        If a layer has too many active features for its dimensions: autoencoders do not
        find its features then, whatever connects them.

    See Also
    --------
    make_feature_network_model : A torch model that computes the same.
    skfeat.metrics.edge_recovery : How well a fit has found the weights.

    Notes
    -----
    The operations, of parents u, v, w whose largest magnitudes are one, up to a scale:

    - "copy": u.
    - "and": ``relu(u + v - t)``, with t just above the largest magnitude of one parent.
    - "and not": ``relu(u - c v)``; the smallest v that fires outweighs the largest u.
    - "or", in two hops: the difference of "any", ``relu(u + v - s)`` with s below the
      smallest magnitude of one parent, and "limit", ``relu(u + v - t + c w)``. However
      many of u and v fire, it is at most ``t - s``: it saturates. w switches it off.

    So each feature fires exactly where its logic says. Other weights or features that
    explain the same rows as well would make recovery meaningless. Therefore parents
    fire together on 15 to 75 % of the rows of the rarer one, and so do no two
    features of a layer on more than 75 %. Features that fire rarely together have a
    linear OR, which may be split at no cost. A feature that fires only where another
    of its layer does is absorbed: an autoencoder writes both as one. Hence "limit"
    fires for w too, and a feature that is copied has no other reader.

    References
    ----------
    .. [1] N. Elhage et al., "Toy Models of Superposition", Transformer Circuits
       Thread, 2022.
    .. [2] E. J. Candès and M. B. Wakin, "An Introduction To Compressive Sampling",
       IEEE Signal Processing Magazine, 2008.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.datasets import make_feature_network
    >>> network = make_feature_network(n_samples=1000, random_state=0)
    >>> [features.shape for features in network.features]
    [(1000, 120), (1000, 115), (1000, 89)]
    >>> first, second = (features.toarray() for features in network.features[:2])
    >>> computed = np.maximum(
    ...     first @ network.coefs[0].toarray().T + network.intercepts[0], 0
    ... )
    >>> known = network.kinds[1] != "distractor"
    >>> np.allclose(second[:, known], computed[:, known])
    True
    """
    _check("n_samples", n_samples, Interval(Integral, 1, None, closed="left"))
    _check("n_layers", n_layers, Interval(Integral, 2, None, closed="left"))
    _check("n_circuits", n_circuits, Interval(Integral, 1, None, closed="left"))
    _check("width", width, Interval(Integral, *_WIDTHS, closed="both"))
    _check("together", together, Interval(Real, 0.3, 0.5, closed="both"))
    most = n_circuits * width * together
    _check("n_active", n_active, Interval(Real, 0, most, closed="right"))
    _check("n_distractors", n_distractors, Interval(Integral, 0, None, closed="left"))
    _check("noise", noise, Interval(Real, 0, None, closed="left"))
    dimensions = _dimensions(n_hidden, n_layers)
    low, high = _magnitudes(magnitudes)
    rng = check_random_state(random_state)

    drawer = CircuitDrawer(rng, width, n_layers, (low, high), together)
    circuits = [
        max((drawer.draw() for _ in range(_N_DRAWS)), key=lambda c: sum(map(len, c)))
        for _ in range(n_circuits)
    ]
    network = _join(circuits, n_distractors)
    network.dictionaries = [
        _unit_directions(rng, len(kinds), d)
        for kinds, d in zip(network.kinds, dimensions, strict=True)
    ]
    rate = n_active / most
    inputs = _draw_inputs(rng, (n_samples, n_circuits, width), rate, together)
    inputs.data = rng.uniform(low, high, inputs.nnz)
    network.features = [inputs]
    for coef, intercept, kinds in zip(
        network.coefs, network.intercepts, network.kinds[1:], strict=True
    ):
        features = _computed(network.features[-1], coef, intercept)
        if n_distractors:
            # As often as an AND of two inputs fires.
            fires = rng.uniform(size=(n_samples, n_distractors)) < rate * together**2
            others = sparse.csr_array(fires, dtype=float)
            others.data = rng.uniform(low, high, others.nnz)
            known = features[:, kinds != "distractor"]
            features = sparse.hstack([known, others], format="csr")
        network.features.append(features)
    network.load = np.array(
        [_load(f, d) for f, d in zip(network.features, dimensions, strict=True)]
    )
    _warn_of_load(network.load)
    network.activations = [
        features @ dictionary
        for features, dictionary in zip(
            network.features, network.dictionaries, strict=True
        )
    ]
    if noise:
        for rows in network.activations:
            scale = noise * np.sqrt(rows.var(axis=0).mean())
            rows += scale * rng.standard_normal(rows.shape)
    for name in ("features", "coefs"):
        network[name] = [_align_api_if_sparse(matrix) for matrix in network[name]]
    return network


def _dimensions(n_hidden, n_layers) -> list[int]:
    """Return the dimensions of each layer."""
    several = isinstance(n_hidden, Sequence | np.ndarray) and not isinstance(
        n_hidden, str
    )
    each = list(n_hidden) if several else [n_hidden] * n_layers
    allowed = Interval(Integral, 1, None, closed="left")
    if len(each) != n_layers or not all(map(allowed.is_satisfied_by, each)):
        raise value_error(
            "n_hidden",
            f"an int of at least 1, or {n_layers} of them, one for each layer",
            n_hidden,
        )
    return [int(d) for d in each]


def _magnitudes(magnitudes) -> tuple[float, float]:
    try:
        low, high = (float(value) for value in magnitudes)
        valid = _LEAST_RATIO * high <= low <= high < np.inf and low > 0
    except (TypeError, ValueError):
        valid = False
    if not valid:
        raise value_error(
            "magnitudes",
            f"two positive numbers, the first at most the second and at least "
            f"{_LEAST_RATIO} times it",
            magnitudes,
        )
    return low, high


def _join(circuits: list[list[list[Feature]]], n_distractors: int) -> Bunch:
    """Put circuits side by side, and distractors after those of each later layer."""
    network = Bunch(coefs=[], intercepts=[], kinds=[], circuits=[])
    for depth, layers in enumerate(zip(*circuits, strict=True)):
        others = n_distractors if depth else 0
        features = [feature for layer in layers for feature in layer]
        kinds = [feature.kind for feature in features] + ["distractor"] * others
        owners = np.repeat(np.arange(len(layers)), [len(layer) for layer in layers])
        network.kinds.append(np.array(kinds))
        network.circuits.append(np.append(owners, [-1] * others).astype(int))
        if not depth:
            continue
        # Where each circuit's features begin in the layer before.
        sizes = [len(circuit[depth - 1]) for circuit in circuits]
        begins = np.cumsum([0, *sizes])
        coef = sparse.lil_array((len(kinds), len(network.kinds[-2])))
        for row, (feature, owner) in enumerate(zip(features, owners, strict=True)):
            for parent, weight in feature.weights.items():
                coef[row, begins[owner] + parent] = weight
        intercepts = [feature.intercept for feature in features] + [0.0] * others
        network.coefs.append(coef.tocsr())
        network.intercepts.append(np.array(intercepts))
    return network


def _draw_inputs(rng, shape, rate, together):
    """Draw which features of the first layer fire, as CSR of ones."""
    n_samples, n_circuits, width = shape
    parts = []
    for block in _blocks(n_samples, n_circuits * width):
        n_rows = block.stop - block.start
        on = rng.uniform(size=(n_rows, n_circuits)) < rate
        fires = rng.uniform(size=(n_rows, n_circuits * width)) < together
        parts.append(sparse.csr_array(fires & np.repeat(on, width, axis=1)))
    return sparse.vstack(parts, format="csr").astype(float)


def _computed(features, coef, intercept):
    """Compute the features of a layer from those before; intercepts are not positive.

    A feature without an active parent is therefore off, and nothing becomes dense.
    """
    sums = (features @ coef.T).tocsr()
    sums.data = np.maximum(sums.data + intercept[sums.indices], 0.0)
    sums.eliminate_zeros()
    sums.sort_indices()
    return sums


def _load(features, n_dimensions) -> float:
    """Measurements that recover a sparse code, over the number that there are."""
    n_rows, m = features.shape
    n_active = features.nnz / n_rows
    return n_active * np.log(m / n_active) / n_dimensions if n_active else 0.0


def _warn_of_load(loads) -> None:
    full = int(np.argmax(loads))
    if loads[full] > _MOST_LOAD:
        warn(
            f"layer {full} has too many active features for its dimensions, with a "
            f"load of {loads[full]:.2g}: autoencoders find the features of layers with "
            f"at most {_MOST_LOAD}. Raise n_hidden or lower n_active."
        )
