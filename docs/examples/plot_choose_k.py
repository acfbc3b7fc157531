"""
Choose the number of active features
====================================

More active features reconstruct better and say less each. This draws the trade for one
layer, with the dead features that too few of them leave.
"""

import warnings

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from skfeat import SparseAutoencoder
from skfeat.metrics import class_purity, dead_fraction, fvu

X, y = load_digits(return_X_y=True)
X = X / 16
mlp = MLPClassifier((64,), max_iter=500, tol=1e-3, random_state=0).fit(X, y)
neurons = np.maximum(X @ mlp.coefs_[0] + mlp.intercepts_[0], 0)
train, test = neurons[:1400], neurons[1400:]

# %%
# Small k leaves features dead, of which the fit warns; here that is what we want to
# see.
ks = [1, 2, 4, 8, 16, 32]
unexplained, dead, purity = [], [], []
for k in ks:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*features are dead")
        autoencoder = SparseAutoencoder(128, k=k, max_iter=80, random_state=0)
        autoencoder.fit(train)
    codes = autoencoder.transform(test)
    unexplained.append(fvu(test, autoencoder.inverse_transform(codes)))
    dead.append(dead_fraction(codes))
    purity.append(np.nanmean(class_purity(codes, y[1400:]).purity))

# %%
# Left, what is not reconstructed. Middle, the share of features that no test row
# activates. Right, how much of a feature's activation comes from a single digit. Each
# doubling of k leaves less unexplained and makes features less specific; from eight on
# few features are dead, which makes eight a fair choice here.
figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
for ax, values, title in [
    (axes[0], unexplained, "variance unexplained"),
    (axes[1], dead, "dead features"),
    (axes[2], purity, "purity of a feature"),
]:
    ax.plot(ks, values, "o-")
    ax.set(title=title, xlabel="active features k", xscale="log", ylim=(0, None))
    ax.set_xticks(ks, ks)
    ax.minorticks_off()

# %%
# In numbers.
print(" k  unexplained  dead  purity")
for row in zip(ks, unexplained, dead, purity, strict=True):
    print("{:2}  {:11.3f}  {:4.0%}  {:6.2f}".format(*row))
plt.show()
