"""A peer's whole training, at a rate that is given or at the better of two."""

from __future__ import annotations

import torch

from skfeat.metrics import fvu

# Rates of top-k that are tried where the better of two counts. The signs that sparsify
# descends by take larger ones than Adam does.
RATES = {
    "plain PyTorch": (1e-3, 3e-3),
    "SAELens": (1e-3, 3e-3),
    "dictionary_learning": (1e-3, 3e-3),
    "overcomplete": (1e-3, 3e-3),
    "sparsify": (7e-3, 2e-2),
}


class TrainedPeer:
    """A trained peer, with methods and directions named as those of an estimator."""

    def __init__(self, peer):
        self.peer = peer
        self.components_ = peer.decoder()

    def transform(self, X):
        """Return the codes (n, m) of float32 rows (n, d)."""
        return self.peer.encode(torch.from_numpy(X)).numpy()

    def inverse_transform(self, codes):
        """Return the rows (n, d) that codes (n, m) stand for."""
        return self.peer.decode(torch.from_numpy(codes)).numpy()


def train_peer(peer, rate, X, m, k, schedule, seed):
    """Train a peer in as many batches an epoch as `SparseAutoencoder` makes.

    Parameters
    ----------
    peer : class
        One of `available_peers`.
    rate : float or None
        Learning rate; ``None`` is the library's own.
    X : ndarray of shape (n, d), float32
    m, k : int
    schedule : tuple of int
        Number of epochs, and rows of a batch.
    seed : int
        Of the weights and of the order of the rows.

    Returns
    -------
    TrainedPeer
    """
    n_epochs, batch_size = schedule
    n_batches = max(1, round(len(X) / batch_size))
    rows = torch.from_numpy(X)
    with torch.random.fork_rng(devices=[]):
        racer = peer(
            rows.shape[1],
            m,
            k=k,
            learning_rate=rate,
            seed=seed,
            n_steps=n_epochs * n_batches,
        )
        racer.prepare(rows[:4096])
        for _ in range(n_epochs):
            for part in torch.randperm(len(rows)).tensor_split(n_batches):
                racer.step(rows[part])
    return TrainedPeer(racer)


def train_at_best_rate(peer, X, X_test, m, k, schedule, seed=0):
    """Return the one of a peer's `RATES` that does best on `X_test`, and its fit."""
    found = []
    for rate in RATES[peer.name]:
        fitted = train_peer(peer, rate, X, m, k, schedule, seed)
        left = fvu(X_test, fitted.inverse_transform(fitted.transform(X_test)))
        found.append((left, rate, fitted))
    _, rate, fitted = min(found, key=lambda one: one[0])
    return rate, fitted
