"""
The graph of one prediction
===========================

The strongest connections that led to one label, from the pixels through two layers of
features to the output. What flows into a node is what flows out of it.
"""

from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.neural_network import MLPClassifier

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.inspection import FeatureGraphDisplay

X, y = load_digits(return_X_y=True)
X = X / 16
mlp = MLPClassifier((32, 32), max_iter=500, tol=1e-3, random_state=0)
mlp.fit(X[:1500], y[:1500])
unwrapper = FeatureUnwrapper(
    mlp,
    autoencoder=SparseAutoencoder(64, k=6, max_iter=60),
    n_nonzero_coefs=[300, 150, 80],
    connect_input=True,
    connect_output=True,
    max_iter=80,
    random_state=0,
).fit(X[:1500])

# %%
# Edges are as wide as what they bring to the output, on this row. Red ones speak for
# it, blue ones against it.
pixels = [f"pixel {row},{column}" for row in range(8) for column in range(8)]
figure, ax = plt.subplots(figsize=(10, 6.5), layout="constrained")
FeatureGraphDisplay.from_estimator(
    unwrapper, X[1500], inputs=True, input_names=pixels, n_edges=24, ax=ax
)

# %%
# Without a single row the same display averages magnitudes over many: what the network
# uses at all, here for all test rows whose largest output is a three. Where inputs are
# images, `image_shape` puts into each box the image of `examples` that excites its
# feature most.
network = unwrapper.network()
threes = X[1500:][unwrapper.predict(X[1500:]) == 3]
FeatureGraphDisplay.from_network(
    network, threes, output=3, n_edges=20, examples=X[:1500], image_shape=(8, 8)
)

# %%
# The same edges as numbers.
flow = network.mean_flow(threes, output=3)
edges = flow.edges[0].tocoo()
for position in edges.data.argsort()[::-1][:5]:
    source = flow.feature_names[0][edges.col[position]]
    target = flow.feature_names[1][edges.row[position]]
    print(f"{source} -> {target}: {edges.data[position]:.3f}")
plt.show()
