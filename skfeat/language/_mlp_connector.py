"""A nonlinear map between features, to tell what the linear ones miss."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
import torch
from scipy import sparse
from sklearn.base import MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from skfeat._base import SkfeatEstimator
from skfeat.language._pair_parts import fit_dense
from skfeat.utils._arrays import accept_tensor
from skfeat.utils._sklearn import Interval, StrOptions, _fit_context
from skfeat.utils._torch import (
    draw_seed,
    make_generator,
    n_batches,
    resolve_device,
    shuffled_batches,
    to_numpy,
)

_AUTO_UPDATES = 2000
# Rows whose dense codes are held at a time.
_ROWS = 2048


class MLPConnector(MultiOutputMixin, RegressorMixin, SkfeatEstimator):
    """Predict features from features by a linear map and a hidden layer of ReLUs.

    ``y = W x + V max(0, U x + c) + b``. Features are not negative, so that ``W x`` can
    be had from hidden units of their own and this is the usual network of one hidden
    layer; written like this it starts from the least-squares W, and learns what that
    leaves. Adam trains U, V, b and c; kept are the weights of the epoch that was best
    on rows held out, which may be the linear map alone.

    Its place is in :class:`LayerPair`, as `nonlinear_connector`: what it predicts
    better than the dense linear map is not linear.

    Parameters
    ----------
    hidden_units : int, default=256
        Units of the hidden layer.

    learning_rate_init : float, default=2e-3
        Largest learning rate of Adam, on data of unit mean square; it decays linearly.

    batch_size : int, default=512
        Rows of a minibatch.

    max_iter : int or "auto", default="auto"
        Number of epochs. "auto" plans as many as make 2,000 updates, and at least 5.

    validation_fraction : float, default=0.05
        Share of the rows held out, at least two.

    ridge : float, default=1e-6
        Ridge of the linear map, for inputs of unit mean square.

    device : str, torch.device or None, default=None
        Where it trains. ``None`` means the CPU.

    random_state : int, RandomState instance or None, default=None
        Seeds the first weights, the rows held out and the shuffling.

    verbose : int, default=0
        Print a line an epoch.

    Attributes
    ----------
    coef_ : ndarray of shape (n_outputs, n_inputs)
        The linear weights W.

    intercept_ : ndarray of shape (n_outputs,)
        b.

    hidden_coef_ : ndarray of shape (hidden_units, n_inputs)
        U.

    hidden_intercept_ : ndarray of shape (hidden_units,)
        c.

    output_coef_ : ndarray of shape (n_outputs, hidden_units)
        V.

    validation_scores_ : list of float
        R2 over all outputs together on the rows held out: of the linear map, then
        after each epoch; nan if these do not vary.

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

    _parameter_constraints: dict = {  # noqa: RUF012
        "hidden_units": [Interval(Integral, 1, None, closed="left")],
        "learning_rate_init": [Interval(Real, 0, None, closed="neither")],
        "batch_size": [Interval(Integral, 1, None, closed="left")],
        "max_iter": [Interval(Integral, 1, None, closed="left"), StrOptions({"auto"})],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "ridge": [Interval(Real, 0, None, closed="left")],
        "device": "no_validation",  # resolve_device knows what this machine has
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

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X, y):
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
        order = torch.randperm(X.shape[0], generator=generator).numpy()
        # Of a single row nothing varies, so that it has no R2.
        n_held_out = max(2, int(self.validation_fraction * len(order)))
        n_held_out = min(n_held_out, len(order) - 1)
        held_out, kept = order[:n_held_out], order[n_held_out:]
        network = _Residual(linear, X, y, int(self.hidden_units), generator, device)
        n_epochs = self.max_iter
        if n_epochs == "auto":
            n_updates = n_batches(len(kept), self.batch_size)
            n_epochs = max(5, -(-_AUTO_UPDATES // n_updates))
        n_steps = n_epochs * n_batches(len(kept), self.batch_size)
        optimizer = torch.optim.Adam(network.weights, lr=float(self.learning_rate_init))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: max(0.0, 1 - step / n_steps)
        )

        spread = network.spread(held_out)
        errors = [network.error(held_out)]
        best = [weight.detach().clone() for weight in network.weights]
        context = self._init_callback_context(max_subtasks=n_epochs)
        context.call_on_fit_task_begin(estimator=self, **data)
        for epoch in range(n_epochs):
            subcontext = context.subcontext(task_name="epoch")
            subcontext.call_on_fit_task_begin(estimator=self, **data)
            for batch in shuffled_batches(len(kept), self.batch_size, generator):
                loss = network.loss(kept[batch]).sum() / len(batch)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            errors.append(network.error(held_out))
            if not np.isfinite(errors[-1]):
                raise ValueError(
                    f"MLPConnector diverged: its loss is non-finite after epoch "
                    f"{epoch}; lower 'learning_rate_init' or rescale X and y."
                )
            if errors[-1] == min(errors):
                best = [weight.detach().clone() for weight in network.weights]
            if self.verbose:
                print(f"[MLPConnector] epoch {epoch}: held-out error {errors[-1]:.6g}")
            if subcontext.call_on_fit_task_end(estimator=self, **data):
                break
        self.n_iter_ = len(errors) - 1
        scores = 1 - np.asarray(errors) / (spread or np.nan)
        self.validation_scores_ = scores.tolist()
        self._store(linear, network.unscaled(best), dtype)
        context.call_on_fit_task_end(estimator=self, **data)
        return self

    def predict(self, X):
        """Predict the features of the second layer.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_inputs)
            Features of the first layer.

        Returns
        -------
        ndarray of shape (n,) or (n, n_outputs)
            In the shape of the y that was fitted.
        """
        check_is_fitted(self)
        X = validate_data(
            self,
            accept_tensor(X),
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            reset=False,
        )
        hidden = np.maximum(X @ self.hidden_coef_.T + self.hidden_intercept_, 0)
        y = X @ self.coef_.T + hidden @ self.output_coef_.T + self.intercept_
        return y.ravel() if self._y_is_1d else y

    def score(self, X, y, sample_weight=None):
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
        y = y.toarray() if sparse.issparse(y) else accept_tensor(y, "y")
        return super().score(X, y, sample_weight)

    def _store(self, linear, weights, dtype):
        hidden_coef, hidden_intercept, output_coef, intercept = (
            to_numpy(weight, dtype) for weight in weights
        )
        self.coef_ = linear.coef_
        self.hidden_coef_, self.hidden_intercept_ = hidden_coef, hidden_intercept
        self.output_coef_ = output_coef
        self.intercept_ = linear.intercept_ + intercept

    def __sklearn_is_fitted__(self):
        return hasattr(self, "intercept_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags


class _Residual:
    """The hidden layer, on inputs and residuals of unit mean square a row."""

    def __init__(self, linear, X, y, n_hidden, generator, device):
        self.linear, self.X, self.y, self.device = linear, X, y, device
        self.scales = [
            float(np.sqrt(Z.astype(np.float64).power(2).sum() / Z.shape[0])) or 1.0
            for Z in (X, y)
        ]
        # Small beside what Adam moves them by: what is drawn at random is soon left
        # behind. At pre-activations of one the first layer stays what it was drawn.
        first = torch.randn(n_hidden, X.shape[1], generator=generator)
        first *= X.shape[1] ** -0.5
        self.weights = [
            first.to(device),
            torch.zeros(n_hidden, device=device),
            # Zero at first: the linear map is where it starts.
            torch.zeros(y.shape[1], n_hidden, device=device),
            torch.zeros(y.shape[1], device=device),
        ]
        for weight in self.weights:
            weight.requires_grad_()

    def _tensor(self, array, scale):
        return torch.from_numpy((array / scale).astype(np.float32)).to(self.device)

    def loss(self, rows):
        """Return the squared error of each row."""
        X, y = self.X[rows], self.y[rows]
        inputs = self._tensor(X.toarray(), self.scales[0])
        target = self._tensor(y.toarray() - self.linear.predict(X), self.scales[1])
        coef, intercept, output, bias = self.weights
        found = torch.relu(inputs @ coef.T + intercept) @ output.T + bias
        return (found - target).square().sum(dim=1)

    @torch.no_grad()
    def error(self, rows) -> float:
        """Return the squared error of all rows."""
        parts = np.array_split(rows, -(-len(rows) // _ROWS))
        return sum(self.loss(part).sum().item() for part in parts)

    def spread(self, rows) -> float:
        """Return the squared deviation of all rows from their mean."""
        y = self.y[rows].astype(np.float64)
        means = np.asarray(y.mean(axis=0)).ravel()
        total = y.power(2).sum()
        deviation = total - len(rows) * np.square(means).sum()
        if deviation <= len(rows) * np.finfo(np.float64).eps * total:
            return 0.0
        return float(deviation) / self.scales[1] ** 2

    def unscaled(self, weights):
        """Return weights for the raw inputs and outputs."""
        coef, intercept, output, bias = weights
        inputs, outputs = self.scales
        return coef / inputs, intercept, output * outputs, bias * outputs
