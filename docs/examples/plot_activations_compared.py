"""
Activations compared
====================

Five ways to make codes sparse, on one layer and at about the same number of active
features: what each leaves unexplained, and how its activity is spread over the
features.
"""

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from skfeat import SparseAutoencoder
from skfeat.metrics import feature_density, fvu, l0

X, y = load_digits(return_X_y=True)
X = X / 16
mlp = MLPClassifier((48,), max_iter=500, tol=1e-3, random_state=0).fit(X, y)
neurons = np.maximum(X @ mlp.coefs_[0] + mlp.intercepts_[0], 0)
train, test = neurons[:1400], neurons[1400:]

# %%
# Top-k takes the number of active features as it is; the others have a penalty, whose
# weight follows ``l0`` until about as many are active.
settings = {
    "topk": {"k": 8},
    "batch_topk": {"k": 8},
    "relu": {"l0": 8},
    "jumprelu": {"l0": 8},
    "gated": {"l0": 8},
}
fits = {
    name: SparseAutoencoder(
        72, activation=name, max_iter=120, random_state=0, **options
    ).fit(train)
    for name, options in settings.items()
}

# %%
# ReLU leaves most unexplained: its penalty pulls on the size of the codes, which the
# others leave alone.
print("activation     L0  unexplained  share of the ten busiest")
error = {}
for name, fit in fits.items():
    codes = fit.transform(test)
    error[name] = fvu(test, fit.inverse_transform(codes))
    density = np.sort(feature_density(codes))[::-1]
    busiest = density[:10].sum() / density.sum()
    print(f"{name:10}  {l0(codes):5.2f}  {error[name]:11.3f}  {busiest:24.0%}")

# %%
# Left, the same as bars. Right, how often features are active, from the busiest down:
# ReLU spreads its activity most evenly over the features.
figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
colors = [f"C{i}" for i in range(5)]
bars = axes[0].barh(list(error), list(error.values()), color=colors)
axes[0].bar_label(bars, fmt="%.3f", padding=3)
axes[0].invert_yaxis()
axes[0].set(xlabel="variance unexplained", xlim=(0, 1.2 * max(error.values())))
for name, fit in fits.items():
    density = np.sort(feature_density(fit.transform(test)))[::-1]
    axes[1].plot(density, label=name)
axes[1].set(xlabel="feature, most active first", ylabel="share of rows it is active on")
axes[1].legend()
plt.show()
