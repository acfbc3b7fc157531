"""
Read another library's file
===========================

An autoencoder that was trained elsewhere becomes a fitted ``SparseAutoencoder``, and
goes on from there: codes, pictures, connectors, a Pipeline. The file is made here, in
the format of SAELens and in that of dictionary_learning, so that nothing is downloaded.
"""

import json
import tempfile
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from skfeat import SparseAutoencoder
from skfeat.inspection import ImageGridDisplay
from skfeat.interop import read_dictionary_learning, read_saelens, write_saelens

X, y = load_digits(return_X_y=True)
X = (X / 16).astype(np.float32)
trained = SparseAutoencoder(96, k=8, max_iter=80, random_state=0).fit(X)

# %%
# SAELens: written, read back, and equal to the last digits of float32.
with tempfile.TemporaryDirectory() as folder:
    write_saelens(trained, folder, metadata={"model_name": "digits"})
    print(sorted(path.name for path in Path(folder).iterdir()))
    autoencoder = read_saelens(folder)
difference = abs(autoencoder.transform(X) - trained.transform(X)).max()
print(f"largest difference of codes: {difference:.1e}")

# %%
# dictionary_learning: a torch file and a configuration. It is read with weights alone,
# so that no code in the file runs.
with tempfile.TemporaryDirectory() as folder:
    tensors = {
        "bias": torch.from_numpy(X.mean(axis=0)),
        "decoder.weight": torch.from_numpy(trained.components_.T.copy()),
        "encoder.weight": torch.from_numpy(trained.encoder_coef_.copy()),
        "encoder.bias": torch.full((96,), -0.3),
    }
    torch.save(tensors, Path(folder) / "ae.pt")
    config = {"trainer": {"dict_class": "AutoEncoder"}}
    (Path(folder) / "config.json").write_text(json.dumps(config))
    other = read_dictionary_learning(folder)
print(other)

# %%
# A fitted autoencoder is kept as it is inside a larger estimator by wrapping it: only
# the classifier is trained here.
pipeline = make_pipeline(
    FrozenEstimator(autoencoder), LogisticRegression(max_iter=2000)
).fit(X[:1400], y[:1400])
print(f"accuracy on its codes: {pipeline.score(X[1400:], y[1400:]):.3f}")

# %%
# Its dictionary: the directions of the sixteen most active features, as images. Strokes
# and parts of digits.
busiest = (autoencoder.transform(X) > 0).mean(axis=0).argsort()[::-1][:16]
ImageGridDisplay.from_estimator(autoencoder, features=busiest, image_shape=(8, 8))
plt.show()
