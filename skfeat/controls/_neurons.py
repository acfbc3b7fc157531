"""Controls without features: the model pruned, and a sparse network from scratch."""

from __future__ import annotations

from itertools import pairwise
from math import ceil
from typing import Any, NamedTuple

import numpy as np

from skfeat.chain import Step
from skfeat.chain._steps import linear_layers
from skfeat.controls._chain_network import ChainNetwork, as_network
from skfeat.controls._target import Target, read_target
from skfeat.network import SparseFeatureNetwork
from skfeat.solvers._prune_chain import PruneSettings, prune_chain
from skfeat.utils._checks import check_int, is_int, is_real, value_error
from skfeat.utils._distributed import agreed
from skfeat.utils._mixtures import share_that_suits
from skfeat.utils._torch import draw_seed, n_batches, resolve_device

# Updates of the weights that "auto" plans, on batches of so many rows.
_UPDATES, _BATCH_SIZE = 2500, 512
_TOL = 1e-4


class Budgets(NamedTuple):
    """Which linear layers keep how many weights; see `PruneSettings`."""

    groups: list[tuple[list[int], int]]
    frozen: list[int]


def pruned_control(
    model: Any,
    X: Any,
    *,
    n_nonzero_coefs: int | list,
    task: str = "auto",
    max_iter: int | str = "auto",
    mixup: float = 0.5,
    device: Any = None,
    random_state: Any = None,
) -> SparseFeatureNetwork | ChainNetwork:
    """Prune a model's own layers, and train what is left on the model's outputs.

    All weights move by Adam, with a learning rate that rises and falls once. Between
    10 and 70 % of the updates those are dropped that cost the loss least by a parabola
    in each: weight^2 times the running mean of gradient^2. They become fewer step by
    step, as with Zhu and Gupta [1]_ but evenly in the logarithm of their number, ever
    more slowly. The loss is the divergence from the model's distribution of a
    classifier, else the squared error in units of each output's deviation. No labels
    are needed, and the model is not modified.

    Parameters
    ----------
    model : torch.nn.Module, skorch net, MLPClassifier, MLPRegressor or Pipeline
        What :class:`skfeat.FeatureUnwrapper` takes.
    X : array-like of shape (n, n_features) or (n, channels, ...)
        Inputs of the model to train on; maps for a convolutional one.
    n_nonzero_coefs : int or list
        Nonzero weights of all linear layers and convolutions together, shared where
        they help most. A list has an entry for each of these layers, those of branches
        too: its number of weights, ``None`` for a layer that stays dense and is
        trained, or "frozen" for one that stays what it is in the model.
    task : {"auto", "classification", "regression"}, default="auto"
        As of :class:`skfeat.FeatureUnwrapper`.
    max_iter : int or "auto", default="auto"
        Number of epochs at most, in batches of 512 rows. "auto" plans as many as make
        2,500 updates.
    mixup : float, default=0.5
        Share of the rows of each batch that are mixed with others, as of
        :class:`skfeat.FeatureUnwrapper`. Zero trains on the rows as they are.
    device : str, torch.device or None, default=None
        Where it is trained. ``None`` means the CPU.
    random_state : int, RandomState instance or None, default=None
        Seeds the order of rows.

    Returns
    -------
    network : SparseFeatureNetwork or ChainNetwork
        Its features are the neurons of the hidden layers. A `ChainNetwork` where the
        model is more than linear layers and ReLUs; scales of batch normalisation are
        taken into linear layers first. That of a Pipeline starts after its steps.

    Raises
    ------
    ValueError
        If a parameter or X does not fit the model.

    References
    ----------
    .. [1] M. Zhu and S. Gupta, "To prune, or not to prune: exploring the efficacy of
       pruning for model compression", ICLR workshop, 2018.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skfeat.controls import pruned_control
    >>> X, y = load_iris(return_X_y=True)
    >>> mlp = MLPClassifier((16, 16), solver="lbfgs", random_state=0).fit(X, y)
    >>> network = pruned_control(
    ...     mlp, X, n_nonzero_coefs=40, max_iter=300, random_state=0
    ... )
    >>> network.n_weights_all_  # of 368
    40
    >>> float((network.predict(X) == mlp.predict(X)).mean()) > 0.95
    True
    """
    target = read_target(model, X, task)
    steps = target.steps
    budgets = as_budgets(n_nonzero_coefs, _n_layers(steps), may_freeze=True)
    return fit_neurons(target, steps, budgets, max_iter, mixup, device, random_state)


