"""
In a Pipeline and a grid search
===============================

``SparseAutoencoder`` is a transformer like any other: it goes into a Pipeline, a search
chooses its parameters, and its codes are features for a linear classifier.
"""

import warnings

import pandas as pd
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler

from skfeat import SparseAutoencoder

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

# %%
# Codes may stay sparse on their way to the next step. The diagram links each step to
# its page in the reference.
pipeline = make_pipeline(
    MinMaxScaler(),
    SparseAutoencoder(max_iter=40, sparse_output=True, random_state=0),
    LogisticRegression(max_iter=2000),
)
pipeline

# %%
# The number of features and of active ones, chosen by the accuracy of what follows.
# Some settings leave features dead, of which the fit warns: the search may find out.
warnings.filterwarnings("ignore", message=".*features are dead")
search = GridSearchCV(
    pipeline,
    {
        "sparseautoencoder__n_components": [64, 128, 256],
        "sparseautoencoder__k": [4, 8, 16],
    },
    cv=3,
).fit(X_train, y_train)
print(search.best_params_)
print(f"accuracy on test digits: {search.score(X_test, y_test):.3f}")

# %%
# All nine settings. More features help where few are active.
results = pd.DataFrame(search.cv_results_)
grid = results.pivot_table(
    index="param_sparseautoencoder__k",
    columns="param_sparseautoencoder__n_components",
    values="mean_test_score",
)
figure, ax = plt.subplots(figsize=(5, 3.8), layout="constrained")
image = ax.imshow(grid, cmap="Blues")
ax.set_xticks(range(3), grid.columns)
ax.set_yticks(range(3), grid.index)
ax.set(xlabel="features", ylabel="active features a row")
middle = grid.to_numpy().mean()
for (i, j), score in [((i, j), grid.iat[i, j]) for i in range(3) for j in range(3)]:
    color = "white" if score > middle else "black"
    ax.text(j, i, f"{score:.3f}", ha="center", va="center", color=color)
figure.colorbar(image, label="accuracy, three folds")
plt.show()
