"""A nonlinear map between features, to see what the linear ones miss."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils import check_random_state
from torch import nn


class ResidualMLP(RegressorMixin, BaseEstimator):
    """Least squares plus a network of one hidden layer, ``W x + V relu(U x + b)``.

    The network is trained by AdamW on what the linear map leaves, and kept as it was
    after the epoch that was best on rows held out: it is never worse there than the
    linear map alone.

    Parameters
    ----------
    width : int
        Units of the hidden layer.
    max_iter : int
        Epochs.
    ridge : float
        Of the linear map, relative to the mean square of an input.
    random_state : int, RandomState instance or None
    """

    def __init__(
        self,
        width=256,
        *,
        max_iter=5,
        learning_rate=2e-3,
        batch_size=512,
        validation_fraction=0.05,
        ridge=1e-6,
        random_state=None,
    ):
        self.width = width
        self.max_iter = max_iter
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.validation_fraction = validation_fraction
        self.ridge = ridge
        self.random_state = random_state

    def fit(self, X, y):
        """Fit to codes of shapes (n, p) and (n, q) in CSR."""
        self.n_features_in_ = X.shape[1]
        self.coef_ = self._least_squares(X, y)
        random = check_random_state(self.random_state)
        order = random.permutation(X.shape[0])
        n_held_out = max(1, int(self.validation_fraction * len(order)))
        held_out, rows = order[:n_held_out], order[n_held_out:]
        scale = np.sqrt(X.power(2).sum() / X.shape[0])
        spread = np.sqrt(y.power(2).sum() / y.shape[0])
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(random.randint(2**31)))
            network = nn.Sequential(
                nn.Linear(X.shape[1], self.width),
                nn.ReLU(),
                nn.Linear(self.width, y.shape[1], bias=False),
            )
        # Zero at first: the linear map is where it starts.
        nn.init.zeros_(network[2].weight)
        n_steps = self.max_iter * -(-len(rows) // self.batch_size)
        optimizer = torch.optim.AdamW(network.parameters(), lr=self.learning_rate)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, self.learning_rate, total_steps=n_steps, pct_start=0.1
        )

        def error(chosen):
            inputs, residual = X[chosen], y[chosen].toarray() - X[chosen] @ self.coef_.T
            found = network(torch.from_numpy(inputs.toarray() / scale))
            target = torch.from_numpy(residual / spread)
            return (found - target).square().sum(dim=1).mean()

        def held_out_error():
            with torch.no_grad():
                parts = np.array_split(held_out, -(-len(held_out) // 4096))
                return sum(len(p) * error(p).item() for p in parts) / len(held_out)

        best = held_out_error()
        kept = {k: v.clone() for k, v in network.state_dict().items()}
        for _ in range(self.max_iter):
            random.shuffle(rows)
            for start in range(0, len(rows), self.batch_size):
                loss = error(rows[start : start + self.batch_size])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            if (now := held_out_error()) < best:
                best = now
                kept = {k: v.clone() for k, v in network.state_dict().items()}
        self.weights_in_ = (kept["0.weight"] / scale).numpy()
        self.bias_ = kept["0.bias"].numpy()
        self.weights_out_ = (kept["2.weight"] * spread).numpy()
        return self

    def _least_squares(self, X, y):
        gram = (X.T @ X).toarray().astype(np.float64)
        gram[np.diag_indices_from(gram)] += self.ridge * np.trace(gram) / len(gram)
        moments = (X.T @ y).toarray().astype(np.float64)
        return np.linalg.solve(gram, moments).T.astype(np.float32)

    def predict(self, X):
        """Return an array of shape (n, q)."""
        hidden = np.maximum(X @ self.weights_in_.T + self.bias_, 0)
        return X @ self.coef_.T + hidden @ self.weights_out_.T