def scratch_control(
    model: Any,
    X: Any,
    *,
    n_nonzero_coefs: int | list,
    hidden_layer_sizes: Any = None,
    task: str = "auto",
    max_iter: int | str = "auto",
    mixup: float = 0.5,
    device: Any = None,
    random_state: Any = None,
) -> SparseFeatureNetwork | ChainNetwork:
    """Train a sparse network from random weights on a model's outputs.

    Everything is as in :func:`pruned_control` but for the weights to begin with: what
    it needs of the model is nothing but its outputs.

    Parameters
    ----------
    model : torch.nn.Module, skorch net, MLPClassifier, MLPRegressor or Pipeline
        What :class:`skfeat.FeatureUnwrapper` takes.
    X : array-like of shape (n, n_features) or (n, channels, ...)
        Inputs of the model to train on; maps for a convolutional one.
    n_nonzero_coefs : int or list
        Nonzero weights of all linear layers and convolutions together, or a list with
        an entry for each: its number of weights, or ``None`` for one that stays dense.
    hidden_layer_sizes : sequence of int, default=None
        Widths of hidden layers with ReLUs, such as the numbers of features of an
        unwrapper. ``None``: the model's own layers.
    task : {"auto", "classification", "regression"}, default="auto"
        As of :class:`skfeat.FeatureUnwrapper`.
    max_iter : int or "auto", default="auto"
        Number of epochs at most, in batches of 512 rows. "auto" plans as many as make
        2,500 updates.
    mixup : float, default=0.5
        Share of the rows of each batch that are mixed with others, as of
        :class:`skfeat.FeatureUnwrapper`. Zero trains on the rows as they are.
    device : str, torch.device or None, default=None
        Where it is trained. ``None`` means the CPU.
    random_state : int, RandomState instance or None, default=None
        Seeds the weights to begin with and the order of rows.

    Returns
    -------
    network : SparseFeatureNetwork or ChainNetwork
        As of :func:`pruned_control`.

    Raises
    ------
    ValueError
        If a parameter or X does not fit the model.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skfeat.controls import scratch_control
    >>> X, y = load_iris(return_X_y=True)
    >>> mlp = MLPClassifier((16, 16), solver="lbfgs", random_state=0).fit(X, y)
    >>> scratch_control(
    ...     mlp, X, n_nonzero_coefs=40, hidden_layer_sizes=(32, 32), max_iter=20
    ... ).n_components_
    [32, 32]
    """
    target = read_target(model, X, task)
    steps = target.steps
    if hidden_layer_sizes is not None:
        steps = _layers_of_widths(target, hidden_layer_sizes)
    budgets = as_budgets(n_nonzero_coefs, _n_layers(steps), may_freeze=False)
    return fit_neurons(
        target, steps, budgets, max_iter, mixup, device, random_state, scratch=True
    )


def as_budgets(value: Any, n_layers: int, *, may_freeze: bool) -> Budgets:
    """Check budgets as users give them, of so many linear layers."""
    if is_int(value):
        n = check_int("n_nonzero_coefs", value)
        return Budgets([(list(range(n_layers)), n)], [])
    kinds = "ints of at least 0, None" + " or 'frozen'" * may_freeze
    allowed = (
        f"an int of at least 0, or a list of {n_layers} entries, one for each linear "
        f"layer, of {kinds}"
    )
    if not isinstance(value, list | tuple | np.ndarray) or len(value) != n_layers:
        raise value_error("n_nonzero_coefs", allowed, value)
    groups, frozen = [], []
    for number, entry in enumerate(value):
        if is_int(entry) and entry >= 0:
            groups.append(([number], int(entry)))
        elif may_freeze and isinstance(entry, str) and entry == "frozen":
            frozen.append(number)
        elif entry is not None:
            raise value_error("n_nonzero_coefs", allowed, value)
    if len(frozen) == n_layers:
        raise value_error("n_nonzero_coefs", "a list that freezes not all", value)
    return Budgets(groups, frozen)


def _n_layers(steps) -> int:
    return len(linear_layers(steps))


def _layers_of_widths(target: Target, hidden_layer_sizes: Any) -> tuple[Step, ...]:
    """Return linear layers and ReLUs of these widths, with weights of zero."""
    hidden = np.atleast_1d(np.asarray(hidden_layer_sizes, dtype=object)).tolist()
    widths = [check_int("hidden_layer_sizes", width, 1) for width in hidden]
    if not widths:
        raise value_error("hidden_layer_sizes", "of one layer or more", widths)
    outputs = target.compute(target.X[:1])
    widths = [target.X.shape[1], *widths, outputs.shape[1]]
    dtype = outputs.dtype
    steps = []
    for number, (n_in, n_out) in enumerate(pairwise(widths)):
        arrays = {
            "coef": np.zeros((n_out, n_in), dtype),
            "intercept": np.zeros(n_out, dtype),
        }
        steps += [Step("affine", f"hidden_{number}", arrays), Step("relu")]
    return tuple(steps[:-1])


def fit_neurons(
    target: Target,
    steps: tuple[Step, ...],
    budgets: Budgets,
    max_iter: Any,
    mixup: Any,
    device: Any,
    random_state: Any,
    scratch: bool = False,
) -> SparseFeatureNetwork | ChainNetwork:
    """Prune the linear layers of steps to budgets, and train them on a target.

    Parameters
    ----------
    target : Target
    steps : tuple of Step
        The model's, or others of as many inputs and outputs.
    budgets : Budgets
    max_iter : int or "auto"
    mixup : float
    device : str, torch.device or None
    random_state : int, RandomState instance or None
    scratch : bool, default=False
        Start from random weights.
    """
    if isinstance(max_iter, str) and max_iter == "auto":
        n_epochs = ceil(_UPDATES / n_batches(len(target.X), _BATCH_SIZE))
    elif is_int(max_iter) and max_iter > 0:
        n_epochs = int(max_iter)
    else:
        raise value_error("max_iter", "'auto' or an int of at least 1", max_iter)
    if not is_real(mixup) or not 0 <= mixup <= 1:
        raise value_error("mixup", "a float in the range [0.0, 1.0]", mixup)
    settings = PruneSettings(
        budgets=budgets.groups,
        frozen=budgets.frozen,
        from_scratch=scratch,
        classify=target.classifies,
        n_epochs=n_epochs,
        tol=_TOL,
        batch_size=_BATCH_SIZE,
        device=resolve_device(device),
        seed=agreed(draw_seed(random_state)),
        mixup=share_that_suits(
            float(mixup),
            _BATCH_SIZE,
            target.X,
            lambda rows: [target.compute(rows)],
            ["The outputs of the model"],
        ),
    )
    steps, _ = prune_chain(steps, target.X, target.compute, settings)
    pruned = {number for group, _ in budgets.groups for number in group}
    dense = set(range(_n_layers(steps))) - pruned
    return as_network(steps, target.X.shape[1], dense, target.names)
