"""
Explain one prediction
======================

One digit, and the reasons for its label: the features that bring most to the winning
output, the earlier features that those came from, and the pixels. All parts are in
units of the output and add up to it exactly.
"""

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.inspection import ImageGridDisplay, TopExamplesDisplay

X, y = load_digits(return_X_y=True)
X = X / 16
X_train, y_train, X_test, y_test = X[:1500], y[:1500], X[1500:], y[1500:]
mlp = MLPClassifier((32, 32), max_iter=500, tol=1e-3, random_state=0)
mlp.fit(X_train, y_train)
unwrapper = FeatureUnwrapper(
    mlp,
    autoencoder=SparseAutoencoder(64, k=8, max_iter=60),
    n_nonzero_coefs=400,
    max_iter=80,
    random_state=0,
).fit(X_train)
network = unwrapper.network()

# %%
# Before anything is read off the network it has to say what the model says, on this row
# above all.
row = X_test[[9]]
label = unwrapper.predict(row)[0]
agreement = unwrapper.score(X_test)
print(f"the digit is {y_test[9]}; model: {mlp.predict(row)[0]}, network: {label}")
print(f"network and model agree on {agreement:.1%} of the test rows")

# %%
# The logit of that label, split at each layer. Whatever the layer, the parts have the
# same sum.
told = network.attribute(row, output=int(label), inputs=True)
print(f"the logit of {label} is {told.value[0]:.3f}")
for layer in ("inputs", 0, 1):
    print(f"parts at layer {layer!s:>6} add up to {told.total(layer)[0]:.3f}")

# %%
# The features of the last layer that bring most. A positive bar speaks for the label, a
# negative one against it.
parts = told.features[-1][0]
largest = abs(parts).argsort()[::-1][:8]
names = [told.feature_names[-1][feature] for feature in largest]
figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
colors = np.where(parts[largest] > 0, "tab:red", "tab:blue")
ax.barh(names, parts[largest], color=colors)
ax.invert_yaxis()
ax.axvline(0, color="0.5", linewidth=0.8)
ax.set(
    xlabel=f"what a feature brings to the logit of {label}",
    title=f"{abs(parts[largest]).sum() / abs(parts).sum():.0%} of all contributions",
)

# %%
# What these features are: the training digits that excite each of the first four most.
codes = unwrapper.transform(X_train)
TopExamplesDisplay.from_activations(
    codes,
    X_train,
    features=largest[:4],
    n_examples=8,
    image_shape=(8, 8),
    feature_names=names[:4],
)

# %%
# Where the first of them came from: its strongest inputs on this row.
flow = told.flow(row=0, connector=0)
inflow = flow[[largest[0]]].toarray()[0]
for feature in abs(inflow).argsort()[::-1][:4]:
    source = told.feature_names[0][feature]
    print(f"{source} -> {names[0]}: {inflow[feature]:+.3f}")

# %%
# And the pixels, all the way down. Right, red pixels speak for the label and blue ones
# against it.
figure, axes = plt.subplots(1, 2, figsize=(7.5, 3.6), layout="constrained")
ImageGridDisplay.from_rows(
    row, image_shape=(8, 8), titles=["the digit"], n_cols=1, ax=axes[0]
)
ImageGridDisplay.from_rows(
    told.inputs,
    image_shape=(8, 8),
    titles=[f"what pixels bring to the logit of {label}"],
    n_cols=1,
    symmetric=True,
    colorbar=True,
    ax=axes[1],
)
plt.show()
