"""Random rows of a table of autoencoders: what any measure gives to no dictionary.

Measures of features are often as high for autoencoders that were not trained, or whose
directions are random, as for those that were. Three rows say how high:

- "frozen decoder": random directions that stay as they are, and a trained encoder;
- "untrained": an autoencoder as it starts, its bias and threshold alone set;
- "permuted codes": the codes of a trained autoencoder, each feature's given to other
  rows.
"""

from __future__ import annotations

import warnings

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from skfeat import SparseAutoencoder

FROZEN, UNTRAINED, PERMUTED = "frozen decoder", "untrained", "permuted codes"
# Rows that an untrained autoencoder sees: enough for its threshold.
_N_SEEN = 20_000


class FrozenDecoder:
    """An autoencoder with random directions, the encoder of which is trained.

    Codes are the k largest pre-activations of a row, as far as they are positive, as in
    the top-k of `SparseAutoencoder`; Adam, in batches of rows, one after the other.

    Parameters
    ----------
    m, k : int
        Features, and active ones a row.
    seed : int
    learning_rate : float
        Of Adam; it falls to zero.
    batch_size : int
    """

    def __init__(self, m, k, seed, *, learning_rate=3e-3, batch_size=1024):
        self.m, self.k, self.seed = m, k, seed
        self.learning_rate, self.batch_size = learning_rate, batch_size

    def fit(self, X, n_epochs=1):
        """Train on float32 rows (n, d)."""
        generator = torch.Generator().manual_seed(self.seed)
        directions = torch.randn(self.m, X.shape[1], generator=generator)
        self.directions = nn.functional.normalize(directions)
        self.shift = torch.from_numpy(X.mean(axis=0, dtype=np.float64)).float()
        self.encoder = self.directions.clone().requires_grad_()
        self.bias = torch.zeros(self.m, requires_grad=True)
        adam = torch.optim.Adam([self.encoder, self.bias], self.learning_rate)
        n_steps = n_epochs * -(-len(X) // self.batch_size)
        schedule = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.0, n_steps)
        for _ in range(n_epochs):
            order = torch.randperm(len(X), generator=generator)
            for part in order.split(self.batch_size):
                rows = torch.from_numpy(X[part.numpy()])
                error = self.decode(self.encode(rows)) - rows
                loss = error.square().sum(dim=1).mean()
                adam.zero_grad()
                loss.backward()
                adam.step()
                schedule.step()
        self.encoder.requires_grad_(False)
        self.bias.requires_grad_(False)
        return self

    def encode(self, rows):
        """Return codes (n, m) of a tensor of rows."""
        pre = (rows - self.shift) @ self.encoder.T + self.bias
        values, places = pre.topk(self.k, dim=1)
        return torch.zeros_like(pre).scatter(1, places, values.relu())

    def decode(self, codes):
        """Return the rows that a tensor of codes stands for."""
        return codes @ self.directions + self.shift


def untrained(X, m, k, seed, activation="batch_topk"):
    """Return an autoencoder as training starts from it."""
    # So small a rate moves nothing: what is left is the start, in the rows' units.
    start = SparseAutoencoder(
        m,
        k=k,
        activation=activation,
        max_iter=1,
        learning_rate_init=1e-12,
        dead_features="ignore",
        random_state=seed,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return start.fit(X[:_N_SEEN])


def permuted(codes, seed):
    """Return codes (n, m) in which each column is in an order of its own."""
    rng = np.random.default_rng(seed)
    return rng.permuted(codes, axis=0)
