"""
Unwrap a network of digits, from pixels to logits
=================================================

A network with two hidden layers is turned into one whose every weight is in a budget:
from the pixels to the first features, between features, and from the last features to
the ten logits. No dense part of the model is left.
"""

from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.inspection import TopExamplesDisplay

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)
mlp = MLPClassifier((32, 32), max_iter=500, tol=1e-3, random_state=0)
mlp.fit(X_train, y_train)

# %%
# 64 features a layer, of which eight are active on a row, and 1,200 weights in all. The
# labels are not used.
unwrapper = FeatureUnwrapper(
    mlp,
    autoencoder=SparseAutoencoder(64, k=8, max_iter=60),
    n_nonzero_coefs=[600, 400, 200],
    connect_input=True,
    connect_output=True,
    max_iter=80,
    random_state=0,
).fit(X_train)

# %%
# The report has a row for each layer and one for the network as a whole. Compare
# ``score`` in the last row with that of the model, which the lines below the table
# name.
print(unwrapper.report(X_test, y_test))

# %%
# What the network lost, and what it weighs.
network = unwrapper.network()
n_model = sum(coef.size for coef in mlp.coefs_)
print(f"the model:   {mlp.score(X_test, y_test):.3f} with {n_model:,} weights")
print(
    f"the network: {unwrapper.score(X_test, y_test):.3f} with "
    f"{network.n_weights_all_:,} weights"
)

# %%
# A feature of the second layer is a short sum of features of the first. Here are the
# five that reach highest, and under each picture the number of weights that compute it.
codes = unwrapper.transform(X_test)
strongest = codes.max(axis=0).argsort()[::-1][:5]
connector = unwrapper.connectors_[0]
for feature in strongest:
    print(connector.formula(feature, max_terms=4))

# %%
# What they respond to: the test digits that excite each most. Most rows show one digit,
# or one stroke that several digits share.
TopExamplesDisplay.from_activations(
    codes,
    X_test,
    features=strongest,
    n_examples=8,
    image_shape=(8, 8),
    feature_names=[
        f"F2_{feature}, {connector.coef_[[feature]].nnz} weights"
        for feature in strongest
    ],
)
plt.show()
