"""A pruned network, as a sparse network of its neurons or as it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from skfeat.activations import ReLU
from skfeat.chain import Chain, Step
from skfeat.chain._steps import linear_layers, n_multiply_adds
from skfeat.network import SparseFeatureNetwork
from skfeat.network._arrays import as_rows
from skfeat.network._decide import decide


class ChainNetwork:
    """A control whose steps no :class:`SparseFeatureNetwork` has, as plain arrays.

    So it is with other activations than ReLU, with norms and with branches. Weights
    that were pruned are zeros of its steps.

    Parameters
    ----------
    chain : Chain
        From the inputs to the raw outputs.
    input_names, output_names : list of str, default=None
    classes : ndarray, default=None
        Labels of a classifier.
    decision_rule : DecisionRule, default=None

    Attributes
    ----------
    n_weights_all_ : int
        Nonzero weights.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.chain import Chain, Step
    >>> from skfeat.controls import ChainNetwork
    >>> arrays = {"coef": np.array([[1.0, 0.0]]), "intercept": np.array([0.5])}
    >>> network = ChainNetwork(Chain.from_steps([Step("affine", "fc", arrays)]))
    >>> network
    ChainNetwork(1 nonzero weights)
    >>> network.predict([[2.0, 9.0]])
    array([2.5])
    """

    def __init__(
        self,
        chain: Chain,
        *,
        input_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
        classes: Any = None,
        decision_rule: Any = None,
    ):
        self.chain = chain
        self.input_names, self.output_names = input_names, output_names
        self.decision_rule = decision_rule
        if classes is not None:
            self.classes_ = classes
        self.n_weights_all_ = chain.n_weights()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.n_weights_all_} nonzero weights)"

    def predict_raw(self, X: Any) -> np.ndarray:
        """Compute the raw outputs of rows.

        Parameters
        ----------
        X : array-like of shape (n, n_features_in)

        Returns
        -------
        ndarray of shape (n, n_outputs)
        """
        whose = type(self).__name__
        return self.chain.forward(as_rows("X", X, self.chain.n_features_in, whose))

    def predict(self, X: Any) -> np.ndarray:
        """Predict the labels of a classifier, or values.

        Parameters
        ----------
        X : array-like of shape (n, n_features_in)

        Returns
        -------
        ndarray of shape (n,) or (n, n_outputs)
        """
        return self.decide(self.predict_raw(X))

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """Turn raw outputs into what `predict` returns.

        Parameters
        ----------
        outputs : ndarray of shape (n, n_outputs)

        Returns
        -------
        ndarray of shape (n,) or (n, n_outputs)
        """
        return decide(outputs, getattr(self, "classes_", None), self.decision_rule)

    def n_multiply_adds(self, compact: bool = False) -> int:
        """Count the multiply-adds a row costs where zeros cost nothing.

        Parameters
        ----------
        compact : bool, default=False
            Changes nothing; as of :class:`SparseFeatureNetwork`.

        Returns
        -------
        int
        """
        costs = 0.0
        for step in linear_layers(self.chain.steps):
            # Of a convolution each weight runs at all positions.
            coef = step.arrays["coef"]
            share = np.count_nonzero(coef) / max(coef.size, 1)
            costs += share * n_multiply_adds([step])
        others = self.n_weights_all_ - sum(
            np.count_nonzero(step.arrays["coef"])
            for step in linear_layers(self.chain.steps)
        )
        return round(costs) + int(others)


def as_network(
    steps: Sequence[Step],
    n_features_in: int,
    dense: Collection[int],
    names: dict[str, Any],
) -> SparseFeatureNetwork | ChainNetwork:
    """Make a network of neurons of steps, if they are linear layers and ReLUs.

    Parameters
    ----------
    steps : sequence of Step
    n_features_in : int
    dense : collection of int
        Numbers of the linear layers that were not pruned.
    names : dict
        Of inputs and outputs, with classes and rule.
    """
    at = [i for i, step in enumerate(steps) if step.is_weighted]
    first, last = at[0], at[-1]
    kinds = [step.kind for step in steps[first : last + 1]]
    if len(kinds) < 3 or kinds != ["affine", "relu"] * (len(kinds) // 2) + ["affine"]:
        return ChainNetwork(Chain.from_steps(steps, n_features_in), **names)
    layers = [steps[i] for i in at]
    coefs = [
        step.arrays["coef"]
        if number in dense
        else sparse.csr_array(step.arrays["coef"])
        for number, step in enumerate(layers)
    ]
    intercepts = [step.arrays["intercept"] for step in layers]
    front = Chain.from_steps(steps[:first], n_features_in)
    hidden = [step.name for step in layers[:-1]]
    if len(set(hidden)) < len(hidden) or not all(hidden):
        hidden = [f"hidden_{i}" for i in range(len(hidden))]
    return SparseFeatureNetwork(
        front=front,
        encoder_coef=coefs[0],
        encoder_intercept=intercepts[0],
        encoder_bias=np.zeros(front.n_outputs, intercepts[0].dtype),
        activation=ReLU(),
        coefs=[sparse.csr_array(coef) for coef in coefs[1:-1]],
        intercepts=intercepts[1:-1],
        links=["relu"] * (len(layers) - 2),
        decoder_coef=coefs[-1].T,
        decoder_intercept=intercepts[-1],
        back=Chain.from_steps(steps[last + 1 :], len(intercepts[-1])),
        layer_names=hidden,
        **names,
    )
