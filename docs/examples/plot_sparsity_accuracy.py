"""
Accuracy against sparsity
=========================

How few weights are enough? The same network is unwrapped with falling budgets. Accuracy
moves late; the divergence from the model's own probabilities shows the loss first.
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

# %%
# From the pixels to the logits, so that every weight is counted. The budget is of all
# three connectors together, spent where it helps most.
totals = [150, 300, 600, 1200, 2400]
reports = []
for total in totals:
    unwrapper = FeatureUnwrapper(
        mlp,
        autoencoder=SparseAutoencoder(64, k=8, max_iter=60),
        n_nonzero_coefs=[total // 2, total // 3, total - total // 2 - total // 3],
        shared_budget=True,
        connect_input=True,
        connect_output=True,
        max_iter=80,
        random_state=0,
    ).fit(X_train)
    reports.append(unwrapper.report(X_test, y_test))

# %%
# In numbers: each row is one budget.
n_model = sum(coef.size for coef in mlp.coefs_)
print(f"the model: accuracy {mlp.score(X_test, y_test):.3f}, {n_model:,} weights")
print("weights  accuracy  agreement  KL")
for report in reports:
    print(
        f"{report.n_weights[-1]:7,}  {report.score[-1]:8.3f}  "
        f"{report.agreement[-1]:9.3f}  {report.kl[-1]:.3f}"
    )

# %%
# Left, accuracy with that of the model as a line; right, the divergence. The knee of
# the left curve is where to stop.
figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
weights = [report.n_weights[-1] for report in reports]
axes[0].axhline(mlp.score(X_test, y_test), color="0.5", linestyle="--", label="model")
axes[0].plot(weights, [report.score[-1] for report in reports], "o-", label="network")
axes[0].set(ylabel="accuracy on test digits")
axes[0].legend()
axes[1].plot(weights, [report.kl[-1] for report in reports], "o-")
axes[1].set(ylabel="KL from the model, nats", ylim=(0, None))
for ax in axes:
    ax.set(xlabel="weights in all", xscale="log")
    ax.set_xticks(totals, [f"{total:,}" for total in totals])
    ax.minorticks_off()
plt.show()
