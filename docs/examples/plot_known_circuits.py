"""
Recover known circuits
======================

A network of features that is known from end to end: which feature of a layer computes
which of the next, and by what weight. Connectors find the edges from rows alone; the
metrics say how many they found, and how many they made up.
"""

import numpy as np
from matplotlib import pyplot as plt

from skfeat import FeatureConnector
from skfeat.datasets import make_feature_network
from skfeat.inspection import ConnectorDisplay
from skfeat.metrics import edge_recovery, path_recovery

network = make_feature_network(
    6000, n_circuits=4, n_hidden=48, n_distractors=4, random_state=0
)
for layer, features in enumerate(network.features):
    print(f"layer {layer + 1}: {features.shape[1]} features")

# %%
# First the question of connectors alone: given the true features of two layers, which
# weights connect them? The budget is the true number of edges.
connectors = [
    FeatureConnector(n_nonzero_coefs=int(coef.nnz), random_state=0).fit(inputs, outputs)
    for coef, inputs, outputs in zip(
        network.coefs, network.features, network.features[1:], strict=False
    )
]
found = [connector.coef_ for connector in connectors]
for layer, (coef, own) in enumerate(zip(network.coefs, found, strict=True), start=1):
    scores = edge_recovery(coef, own)
    print(
        f"layer {layer} to {layer + 1}: {coef.nnz} edges, precision "
        f"{scores.precision:.2f}, recall {scores.recall:.2f}"
    )
print(f"whole paths found: {path_recovery(network.coefs, found):.2f}")

# %%
# Known weights on the left, found ones on the right. Each block is a circuit: features
# of one never feed those of another.
figure, axes = plt.subplots(1, 2, figsize=(10, 4.6), layout="constrained")
limit = float(np.percentile(abs(network.coefs[0].data), 95))
for ax, coef, title in [
    (axes[0], network.coefs[0], "known"),
    (axes[1], found[0], "found"),
]:
    ConnectorDisplay.from_matrix(coef, kind="points", vmax=limit, ax=ax)
    ax.set(title=f"{title}: {coef.nnz} weights")

# %%
# Some of the formulas, with the operation that each feature was made by. A copy has one
# input, an AND two, an AND-NOT a negative one.
for output in range(6):
    print(f"{network.kinds[1][output]:>10}: {connectors[0].formula(output)}")
plt.show()
