"""
A regression, with named columns
================================

A network that predicts how diabetes progresses from ten measurements. The columns of
the data frame keep their names through formulas, attributions and graphs.
"""

from matplotlib import pyplot as plt
from sklearn.datasets import load_diabetes
from sklearn.neural_network import MLPRegressor

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.inspection import FeatureGraphDisplay, TopExamplesDisplay

X, y = load_diabetes(return_X_y=True, as_frame=True)
X = X / X.std()
y = (y - y.mean()) / y.std()
X_train, X_test, y_train, y_test = X[:350], X[350:], y[:350], y[350:]
mlp = MLPRegressor(hidden_layer_sizes=(24, 24), alpha=3.0, max_iter=800, random_state=0)
mlp.fit(X_train, y_train)

# %%
# Sparse from the measurements to the prediction, by 160 weights. With eight active
# features a row, many features of so small a layer would stay unused, so there are few.
unwrapper = FeatureUnwrapper(
    mlp,
    autoencoder=SparseAutoencoder(32, k=8, max_iter=200),
    n_nonzero_coefs=[80, 60, 20],
    connect_input=True,
    connect_output=True,
    max_iter=150,
    random_state=0,
).fit(X_train)
print(f"R2 of the model on test rows:   {mlp.score(X_test, y_test):.3f}")
print(f"R2 of the network on test rows: {unwrapper.score(X_test, y_test):.3f}")
print(f"R2 of the network against the model: {unwrapper.score(X_test):.3f}")

# %%
# How the prediction is made: of which features, and those of which measurements.
print(unwrapper.output_connector_.formula(0, max_terms=4))
last = abs(unwrapper.output_connector_.coef_.toarray()[0]).argmax()
print(unwrapper.connectors_[0].formula(last, max_terms=3))
first = abs(unwrapper.connectors_[0].coef_[[last]].toarray()[0]).argmax()
print(unwrapper.input_connector_.formula(first, max_terms=4))

# %%
# The patient with the highest prediction: what each measurement brings to it, in
# standard deviations of the target. The title has the model's own prediction beside the
# network's.
row = X_test.iloc[[mlp.predict(X_test).argmax()]]
told = unwrapper.network().attribute(row, inputs=True)
parts = told.inputs[0]
order = abs(parts).argsort()
figure, ax = plt.subplots(figsize=(7, 3.8), layout="constrained")
ax.barh(
    [f"{told.input_names[i]} = {row.iloc[0, i]:+.1f}" for i in order],
    parts[order],
    color=["tab:red" if parts[i] > 0 else "tab:blue" for i in order],
)
ax.axvline(0, color="0.5", linewidth=0.8)
ax.set(
    xlabel="what a measurement brings to the prediction",
    title=f"predicted {told.value[0]:+.2f}, the model says {mlp.predict(row)[0]:+.2f}",
)

# %%
# The same patient as a graph: the edges that carried most.
figure, ax = plt.subplots(figsize=(10, 5.5), layout="constrained")
FeatureGraphDisplay.from_estimator(unwrapper, row, inputs=True, n_edges=22, ax=ax)

# %%
# What excites features of the last layer most: for each of four patients the
# measurements, on bars of their distance from the mean.
TopExamplesDisplay.from_estimator(
    unwrapper, X_test, layer="hidden_1", n_features=3, n_examples=4
)
plt.show()
