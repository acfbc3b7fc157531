"""Other ways to fit a connector: libraries' Lasso output by output, and Adam."""

from __future__ import annotations

import importlib.util
import time

import numpy as np
import torch
from sklearn.linear_model import Lasso

# Only `tol` shall end a fit.
MANY = 100_000


class SklearnGram:
    """scikit-learn's Lasso on one Gram matrix of dense, centred inputs.

    All outputs in one call, which checks the inputs once: the fastest way there is to
    use it.
    """

    name = "scikit-learn, Gram, one call"
    samples = False

    def prepare(self, X, Y):
        """Do what serves every output."""
        # What Lasso does to the data itself where it may fit an intercept, but once.
        self.X = X.toarray(order="F")
        self.X -= self.X.mean(axis=0)
        self.gram = self.X.T @ self.X
        self.Y = np.asfortranarray(Y - Y.mean(axis=0))

    def solve(self, alpha, tol):
        """Return the weights."""
        return self._lasso(alpha, tol).fit(self.X, self.Y).coef_

    def _lasso(self, alpha, tol):
        return Lasso(
            alpha,
            fit_intercept=False,
            precompute=self.gram,
            copy_X=False,
            max_iter=MANY,
            tol=tol,
        )


class SklearnGramByOutput(SklearnGram):
    """The same output by output, as one would write it first."""

    name = "scikit-learn, Gram, by output"
    samples = True

    def solve(self, alpha, tol):
        """Return the weights."""
        lasso = self._lasso(alpha, tol)
        return np.stack([lasso.fit(self.X, y).coef_.copy() for y in self.Y.T])


class ByOutput:
    """A Lasso that takes sparse inputs, fitted to one output after the other."""

    samples = True

    def __init__(self, name, make):
        self.name, self.make = name, make

    def prepare(self, X, Y):
        """Store by columns, as all of them need it."""
        self.X, self.Y = X.tocsc(), np.asfortranarray(Y)

    def solve(self, alpha, tol):
        """Return the weights."""
        lasso = self.make(alpha, tol)
        return np.stack([np.array(lasso.fit(self.X, y).coef_) for y in self.Y.T])


def available_lassos():
    """Return the contestants whose library is installed.

    Those that go output by output may be timed on a sample of them (`samples`).
    """
    found = [
        SklearnGram(),
        SklearnGramByOutput(),
        ByOutput("scikit-learn, sparse", lambda a, t: Lasso(a, tol=t, max_iter=MANY)),
    ]
    if importlib.util.find_spec("skglm"):
        import skglm

        found.append(
            ByOutput("skglm", lambda a, t: skglm.Lasso(a, tol=t, max_iter=1000))
        )
    if importlib.util.find_spec("celer"):
        import celer

        found.append(
            ByOutput("celer", lambda a, t: celer.Lasso(a, tol=t, max_iter=1000))
        )
    return found


class Adam:
    """A connector trained by Adam on half the squared error of a row, summed, plus L1.

    Parameters
    ----------
    X : tensor of shape (n, p), dense
    Y : tensor of shape (n, q), dense
    alpha : float
        Weight of the penalty, on Lasso's scale.
    link : {"relu", "identity"}
    rate : float
    batch_size : int
    proximal : bool, default=False
        Apply the penalty by a proximal step, which makes exact zeros; by default it is
        in the loss, as in the article.
    start : pair of ndarray, default=None
        Weights and intercepts; None draws them as torch does for a linear layer.
    support : bool ndarray of shape (q, p), default=None
        Weights that may be nonzero; those of `start` outside of it must be zero.
    seed : int, default=0
    """

    def __init__(
        self,
        X,
        Y,
        alpha,
        *,
        link="relu",
        rate=1e-3,
        batch_size=256,
        proximal=False,
        start=None,
        support=None,
        seed=0,
    ):
        self.X, self.Y, self.alpha = X, Y, alpha
        self.link, self.batch_size, self.proximal = link, batch_size, proximal
        self.support = None if support is None else torch.from_numpy(support)
        self.generator = torch.Generator().manual_seed(seed)
        shape = Y.shape[1], X.shape[1]
        if start is None:
            drawn = torch.rand(shape, generator=self.generator)
            start = (2 * drawn - 1) / shape[1] ** 0.5, torch.zeros(shape[0])
        self.coef, self.intercept = self.parts = [
            torch.as_tensor(part, dtype=torch.float32).clone().requires_grad_()
            for part in start
        ]
        self.optimizer = torch.optim.Adam(self.parts, lr=rate, fused=True)
        self.n_steps = 0

    def step(self, rows):
        """Train on some rows."""
        output = torch.addmm(self.intercept, self.X[rows], self.coef.T)
        if self.link == "relu":
            output = output.relu()
        loss = (output - self.Y[rows]).square().sum() / (2 * len(rows))
        if not self.proximal and self.alpha:
            loss = loss + self.alpha * self.coef.abs().sum()
        self.optimizer.zero_grad()
        loss.backward()
        if self.support is not None:
            self.coef.grad *= self.support
        self.optimizer.step()
        self.n_steps += 1
        if self.proximal:
            self._shrink()

    @torch.no_grad()
    def _shrink(self):
        # By alpha over each weight's own curvature, as Adam's step is.
        group = self.optimizer.param_groups[0]
        mean_square = self.optimizer.state[self.coef]["exp_avg_sq"]
        root = (mean_square / (1 - group["betas"][1] ** self.n_steps)).sqrt_()
        cut = group["lr"] * self.alpha / root.add_(group["eps"])
        self.coef.copy_(self.coef.sign() * (self.coef.abs() - cut).clamp_(min=0))

    def batches(self):
        """Yield the rows of the batches of one epoch."""
        order = torch.randperm(len(self.X), generator=self.generator)
        yield from order.split(self.batch_size)

    def train(self, n_epochs, *, decay=False):
        """Train for epochs; with `decay` the rate falls linearly to zero."""
        n_total = n_epochs * -(-len(self.X) // self.batch_size)
        rate = self.optimizer.param_groups[0]["lr"]
        for _ in range(n_epochs):
            for rows in self.batches():
                if decay:
                    left = 1 - self.n_steps / n_total
                    self.optimizer.param_groups[0]["lr"] = rate * left
                self.step(rows)
        return self.weights()

    def train_for(self, checkpoints):
        """Train until each time in seconds; yield time, epochs and weights there.

        What the caller does between is not counted.
        """
        seconds, checkpoints = 0.0, list(checkpoints)
        while True:
            start = time.perf_counter()
            for rows in self.batches():
                self.step(rows)
                now = time.perf_counter()
                if seconds + now - start >= checkpoints[0]:
                    seconds += now - start
                    epochs = self.n_steps * self.batch_size / len(self.X)
                    yield seconds, epochs, self.weights()
                    checkpoints.pop(0)
                    if not checkpoints:
                        return
                    start = time.perf_counter()
            seconds += time.perf_counter() - start

    def weights(self):
        """Return copies of the weights and intercepts."""
        return [part.detach().numpy().copy() for part in self.parts]
