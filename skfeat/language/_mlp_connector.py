"""A nonlinear map between features, which shows what linear maps miss."""

from __future__ import annotations

from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import torch
from scipy import sparse
from sklearn.utils.validation import check_is_fitted, validate_data

from skfeat._base import CallbackEpochs, SkfeatEstimator
from skfeat.language._dense_map import fit_dense
from skfeat.metrics._reconstruction import r2_of_predictions, r2_of_sums
from skfeat.solvers._loop import Messages, Stopping, run_epochs
from skfeat.utils._adam import Adam
from skfeat.utils._arrays import accept_tensor
from skfeat.utils._bases import MultiOutputMixin, RegressorMixin, fit_context
from skfeat.utils._finite import check_finite_result
from skfeat.utils._sklearn import Interval, StrOptions
from skfeat.utils._torch import (
    PLAIN,
    check_memory,
    draw_seed,
    epochs_of_updates,
    make_generator,
    n_batches,
    resolve_device,
    shuffled_batches,
    to_numpy,
    with_gradients,
)

_AUTO_UPDATES = 2000
_REMEDY = "lower 'learning_rate_init' or rescale X and y"
# Rows whose codes are dense at a time.
_BLOCK_ROWS = 2048


class MLPConnector(MultiOutputMixin, RegressorMixin, SkfeatEstimator):
    """Predict features from features by a linear map and a hidden layer of ReLUs.

    ``y = W x + V max(0, U x + c) + b``. Features are not negative, so hidden units
    could compute ``W x`` as well: this is the usual network with one hidden layer,
    written so that it starts from the least-squares W. Adam then trains U, V, b and c
    on the residual. The weights of the best epoch on held-out rows are kept; these may
    be the linear map alone.

    It is meant as the `nonlinear_connector` of a :class:`LayerPair`: features that it
    predicts better than the dense linear map does are not linear.

    Parameters
    ----------
    hidden_units : int, default=256
        Units of the hidden layer.

    learning_rate_init : float, default=2e-3
        Largest learning rate of Adam, on data of unit mean square; it decays linearly.

    batch_size : int, default=512
        Rows of a minibatch.

    max_iter : int or "auto", default="auto"
        Number of epochs. "auto" takes as many as 2,000 updates need, at least 5.

    validation_fraction : float, default=0.05
        Share of the rows that are held out; at least two rows are.

    ridge : float, default=1e-6
        Ridge of the linear map, for inputs of unit mean square.

    device : str, torch.device or None, default=None
        Device to train on. ``None`` means the CPU.

    random_state : int, RandomState instance or None, default=None
        Seeds the initial weights, the choice of held-out rows and the shuffling.

    verbose : int, default=0
        1: print about thirty lines, with the loss on held-out rows and the time left.
        Above: a line an epoch.

    Attributes
    ----------
    coef_ : ndarray of shape (n_outputs, n_inputs)
        The linear weights W.

    intercept_ : ndarray of shape (n_outputs,)
        The bias b.

    hidden_coef_ : ndarray of shape (hidden_units, n_inputs)
        The hidden weights U.

    hidden_intercept_ : ndarray of shape (hidden_units,)
        The hidden bias c.

    output_coef_ : ndarray of shape (n_outputs, hidden_units)
        The output weights V.

    validation_scores_ : list of float
        R2 over all outputs together on the held-out rows: first of the linear map,
        then after each epoch; nan if these rows do not vary.

    n_iter_ : int
        Number of epochs.

    n_features_in_ : int
        Number of inputs.

    feature_names_in_ : ndarray of shape (n_inputs,)
        Names of the inputs, when X has string column names.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.language import MLPConnector
    >>> X = np.random.default_rng(0).exponential(size=(500, 2))
    >>> y = np.maximum(X[:, 0] - X[:, 1], 0)
    >>> connector = MLPConnector(8, max_iter=100, batch_size=64, random_state=0)
    >>> connector = connector.fit(X, y)
    >>> linear, *_ = connector.validation_scores_
    >>> bool(connector.score(X, y) > 0.9 > linear)
    True
    """

    coef_: np.ndarray
    intercept_: np.ndarray
    hidden_coef_: np.ndarray
    hidden_intercept_: np.ndarray
    output_coef_: np.ndarray

    _parameter_constraints: dict = {  # noqa: RUF012
        "hidden_units": [Interval(Integral, 1, None, closed="left")],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "ridge": [Interval(Real, 0, None, closed="left")],
        "device": "no_validation",  # resolve_device checks it against this machine
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __init__(
        self,
        hidden_units=256,
        *,
        learning_rate_init=2e-3,
        batch_size=512,
        max_iter="auto",
        validation_fraction=0.05,
        ridge=1e-6,
        device=None,
        random_state=None,
        verbose=0,
    ):
        self.hidden_units = hidden_units
        self.learning_rate_init = learning_rate_init
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.validation_fraction = validation_fraction
        self.ridge = ridge
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    @fit_context(prefer_skip_nested_validation=True)
    @with_gradients()
    def fit(self, X: Any, y: Any) -> Self:
        """Fit the linear map, then the hidden layer.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_inputs)
            Features of the first layer.
        y : array-like or sparse matrix of shape (n,) or (n, n_outputs)
            Features of the second layer.

        Returns
        -------
        self : MLPConnector
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is not valid, or if training diverges.
        """
        device = resolve_device(self.device)
        data = {"X": X, "y": y, "metadata": None}
        X, y = validate_data(
            self,
            accept_tensor(X),
            accept_tensor(y, "y"),
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            multi_output=True,
            y_numeric=True,
            ensure_min_samples=3,
        )
        self._y_is_1d = y.ndim == 1
        dtype = X.dtype
        X = sparse.csr_array(X)
        y = sparse.csr_array(y.reshape(X.shape[0], -1)).astype(dtype, copy=False)
        linear = fit_dense(X, y, fit_intercept=True, ridge=float(self.ridge))
        generator = make_generator(draw_seed(self.random_state))
        held_out, train = self._split(X.shape[0], generator)
        # With the two moments of Adam.
        n_bytes = 3 * 4 * int(self.hidden_units) * (X.shape[1] + y.shape[1])
        check_memory("hidden_units", int(self.hidden_units), n_bytes, device)
        network = _Residual(linear, X, y, int(self.hidden_units), generator, device)
        n_epochs = self.max_iter
        if n_epochs == "auto":
            n_epochs = epochs_of_updates(_AUTO_UPDATES, len(train), self.batch_size)
        rates = self._rates(n_epochs * n_batches(len(train), self.batch_size))
        optimizer = Adam(network.weights, float(self.learning_rate_init))
        errors = [network.error(held_out)]
        best = network.copied_weights()

        def run_epoch() -> float:
            for batch in shuffled_batches(len(train), self.batch_size, generator):
                network.update(train[batch], optimizer, next(rates))
            errors.append(network.error(held_out))
            if errors[-1] == min(errors):
                best[:] = network.copied_weights()
            return errors[-1]

        def fitted(weights) -> dict[str, np.ndarray]:
            return _fitted(linear, network.unscaled(weights), dtype)

        context = self._init_callback_context(max_subtasks=n_epochs)
        context.call_on_fit_task_begin(estimator=self, **data)
        run_epochs(
            run_epoch,
            # The rate comes down to zero by the planned end.
            Stopping(n_epochs, 0.0, n_epochs, may_end_falling=True),
            Messages("MLPConnector", _REMEDY, self.verbose),
            state=network.copied_weights,
            hooks=CallbackEpochs(self, context, data, fitted),
        )
        self.n_iter_ = len(errors) - 1
        scores = r2_of_sums(np.asarray(errors), network.spread(held_out))
        self.validation_scores_ = scores.tolist()
        for name, value in fitted(best).items():
            setattr(self, name, value)
        context.call_on_fit_task_end(estimator=self, **data)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Predict the features of the second layer.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_inputs)
            Features of the first layer.

        Returns
        -------
        ndarray of shape (n,) or (n, n_outputs)
            In the shape of the fitted y.
        """
        check_is_fitted(self)
        X = validate_data(
            self,
            accept_tensor(X),
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            reset=False,
        )
        with np.errstate(over="ignore", invalid="ignore"):
            hidden = np.maximum(X @ self.hidden_coef_.T + self.hidden_intercept_, 0)
            y = X @ self.coef_.T + hidden @ self.output_coef_.T + self.intercept_
        check_finite_result("The predictions", y, X)
        return y.ravel() if self._y_is_1d else y

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the R2 of the predictions, averaged over the outputs.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_inputs)
            Features of the first layer.
        y : array-like or sparse matrix of shape (n,) or (n, n_outputs)
            Features of the second layer.
        sample_weight : array-like of shape (n,), default=None
            Weight of each row.

        Returns
        -------
        float
        """
        return r2_of_predictions(self, X, y, sample_weight)

    def _split(self, n: int, generator) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows to validate with, and those to train on."""
        order = torch.randperm(n, generator=generator, device="cpu").numpy()
        # A single row does not vary, so it would have no R2.
        n_held_out = min(max(2, int(self.validation_fraction * n)), n - 1)
        return order[:n_held_out], order[n_held_out:]

    def _rates(self, n_updates: int) -> Iterator[float]:
        """Yield the learning rate of each update, which decays linearly."""
        for done in range(n_updates):
            yield float(self.learning_rate_init) * (1 - done / n_updates)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "intercept_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


def _fitted(linear, weights, dtype) -> dict[str, np.ndarray]:
    """Return the fitted attributes, last the one that marks the estimator as fitted."""
    hidden_coef, hidden_intercept, output_coef, intercept = (
        to_numpy(weight, dtype) for weight in weights
    )
    return {
        "coef_": linear.coef_,
        "hidden_coef_": hidden_coef,
        "hidden_intercept_": hidden_intercept,
        "output_coef_": output_coef,
        "intercept_": linear.intercept_ + intercept,
    }


class _Residual:
    """The hidden layer, trained on inputs and residuals scaled to unit mean square."""

    def __init__(self, linear, X, y, n_hidden, generator, device):
        self.linear, self.X, self.y, self.device = linear, X, y, device
        self.scales = [
            float(np.sqrt(Z.astype(np.float64).power(2).sum() / Z.shape[0])) or 1.0
            for Z in (X, y)
        ]
        # Small next to the steps of Adam, so that training soon outgrows the random
        # start. With pre-activations of size one, the first layer would hardly change.
        first = torch.randn(n_hidden, X.shape[1], generator=generator, **PLAIN)
        first *= X.shape[1] ** -0.5
        new = PLAIN | {"device": device}
        self.weights = [
            first.to(device),
            torch.zeros(n_hidden, **new),
            # Zero, so that training starts from the linear map.
            torch.zeros(y.shape[1], n_hidden, **new),
            torch.zeros(y.shape[1], **new),
        ]
        for weight in self.weights:
            weight.requires_grad_()

    def _tensor(self, array: np.ndarray, scale: float) -> torch.Tensor:
        return torch.from_numpy((array / scale).astype(np.float32)).to(self.device)

    def loss(self, rows: np.ndarray) -> torch.Tensor:
        """Return the squared error of each row."""
        X, y = self.X[rows], self.y[rows]
        inputs = self._tensor(X.toarray(), self.scales[0])
        residual = self._tensor(y.toarray() - self.linear.predict(X), self.scales[1])
        coef, intercept, output, bias = self.weights
        predicted = torch.relu(inputs @ coef.T + intercept) @ output.T + bias
        return (predicted - residual).square().sum(dim=1)

    def update(self, rows: np.ndarray, optimizer: Adam, rate: float) -> None:
        """Take a step on a batch."""
        loss = self.loss(rows).sum() / len(rows)
        optimizer.zero_grad()
        loss.backward()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()

    def copied_weights(self) -> list[torch.Tensor]:
        """Return a copy of the weights as they are."""
        return [weight.detach().clone() for weight in self.weights]

    @torch.no_grad()
    def error(self, rows: np.ndarray) -> float:
        """Return the squared error of all rows together."""
        parts = np.array_split(rows, -(-len(rows) // _BLOCK_ROWS))
        return sum(self.loss(part).sum().item() for part in parts)

    def spread(self, rows: np.ndarray) -> float:
        """Return the squared deviation of all rows from their mean."""
        y = self.y[rows].astype(np.float64)
        means = np.asarray(y.mean(axis=0)).ravel()
        total = y.power(2).sum()
        deviation = total - len(rows) * np.square(means).sum()
        if deviation <= len(rows) * np.finfo(np.float64).eps * total:
            return 0.0
        return float(deviation) / self.scales[1] ** 2

    def unscaled(self, weights: list[torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Return weights for the raw inputs and outputs."""
        coef, intercept, output, bias = weights
        inputs, outputs = self.scales
        return coef / inputs, intercept, output * outputs, bias * outputs
