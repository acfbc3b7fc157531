"""All controls of one unwrapper, to as many weights as its network has."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

from skfeat.adapters import logits_end
from skfeat.chain import Chain
from skfeat.chain._steps import linear_layers
from skfeat.controls._features import (
    check_unwrapper,
    connectors_of,
    shuffled_control,
    untrained_control,
)
from skfeat.controls._neurons import Budgets, fit_neurons
from skfeat.controls._target import read_target
from skfeat.network import SparseMapNetwork
from skfeat.network._arrays import names_and_classes


def fit_controls(
    unwrapper: Any,
    X: Any,
    *,
    max_iter: int | str = "auto",
    random_state: Any = None,
) -> dict[str, Any]:
    """Fit all controls of an unwrapper, to as many weights as its network has.

    Where the network reads its first features from the inputs by a connector, the first
    layers of "pruned" and "scratch" have its weights; where it has the model's first
    layers and an encoder, theirs stay dense. Those of "pruned" are trained if that
    encoder was trained on more than its own reconstruction, else they are the model's.
    So it is at the end, where a dense layer is always trained. Rows are mixed for these
    two if they were for the unwrapper.

    Parameters
    ----------
    unwrapper : FeatureUnwrapper
        A fitted one, with connectors.
    X : array-like of shape (n, n_features)
        Inputs of the model to fit on, best those that the unwrapper was fitted on.
    max_iter : int or "auto", default="auto"
        Epochs of "pruned" and "scratch"; see :func:`pruned_control`.
    random_state : int, RandomState instance or None, default=None
        Seeds the controls.

    Returns
    -------
    controls : dict of str to network
        "pruned", "scratch", "untrained" and "shuffled"; see :func:`pruned_control`,
        :func:`scratch_control`, :func:`untrained_control`, :func:`shuffled_control`.

    Raises
    ------
    TypeError
        If `unwrapper` is none.
    ValueError
        If it has no connectors.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skfeat import FeatureUnwrapper, SparseAutoencoder
    >>> from skfeat.controls import fit_controls
    >>> X, y = load_iris(return_X_y=True)
    >>> X = (X - X.mean(axis=0)) / X.std(axis=0)
    >>> mlp = MLPClassifier((8, 8), "tanh", solver="lbfgs", alpha=1.0, random_state=0)
    >>> mlp = mlp.fit(X, y)
    >>> part = SparseAutoencoder(8, k=4, max_iter=40, random_state=0)
    >>> unwrapper = FeatureUnwrapper(mlp, autoencoder=part, random_state=0).fit(X)
    >>> controls = fit_controls(unwrapper, X, max_iter=50, random_state=0)
    >>> print(unwrapper.report(X, y, controls=controls).controls.network)
    ['model', 'features', 'pruned', 'scratch', 'untrained', 'shuffled']
    """
    check_unwrapper(unwrapper)
    # First, as it has the message where there is no connector.
    shuffled = shuffled_control(unwrapper, X, random_state=random_state)
    budgets = matched_budgets(unwrapper)
    task = "classification" if hasattr(unwrapper, "classes_") else "regression"
    target = read_target(*_model_of(unwrapper, X), task)
    network = unwrapper.network()
    if isinstance(network, SparseMapNetwork):
        target = replace(target, names=names_and_classes(network))
    pruned, scratch = (
        fit_neurons(
            target,
            target.steps,
            own,
            max_iter,
            unwrapper.mixup if unwrapper.joint and unwrapper.distill else 0.0,
            unwrapper.device,
            random_state,
            scratch=own is not budgets,
        )
        for own in (budgets, budgets._replace(frozen=[]))
    )
    return {
        "pruned": pruned,
        "scratch": scratch,
        "untrained": untrained_control(unwrapper, X, random_state=random_state),
        "shuffled": shuffled,
    }


def _model_of(unwrapper: Any, X: Any) -> tuple[Any, Any]:
    """Return what a control stands for, and the rows that it is fitted on."""
    is_of_maps = isinstance(unwrapper.network(), SparseMapNetwork)
    if unwrapper.start is None and not is_of_maps:
        return unwrapper.model, X
    classes = getattr(unwrapper, "classes_", None)
    return _Part(unwrapper._chain, classes), unwrapper.network_inputs(X)


class _Part:
    """The part of a model that an unwrapper has read."""

    def __init__(self, chain: Chain, classes: Any):
        self.chain = chain
        if classes is not None:
            self.classes_ = classes

    def __skfeat_chain__(self, n_features: int | None = None) -> Chain:
        return self.chain


def matched_budgets(unwrapper: Any) -> Budgets:
    """Return how many weights each of a model's layers keeps in a control.

    Between two layers that were unwrapped, the model's own linear layers and
    convolutions share what the connector has.
    """
    chain = unwrapper._chain
    stop = logits_end(chain, hasattr(unwrapper, "classes_"))
    stops = [
        layer.stop for layer in chain.hidden if layer.name in unwrapper.layer_names_
    ]
    gaps: list[list[int]] = []
    number = 0
    for begin, end in pairwise([0, *stops, stop]):
        n = len(linear_layers(chain.steps[begin:end]))
        gaps.append(list(range(number, number + n)))
        number += n
    at_start = hasattr(unwrapper, "input_connector_")
    at_end = hasattr(unwrapper, "output_connector_")
    weights = [int(connector.coef_.nnz) for connector in connectors_of(unwrapper)]
    budgeted = gaps[not at_start : len(gaps) - (not at_end)]
    groups = list(zip(budgeted, weights, strict=True))
    if unwrapper.shared_budget:
        groups = [([n for gap in budgeted for n in gap], sum(weights))]
    trains = unwrapper.distill and unwrapper.joint and unwrapper.train_encoder
    frozen = [] if at_start or trains else gaps[0]
    return Budgets([group for group in groups if group[0]], frozen)
