"""What tests of the estimators share, here and in projects that build on skfeat."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from sklearn.base import is_classifier
from torch import nn

from skfeat.chain import Chain, Step

# Width that `AnyWidthMLP` folds its input to, and widths of its layers.
_WIDTHS = (12, 10, 8)


def expected_failed_checks(estimator) -> dict[str, str]:
    """Return the scikit-learn checks that an estimator cannot pass, and why.

    Parameters
    ----------
    estimator : estimator instance
        Any estimator of skfeat.

    Returns
    -------
    dict of str to str
        Maps the name of a check to a justification, as `expected_failed_checks` of
        :func:`sklearn.utils.estimator_checks.parametrize_with_checks` wants it.

    Examples
    --------
    >>> from skfeat import FeatureConnector
    >>> from skfeat.testing import expected_failed_checks
    >>> expected_failed_checks(FeatureConnector())
    {}
    """
    name = type(estimator).__name__
    expected = dict(_EXPECTED.get(name, {}))
    if name == "FeatureUnwrapper" and is_classifier(estimator):
        expected |= _EXPECTED_OF_FIXED_CLASSES
    if name == "FeatureUnwrapper" and not estimator.distill:
        expected |= _EXPECTED_WITHOUT_DISTILLATION
    return expected


# By the name of the class, so that this module needs to import no estimator.
_SHUFFLED = {
    "check_sample_weight_equivalence_on_dense_data": (
        "Minibatches of shuffled rows differ when rows are repeated rather than "
        "weighted."
    ),
}
_EXPECTED = {
    "SparseAutoencoder": _SHUFFLED,
    "Transcoder": _SHUFFLED,
    "FeatureUnwrapper": {
        "check_estimators_overwrite_params": (
            "The check compares joblib hashes, and a torch module hashes differently "
            "after each copy; tests/test_model_untouched.py compares what it holds."
        ),
    },
}
# The number of classes is that of the model; the checks bring any number.
_EXPECTED_OF_FIXED_CLASSES = {
    "check_dtype_object": "The check has four classes, the model has three outputs.",
    "check_classifiers_classes": (
        "The check has two string labels, the model has three outputs."
    ),
    "check_classifiers_one_label": "The check has one label, the model has three.",
    "check_classifiers_train": (
        "The check takes two labels and one column of decisions, the model has three."
    ),
    "check_decision_proba_consistency": (
        "The check takes one column of decisions, the model has three outputs."
    ),
}


_EXPECTED_WITHOUT_DISTILLATION = dict.fromkeys(
    ("check_non_transformer_estimators_n_iter", "check_transformer_n_iter"),
    "Without distillation there are no epochs to count, and n_iter_ is 0.",
)


class AnyWidthMLP(nn.Module):
    """A small network with fixed weights that takes rows of any width.

    scikit-learn's common checks feed one estimator with data of many widths, which a
    trained network cannot take. This one adds up the columns j, j + 12, j + 24, ...
    into the j-th of twelve inputs, and describes itself by `__skfeat_chain__`. It
    computes in float64, the precision to which the checks compare.

    Parameters
    ----------
    n_outputs : int, default=3
        Number of outputs: logits of classes, or a single value to regress.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat import FeatureUnwrapper, SparseAutoencoder
    >>> from skfeat.testing import AnyWidthMLP
    >>> unwrapper = FeatureUnwrapper(
    ...     AnyWidthMLP(), autoencoder=SparseAutoencoder(16, k=8), random_state=0
    ... )
    >>> rng = np.random.RandomState(0)
    >>> unwrapper.fit(rng.randn(200, 5)).predict(rng.randn(4, 5)).shape
    (4,)
    """

    def __init__(self, n_outputs=3):
        super().__init__()
        widths = [*_WIDTHS, n_outputs]
        layers: list[nn.Module] = []
        # A generator of its own: the global one belongs to the caller. With this
        # seed, outputs on the checks' rows differ by wide margins on any machine.
        rng = np.random.RandomState(17)
        for n_in, n_out in pairwise(widths):
            linear = nn.utils.skip_init(nn.Linear, n_in, n_out, dtype=torch.float64)
            with torch.no_grad():
                linear.weight.copy_(_normal(rng, n_out, n_in) * (2 / n_in) ** 0.5)
                linear.bias.copy_(_normal(rng, n_out) * 0.1)
            layers += [linear, nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, x):
        """Compute the outputs of rows of any width.

        Parameters
        ----------
        x : Tensor of shape (n, n_features)
            Rows of any width.

        Returns
        -------
        Tensor of shape (n, n_outputs)
        """
        return self.layers(x @ torch.from_numpy(_folding(x.shape[1])).T)

    def __skfeat_chain__(self, n_features):
        """Return the chain of the layers, the folding first."""
        width = _WIDTHS[0] if n_features is None else n_features
        steps = [
            Step(
                "affine",
                "fold",
                {"coef": _folding(width), "intercept": np.zeros(_WIDTHS[0])},
            )
        ]
        for name, module in self.layers.named_children():
            path = f"layers.{name}"
            if isinstance(module, nn.Linear):
                arrays = {
                    "coef": module.weight.detach().cpu().numpy().copy(),
                    "intercept": module.bias.detach().cpu().numpy().copy(),
                }
                steps.append(Step("affine", path, arrays))
            else:
                steps.append(Step("relu", path))
        return Chain.from_steps(steps)


def _normal(rng, *shape) -> torch.Tensor:
    return torch.tensor(rng.normal(size=shape), dtype=torch.float64)


def _folding(n_features: int) -> np.ndarray:
    """Return the weights (12, n_features) that add up every twelfth column."""
    return np.eye(_WIDTHS[0])[:, np.arange(n_features) % _WIDTHS[0]]
