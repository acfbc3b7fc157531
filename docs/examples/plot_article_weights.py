"""
Weights between neurons, weights between features
=================================================

The article's second picture: the matrix that connects the neurons of two layers is
dense and says nothing; the one that connects their features is nearly empty, so that
each of its weights can be read. Below it, how the weights of a connector grow sparse
while it is fitted.
"""

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from skfeat import FeatureConnector, FeatureUnwrapper, SparseAutoencoder
from skfeat.inspection import ConnectorDisplay, ConnectorHistoryDisplay

X, y = load_digits(return_X_y=True)
X = X / 16
mlp = MLPClassifier((32, 32), max_iter=500, tol=1e-3, random_state=0).fit(X, y)
unwrapper = FeatureUnwrapper(
    mlp,
    autoencoder=SparseAutoencoder(64, k=8, max_iter=60),
    n_nonzero_coefs=458,
    max_iter=80,
    random_state=0,
).fit(X)

# %%
# Left, all weights between neurons of layer 1 and 2. Right, the 458 weights between
# their features, drawn as points. Most outputs on the right have few points in their
# row: that is the whole formula of the feature.
coef = unwrapper.connectors_[0].coef_
figure, axes = plt.subplots(1, 2, figsize=(11, 4.8), layout="constrained")
ConnectorDisplay.from_matrix(mlp.coefs_[1].T, ax=axes[0])
axes[0].set(
    title=f"neurons: {mlp.coefs_[1].size:,} weights",
    xlabel="neuron of layer 1",
    ylabel="neuron of layer 2",
)
ConnectorDisplay.from_matrix(
    coef, kind="points", vmax=float(np.percentile(abs(coef.data), 80)), ax=axes[1]
)
axes[1].set(
    title=f"features: {coef.nnz} of {coef.shape[0] * coef.shape[1]:,} weights",
    xlabel="feature of layer 1",
    ylabel="feature of layer 2",
)
for ax in axes:
    ax.set_box_aspect(1)

# %%
# A connector on its own, fitted to the features of both autoencoders with an L1
# penalty. As the penalty falls, from left to right, weights come in and the R2 rises.
inputs, outputs = (unwrapper.transform(X, layer=layer) for layer in (0, 1))
connectors = [
    FeatureConnector(alpha, random_state=0).fit(inputs, outputs)
    for alpha in (0.1, 0.03, 0.01, 0.003)
]
ConnectorHistoryDisplay.from_estimators(
    connectors,
    titles=[
        f"alpha {connector.alpha:g}\n{connector.coef_.nnz:,} weights, "
        f"R2 {connector.score(inputs, outputs):.2f}"
        for connector in connectors
    ],
)
plt.show()
