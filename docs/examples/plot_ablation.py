"""
Switch features off
===================

An attribution says what a feature brings; an ablation says what happens without it.
Here each of the strongest features of the last layer is held at zero in turn, and
everything after it is computed again.
"""

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from skfeat import FeatureUnwrapper, SparseAutoencoder

X, y = load_digits(return_X_y=True)
X = X / 16
mlp = MLPClassifier((32, 32), max_iter=500, tol=1e-3, random_state=0)
mlp.fit(X[:1400], y[:1400])
unwrapper = FeatureUnwrapper(
    mlp,
    autoencoder=SparseAutoencoder(64, k=8, max_iter=60),
    n_nonzero_coefs=300,
    max_iter=80,
    random_state=0,
).fit(X[:1400])
network = unwrapper.network()
X, y = X[1400:], y[1400:]

# %%
# Accuracy of each digit, with all features and with one of them held at zero.
codes = network.features(X)[-1]
strongest = np.sort(codes.mean(axis=0).argsort()[::-1][:12])
right = network.predict(X) == y
accuracy = np.array([right[y == digit].mean() for digit in range(10)])
lost = np.empty((len(strongest), 10))
for position, feature in enumerate(strongest):
    ablation = network.ablate(X, f"F2_{feature}")
    right = network.decide(ablation.outputs) == y
    lost[position] = [accuracy[d] - right[y == d].mean() for d in range(10)]

# %%
# Each row is a feature, each column a digit. Features that matter do so for one or two
# digits; a row without colour is a feature that others make up for.
figure, ax = plt.subplots(figsize=(8, 4.8), layout="constrained")
limit = abs(lost).max()
image = ax.imshow(lost, cmap="RdBu_r", vmin=-limit, vmax=limit, aspect="auto")
ax.set_xticks(range(10))
ax.set_yticks(range(len(strongest)), [f"F2_{feature}" for feature in strongest])
ax.set(xlabel="digit", ylabel="feature held at zero")
for position, digit in np.ndindex(lost.shape):
    if abs(lost[position, digit]) >= 0.05:
        color = "white" if abs(lost[position, digit]) > 0.6 * limit else "black"
        text = f"{lost[position, digit]:.2f}"
        ax.text(digit, position, text, ha="center", va="center", color=color)
figure.colorbar(image, label="share of the digit's rows that are lost")

# %%
# Zero and the mean answer different questions: what the outputs are without the
# feature, and what they are if it says nothing about the row. They differ for a feature
# that is active on most rows.
busiest = int((codes > 0).mean(axis=0).argmax())
print(f"F2_{busiest} is active on {(codes[:, busiest] > 0).mean():.0%} of the rows")
for value in ("zero", "mean"):
    ablation = network.ablate(X, f"F2_{busiest}", value=value)
    print(f"held at {value}: logits change by {abs(ablation.effects).mean():.2f}")
plt.show()
