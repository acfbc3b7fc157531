"""
Many neurons, few features: one digit
=====================================

The first picture of the article that this library grew from: what the neurons of a
layer compute for one input with their reconstruction, and below it the features of the
same input. It is drawn here for a small network on 8 x 8 digits.
"""

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from skfeat import SparseAutoencoder
from skfeat.inspection import ActivationDisplay, ReconstructionDisplay

X, y = load_digits(return_X_y=True)
X = X / 16
mlp = MLPClassifier((64, 64), max_iter=500, tol=1e-3, random_state=0).fit(X, y)
neurons = np.maximum(X @ mlp.coefs_[0] + mlp.intercepts_[0], 0)

# %%
# An autoencoder with four features for each neuron, trained as in the article: ReLU,
# and a penalty on the sum of the codes.
autoencoder = SparseAutoencoder(
    256, activation="relu", alpha=0.2, max_iter=80, random_state=0
).fit(neurons)

# %%
# Above, the neurons (blue) and their reconstruction (orange); below, the features of
# the same digit.
row = neurons[:1]
figure, axes = plt.subplots(2, 1, figsize=(9, 6.4), layout="constrained")
ReconstructionDisplay.from_estimator(autoencoder, row, threshold=0.3, ax=axes[0])
ActivationDisplay.from_estimator(autoencoder, row, threshold=0.3, ax=axes[1])
plt.show()

# %%
# In numbers: a large part of the neurons is active, a small part of the features is,
# and the reconstruction is close.
codes = autoencoder.transform(row)
print(f"neurons above 0.3:  {(row > 0.3).sum()} of {row.size}")
print(f"features above 0.3: {(codes > 0.3).sum()} of {codes.size}")
print(f"R2 of the reconstruction, all digits: {autoencoder.score(neurons):.3f}")
