"""
Learn from a stream
===================

Rows that come in batches and are never held together: ``partial_fit`` learns from each
batch once. Here the stream changes half-way, and the features follow.
"""

import numpy as np
from matplotlib import pyplot as plt

from skfeat import SparseAutoencoder
from skfeat.datasets import make_sparse_features
from skfeat.metrics import matching_coefficient

# %%
# Two sources of the same width with other directions.
sources = [
    make_sparse_features(
        60_000, 24, 36, n_active=3, random_state=seed, dtype=np.float32
    )
    for seed in (0, 1)
]
rows = np.concatenate([X for X, _, _ in sources])
dictionaries = [dictionary for _, _, dictionary in sources]

# %%
# One pass over 480 batches of 250 rows. The learning rate is constant, as the end of a
# stream is not known.
autoencoder = SparseAutoencoder(36, k=3, random_state=0)
seen, scores = [], []
for step, batch in enumerate(rows.reshape(-1, 250, 24), start=1):
    autoencoder.partial_fit(batch)
    if step % 20 == 0:
        seen.append(step * 250)
        scores.append(
            [matching_coefficient(d, autoencoder.components_) for d in dictionaries]
        )
print(f"{autoencoder.n_steps_} updates")

# %%
# How well the dictionary matches the directions of each source. It finds those of the
# first, and after the change, at the line, those of the second.
figure, ax = plt.subplots(figsize=(7.5, 3.8), layout="constrained")
for number, values in enumerate(np.transpose(scores), start=1):
    ax.plot(seen, values, label=f"directions of source {number}")
ax.axvline(60_000, color="0.4", linestyle="--", label="the stream changes")
ax.set(xlabel="rows seen", ylabel="mean cosine of the matching", ylim=(0, 1.02))
ax.legend(loc="lower center")
plt.show()
