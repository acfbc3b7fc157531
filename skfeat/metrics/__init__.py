"""How well features, and networks of features, stand for what they replace.

The share of variance explained by a reconstruction has one definition throughout:
one minus `fvu`, the squared error over the squared deviation from the column means,
each summed over rows and columns. Columns therefore count by their variance, and
:meth:`skfeat.SparseAutoencoder.score` is the same number.

A feature is active on a row where its code is not zero, and dead if it is active on no
row. Functions of codes take CSR as it comes and never make it dense.

A score relative to a floor is divided by the difference between model and floor. Where
that lies within its noise (`paired_noise`), `score_kept` and the reports give nan or
the words "floor within noise" instead of a number.

Whether features are worth reading has no single number. `class_purity`,
`sparse_probe`, `description_length`, `stability` with `edge_stability`, and
`used_features` each measure one side of it, and mean little without those of a
control, such as the neurons of the model.

Names that end in ``_scorer`` are called as ``scorer(estimator, X)`` and are meant for
`scoring` of :class:`sklearn.model_selection.GridSearchCV` and its like: higher is
better, and rows go through the estimator in blocks.
"""

from skfeat.metrics._classes import ClassPurity, class_purity
from skfeat.metrics._codes import (
    DensityHistogram,
    dead_fraction,
    density_histogram,
    feature_density,
    l0,
    n_dead,
    used_features,
)
from skfeat.metrics._description import description_length
from skfeat.metrics._detection import (
    Absorption,
    FeatureDetection,
    absorption,
    feature_detection,
)
from skfeat.metrics._dictionary import (
    match_components,
    matching_coefficient,
    mean_correlation_coefficient,
    mean_max_cosine,
    nearest_components,
    recovery_rate,
    stability,
    uniqueness,
)
from skfeat.metrics._edge_stability import EdgeStability, edge_stability
from skfeat.metrics._edges import (
    EdgeRecovery,
    edge_recovery,
    match_features,
    path_recovery,
)
from skfeat.metrics._fidelity import agreement, mean_ablation_floor, score_kept
from skfeat.metrics._noise import paired_noise
from skfeat.metrics._probing import SparseProbe, sparse_probe
from skfeat.metrics._reconstruction import (
    explained_variance,
    fvu,
    kl_divergence,
    shrinkage,
)
from skfeat.metrics._scorers import (
    explained_variance_scorer,
    make_recovery_scorer,
    neg_dead_fraction_scorer,
    neg_fvu_scorer,
    neg_l0_scorer,
)

__all__ = [
    "Absorption",
    "ClassPurity",
    "DensityHistogram",
    "EdgeRecovery",
    "EdgeStability",
    "FeatureDetection",
    "SparseProbe",
    "absorption",
    "agreement",
    "class_purity",
    "dead_fraction",
    "density_histogram",
    "description_length",
    "edge_recovery",
    "edge_stability",
    "explained_variance",
    "explained_variance_scorer",
    "feature_density",
    "feature_detection",
    "fvu",
    "kl_divergence",
    "l0",
    "make_recovery_scorer",
    "match_components",
    "match_features",
    "matching_coefficient",
    "mean_ablation_floor",
    "mean_correlation_coefficient",
    "mean_max_cosine",
    "n_dead",
    "nearest_components",
    "neg_dead_fraction_scorer",
    "neg_fvu_scorer",
    "neg_l0_scorer",
    "paired_noise",
    "path_recovery",
    "recovery_rate",
    "score_kept",
    "shrinkage",
    "sparse_probe",
    "stability",
    "uniqueness",
    "used_features",
]
