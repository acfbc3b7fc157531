"""
Explain one prediction
======================

One digit, and the reasons for its label: the features that bring most to the winning
output, the earlier features that those came from, and the pixels. All parts are in
units of the output and add up to it exactly.
"""

from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.inspection import FeatureGraphDisplay, ImageGridDisplay, TopExamplesDisplay

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

# %%
# Before anything is read off the network it has to agree with the model, on this row
# above all: the first lines have the output of both, and the gap. Below, at each layer,
# are the inputs and features that bring most to the logit of the label. Whatever the
# layer, the parts have the same sum.
row = X_test[9]
print(f"network and model agree on {unwrapper.score(X_test):.1%} of the test rows")
explanation = unwrapper.explain(row)
explanation

# %%
# The same as a graph: from the pixels on the left to the logit on the right, with the
# connections that bring most. Red speaks for the label, blue against it.
FeatureGraphDisplay.from_explanation(explanation, n_edges=8)

# %%
# What these features are: the training digits that excite each of the first four most.
told = explanation.attribution
codes = unwrapper.transform(X_train)
largest = abs(told.features[-1][0]).argsort()[::-1][:4]
names = [told.feature_names[-1][feature] for feature in largest]
TopExamplesDisplay.from_activations(
    codes,
    X_train,
    features=largest,
    n_examples=8,
    image_shape=(8, 8),
    feature_names=names,
)

# %%
# And the pixels, all the way down. Right, red pixels speak for the label and blue ones
# against it.
figure, axes = plt.subplots(1, 2, figsize=(7.5, 3.6), layout="constrained")
ImageGridDisplay.from_rows(
    row[None], image_shape=(8, 8), titles=["the digit"], n_cols=1, ax=axes[0]
)
ImageGridDisplay.from_rows(
    told.inputs,
    image_shape=(8, 8),
    titles=[f"what pixels bring to the logit of {explanation.output_name}"],
    n_cols=1,
    symmetric=True,
    colorbar=True,
    ax=axes[1],
)
plt.show()
