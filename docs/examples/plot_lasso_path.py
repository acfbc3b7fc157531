"""
The path of a connector
=======================

As ``lasso_path`` of scikit-learn does for one target, a connector computes its weights
along a falling penalty, for all outputs at once. Each output is an exact Lasso.
"""

import numpy as np
from matplotlib import pyplot as plt
from sklearn.linear_model import lasso_path

from skfeat import FeatureConnector, FeatureConnectorCV
from skfeat.datasets import make_sparse_features

# %%
# Inputs are sparse features; an output is a sum of three of them, with noise.
_, codes, _ = make_sparse_features(1500, 16, 40, n_active=5, random_state=0)
F1 = codes.toarray()
rng = np.random.default_rng(0)
W = np.zeros((6, 40))
for output in range(6):
    W[output, rng.choice(40, 3, replace=False)] = [1.0, 0.6, -0.4]
F2 = F1 @ W.T + 0.1 * rng.normal(size=(1500, 6))

# %%
# It is the Lasso, to the last digits that solvers agree on.
connector = FeatureConnector(link="identity")
alphas, coefs, gaps = connector.connector_path(F1, F2, n_alphas=60)
centred = F1 - F1.mean(axis=0)
_, same, _ = lasso_path(centred, F2[:, 0] - F2[:, 0].mean(), alphas=alphas, tol=1e-12)
print(f"largest difference from lasso_path: {abs(coefs[0] - same).max():.1e}")

# %%
# A penalty that generalises, by cross-validation: the dashed line below.
chosen = FeatureConnectorCV(alphas=alphas, link="identity", cv=5).fit(F1, F2)
print(f"alpha {chosen.alpha_:.4f}: {chosen.coef_.nnz} weights, of 18 that are true")

# %%
# Weights of the first output as the penalty falls, from left to right. The three true
# ones come in first and settle at their size; what comes in at the far right is noise.
figure, ax = plt.subplots(figsize=(7.5, 4), layout="constrained")
for feature in range(40):
    true = W[0, feature] != 0
    ax.plot(
        alphas,
        coefs[0, feature],
        color=f"C{list(W[0].nonzero()[0]).index(feature)}" if true else "0.75",
        label=f"true weight {W[0, feature]:+.1f}" if true else None,
        zorder=2 if true else 1,
    )
ax.axvline(chosen.alpha_, color="0.3", linestyle="--", label="chosen")
ax.set(xscale="log", xlabel="alpha", ylabel="weight")
ax.invert_xaxis()
ax.legend()
plt.show()
