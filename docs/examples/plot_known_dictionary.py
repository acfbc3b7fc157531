"""
Recover a known dictionary
==========================

Rows that are sparse combinations of known directions, more of them than the rows have
columns. So it is known what an autoencoder should find, and how much of it was found.
"""

import numpy as np
from matplotlib import pyplot as plt

from skfeat import SparseAutoencoder
from skfeat.datasets import make_sparse_features
from skfeat.metrics import match_components, matching_coefficient, recovery_rate

X, codes, dictionary = make_sparse_features(
    4000, n_features=24, n_components=48, n_active=3, random_state=0
)
print(f"{dictionary.shape[0]} directions in {dictionary.shape[1]} dimensions")

# %%
# Fits that see more and more rows. A direction counts as recovered where a decoder row
# has a cosine above 0.9 with it; matching is one to one.
sizes = [250, 500, 1000, 2000, 4000]
fits = [
    SparseAutoencoder(48, k=3, max_iter=150, random_state=0).fit(X[:size])
    for size in sizes
]
print(" rows  recovered  mean cosine")
for size, fit in zip(sizes, fits, strict=True):
    recovered = recovery_rate(dictionary, fit.components_)
    mean = matching_coefficient(dictionary, fit.components_)
    print(f"{size:5}  {recovered:9.0%}  {mean:11.3f}")

# %%
# Cosines of all known directions with all that were found, sorted by the matching. With
# few rows the diagonal is pale; with enough it is dark, and what is off it is the
# superposition of the directions themselves.
figure, axes = plt.subplots(1, 2, figsize=(9.5, 4.2), layout="constrained")
for ax, size, fit in zip(axes, (sizes[0], sizes[-1]), (fits[0], fits[-1]), strict=True):
    matched, _ = match_components(dictionary, fit.components_)
    cosines = dictionary @ fit.components_[matched].T
    cosines /= np.linalg.norm(fit.components_[matched], axis=1)
    image = ax.imshow(cosines, cmap="RdBu_r", vmin=-1, vmax=1)
    ax.set(title=f"{size:,} rows", xlabel="matched feature", ylabel="known direction")
figure.colorbar(image, ax=axes, label="cosine")
plt.show()
