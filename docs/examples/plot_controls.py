"""
Compare with controls
=====================

A network of few weights that is accurate proves little: perhaps any network of as many
weights is. The report fits what a sceptic would ask for, and puts it beside the network
of features.
"""

from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skfeat import FeatureUnwrapper, SparseAutoencoder

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
mlp = MLPClassifier((32, 32), max_iter=500, tol=1e-3, random_state=0)
mlp.fit(X_train, y_train)
unwrapper = FeatureUnwrapper(
    mlp,
    autoencoder=SparseAutoencoder(64, k=8, max_iter=60),
    n_nonzero_coefs=[300, 200, 100],
    connect_input=True,
    connect_output=True,
    max_iter=80,
    random_state=0,
).fit(X_train)

# %%
# Four controls of as many weights: the model itself, pruned; a sparse network trained
# from random weights; the same network over autoencoders that nobody trained;
# connectors fitted to shuffled features.
report = unwrapper.report(X_test, y_test, controls=True, X_train=X_train)
print(report.controls)

# %%
# Accuracy hardly tells them apart: the digits are easy, and for all but the shuffled
# control these weights are enough, even over features that nobody trained. How far the
# outputs are from the model's (right, on a logarithmic axis) tells more, and there the
# pruned model is hard to beat. So what a network of features has to offer is not its
# accuracy at a budget, but that its features are those of the model's layers.
controls = report.controls
names = list(controls.network)
figure, axes = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained", sharey=True)
bars = axes[0].barh(names, controls.score, color="tab:blue")
axes[0].bar_label(bars, fmt="%.3f", padding=3)
axes[0].invert_yaxis()
axes[0].set(xlim=(0, 1.15), xlabel="accuracy on test digits")
axes[1].plot(controls.kl[1:], names[1:], "o")
for name, kl in zip(names[1:], controls.kl[1:], strict=True):
    axes[1].annotate(f"{kl:.3f}", (kl, name), (8, -4), textcoords="offset points")
axes[1].set(xscale="log", xlim=(None, 20), xlabel="KL from the model, nats")
plt.show()
