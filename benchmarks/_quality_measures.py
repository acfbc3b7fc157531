"""What is measured of a network of features on held-out rows, and of two fits."""

from __future__ import annotations

import numpy as np
from scipy import sparse

from skfeat.metrics import (
    class_purity,
    description_length,
    edge_stability,
    feature_density,
    match_features,
)


def readers_of(network):
    """Return the weights that read each layer's features."""
    return [*network.coefs_, sparse.csr_array(network.decoder_coef_.T)]


def measure_firing(features, used, y, n_top, brings=None):
    """Return, for each layer, means over the features that are used.

    Parameters
    ----------
    features : list of ndarray of shape (n, m_l)
    used : list of ndarray of bool of shape (m_l,)
    y : ndarray of shape (n,)
    n_top : int
        Rows that dense and sparse features are compared on.
    brings : list of ndarray of shape (m_l,), default=None
        What each feature brings to outputs; None: nothing is known of it.
    """
    found = []
    for layer, (codes, is_used) in enumerate(zip(features, used, strict=True)):
        codes = codes[:, is_used]
        by_activation = class_purity(codes, y)
        by_count = class_purity(codes, y, weight_by="count")
        top = class_purity(codes, y, n_top=n_top)
        found.append(
            {
                "used": int(is_used.sum()),
                "density": float(feature_density(codes).mean()),
                "purity": _mean(by_activation.purity),
                "purity by count": _mean(by_count.purity),
                "entropy": _mean(by_activation.entropy),
                "entropy by count": _mean(by_count.entropy),
                "selectivity": _mean(by_activation.selectivity),
                "selectivity by count": _mean(by_count.selectivity),
                "selectivity of the top": _mean(top.selectivity),
                "quantiles of the top": _quantiles(top.selectivity),
            }
        )
        if brings is not None:
            share = brings[layer][is_used]
            known = ~np.isnan(top.selectivity)
            found[-1]["selectivity by what they bring"] = float(
                np.average(top.selectivity[known], weights=share[known])
            )
    return found


def measure_reading(network, X):
    """Return how many weights and features make 90 % of the largest output of a row.

    The weights are those of each map: from the inputs, between features, and from the
    last features to the output, of which an output reads one a feature.
    """
    parts = network.attribute(X, inputs=True)
    maps = [parts.input_edges, *parts.edges, parts.features[-1]]
    weights = [float(description_length(part).mean()) for part in maps]
    features = [float(description_length(part).mean()) for part in parts.features]
    return {
        "weights read": weights,
        "weights not zero": [
            float(description_length(part, 1.0).mean()) for part in maps
        ],
        "features read": features,
        "brings": [np.abs(part).mean(axis=0) for part in parts.features],
    }


def measure_stability(first, second):
    """Compare two fits by what their features do on the same rows.

    Features are paired by the correlations of their values on the rows: that works for
    neurons and for features of different models, whose directions lie in different
    spaces. Features that are not used are left out.

    Parameters
    ----------
    first, second : dict
        With `features`, `used` and `network`.
    """
    places, alike = [], []
    columns = [fit[name] for name in ("features", "used") for fit in (first, second)]
    for a, b, used_a, used_b in zip(*columns, strict=True):
        indices, correlations = match_features(a[:, used_a], b[:, used_b])
        places.append(_places(indices, used_a, used_b))
        # What one of the two has more of counts as not found again.
        alike.append(correlations.sum() / max(used_a.sum(), used_b.sum()))
    found = {"correlation": alike}
    edges = _edges(first["network"], second["network"], places)
    found["edges"] = [one.jaccard for one in edges]
    found["edges by chance"] = [one.chance for one in edges]
    return found


def _edges(first, second, places):
    """Compare the maps between the inputs, the features and the outputs."""
    inputs = np.arange(first.n_features_in_)
    ends = [inputs, *places, np.arange(first.n_outputs_)]
    maps = [
        [network.encoder_coef_, *network.coefs_, network.decoder_coef_.T]
        for network in (first, second)
    ]
    return [
        edge_stability(a, b, targets, sources)
        for a, b, sources, targets in zip(*maps, ends[:-1], ends[1:], strict=True)
    ]


def _places(indices, used_first, used_second):
    """Turn positions among used features into positions among all."""
    places = np.full(len(used_first), -1)
    among = np.flatnonzero(used_second)
    places[used_first] = np.where(indices >= 0, among[indices], -1)
    return places


def _quantiles(values):
    """Return the quantiles that the picture is drawn through, from the least."""
    return np.quantile(values[~np.isnan(values)], np.linspace(0, 1, 21))


def _mean(values):
    """Return the mean over the features of which something can be told."""
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
