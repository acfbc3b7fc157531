"""
Displays of features
====================

Five ways to look at the features of one layer. Each is a Display as in scikit-learn:
``from_estimator`` computes and draws, ``plot`` draws again in another style. Given a
fitted ``FeatureUnwrapper``, they draw the features of its last layer, or of ``layer``.
"""

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from skfeat import SparseAutoencoder
from skfeat.inspection import (
    ActivationDisplay,
    ImageGridDisplay,
    TopExamplesDisplay,
    TrainingCurveDisplay,
)

X, y = load_digits(return_X_y=True)
X = X / 16
order = np.argsort(y, kind="stable")
X, y = X[order], y[order]
mlp = MLPClassifier((48,), max_iter=500, tol=1e-3, random_state=0).fit(X, y)
neurons = np.maximum(X @ mlp.coefs_[0] + mlp.intercepts_[0], 0)
autoencoder = SparseAutoencoder(96, k=6, max_iter=120, random_state=0).fit(neurons)
codes = autoencoder.transform(neurons)

# %%
# How training went: the loss of each epoch should end flat.

# sphinx_gallery_thumbnail_number = 3
TrainingCurveDisplay.from_estimator(autoencoder, yscale="log", name="96 features")

# %%
# Which features are active on which rows. Rows are sorted by digit, from top to bottom,
# so a feature of one digit is a column with one short block.
ActivationDisplay.from_activations(codes[::6], kind="heatmap")

# %%
# What excites a feature most, for the six that fire most strongly.
strongest = codes.max(axis=0).argsort()[::-1][:6]
TopExamplesDisplay.from_activations(
    codes,
    X,
    features=strongest,
    n_examples=8,
    image_shape=(8, 8),
    feature_names=[f"feature {feature}" for feature in strongest],
)

# %%
# Directions of features in the space of pixels, through the weights of the model's
# first layer: red pixels drive the neurons along the direction, blue ones against it.
ImageGridDisplay.from_estimator(
    autoencoder,
    features=strongest,
    projection=mlp.coefs_[0].T,
    image_shape=(8, 8),
    titles=[f"feature {feature}" for feature in strongest],
    n_cols=6,
)
plt.show()
