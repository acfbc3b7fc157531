"""
Save, and predict without torch
===============================

What is deployed is arrays: a file of a few kilobytes that a process without torch loads
and runs. Loading never unpickles, so a file from a stranger cannot run code.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_iris
from sklearn.neural_network import MLPClassifier

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.network import SparseFeatureNetwork
from skfeat.sharing import from_pretrained, save_pretrained

data = load_iris(as_frame=True)
X, y = data.data, data.target_names[data.target]
mlp = MLPClassifier((24, 24), alpha=1.0, max_iter=2000, random_state=0).fit(X, y)
unwrapper = FeatureUnwrapper(
    mlp,
    autoencoder=SparseAutoencoder(32, k=8, max_iter=150),
    n_nonzero_coefs=[60, 50, 30],
    connect_input=True,
    connect_output=True,
    max_iter=150,
    random_state=0,
).fit(X)

# %%
# ``compact`` leaves out what nothing reads: the same function, in fewer features.
network = unwrapper.network().compact()
print(f"features: {unwrapper.network().n_components_} before")
print(f"features: {network.n_components_} after")

# %%
# The file keeps the classes and the names of the columns.
folder = tempfile.TemporaryDirectory()
path = Path(folder.name) / "iris.npz"
network.save(path)
print(f"{path.stat().st_size / 1024:.1f} KiB")
loaded = SparseFeatureNetwork.load(path)
print(loaded.classes_, list(loaded.feature_names_in_))
print(f"same labels: {(loaded.predict(X) == unwrapper.predict(X)).mean():.0%}")

# %%
# In a process of its own, which never loads torch.
program = f"""
import sys
from skfeat.network import SparseFeatureNetwork
from sklearn.datasets import load_iris

network = SparseFeatureNetwork.load({str(path)!r})
rows = load_iris(as_frame=True).data.iloc[[0, 75, 149]]
print(*network.predict(rows), "- torch loaded:", "torch" in sys.modules)
"""
done = subprocess.run(
    [sys.executable, "-c", program], capture_output=True, text=True, check=True
)
print(done.stdout)

# %%
# For others: a folder with the same arrays and a model card, which says what it is, how
# large and how to load it. ``push_to_hub`` writes it to the Hugging Face Hub.
shared = Path(folder.name) / "shared"
save_pretrained(network, shared, license="cc0-1.0", measures=unwrapper.report(X, y))
print(sorted(path.name for path in shared.iterdir()))
print((shared / "README.md").read_text()[:600])
print(from_pretrained(shared))

# %%
# The saved network decides as the model does: its regions over the two measurements of
# the petals, the others at their means. Points are the flowers.
lengths, widths = np.meshgrid(np.linspace(0.5, 7.5, 120), np.linspace(0, 2.8, 120))
grid = np.tile(X.mean().to_numpy(), (lengths.size, 1))
grid[:, 2], grid[:, 3] = lengths.ravel(), widths.ravel()
labels = list(loaded.classes_)
figure, axes = plt.subplots(
    1, 2, figsize=(9.5, 3.9), layout="constrained", sharex=True, sharey=True
)
frame = X.iloc[: len(grid)].iloc[:0].reindex(range(len(grid)))
frame[:] = grid
for ax, model, title in [(axes[0], mlp, "model"), (axes[1], loaded, "saved network")]:
    regions = np.array([labels.index(label) for label in model.predict(frame)])
    ax.contourf(lengths, widths, regions.reshape(lengths.shape), alpha=0.3, levels=2)
    for label in labels:
        ax.scatter(*X.to_numpy()[y == label][:, 2:].T, s=12, label=label)
    ax.set(title=title, xlabel=X.columns[2])
axes[0].set_ylabel(X.columns[3])
axes[0].legend(loc="upper left")
folder.cleanup()
plt.show()
