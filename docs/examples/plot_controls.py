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
# Read the lengths, not the order of the names. Whatever the shuffled control reaches is
# what biases alone can do. Pruned neurons are usually as accurate as features: they are
# the control to beat, and what features add is that they can be read.
controls = report.controls
figure, ax = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
names = list(controls.network)
bars = ax.barh(names, controls.score, color="tab:blue")
ax.bar_label(bars, fmt="%.3f", padding=3)
ax.invert_yaxis()
ax.set(xlim=(0, 1.12), xlabel="accuracy on test digits")
plt.show()
