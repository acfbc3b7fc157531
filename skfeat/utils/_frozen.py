"""Parts that are fitted already: kept in a FrozenEstimator, or fitted anew and told."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from typing import Any

import torch
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from skfeat.utils._arrays import as_numpy
from skfeat.utils._checks import listed
from skfeat.utils._warnings import warn


def is_frozen(part: Any) -> bool:
    """Tell whether a part is in a FrozenEstimator."""
    return isinstance(part, FrozenEstimator)


def thawed(part: Any) -> Any:
    """Return the estimator in a FrozenEstimator; all else as it is."""
    while isinstance(part, FrozenEstimator):
        part = part.estimator
    return part


def frozen_part(part: Any, label: str, kind: type, kind_name: str) -> Any:
    """Return the fitted estimator in a FrozenEstimator, with numpy arrays.

    Raises
    ------
    ValueError
        If it is no `kind`, or not fitted (as scikit-learn's NotFittedError).
    """
    fitted = thawed(part)
    if not isinstance(fitted, kind):
        raise ValueError(
            f"The {label!r} parameter must be a {kind_name}, or a fitted one in a "
            f"FrozenEstimator. Got {part!r} instead."
        )
    if not is_fitted(fitted):
        raise NotFittedError(
            f"The {label!r} parameter is a FrozenEstimator of a "
            f"{type(fitted).__name__} that is not fitted; fit it first, or pass it as "
            f"it is."
        )
    tensors = {k: v for k, v in vars(fitted).items() if isinstance(v, torch.Tensor)}
    if tensors:
        fitted = copy(fitted)
        fitted.__dict__.update({k: as_numpy(v, k) for k, v in tensors.items()})
    return fitted


def unnamed(estimator: Any) -> Any:
    """Return a fitted estimator that takes rows without column names.

    It may have been fitted to a table; what it reads here are the same columns.
    """
    if not hasattr(estimator, "feature_names_in_"):
        return estimator
    estimator = copy(thawed(estimator))
    estimator.__dict__.pop("feature_names_in_", None)
    return estimator


def is_fitted(part: Any) -> bool:
    """Tell whether a part is an estimator that `fit` would make forget something."""
    try:
        check_is_fitted(part)
        return bool(get_tags(part).requires_fit)
    except (NotFittedError, TypeError, AttributeError):
        return False


def warn_of_refits(owner: Any, names: Sequence[str]) -> None:
    """Say once which parameters are fitted parts that `fit` fits anew.

    Parameters
    ----------
    owner : estimator
        It has the parts as parameters, and fits clones of them.
    names : sequence of str
        Parameters that are a part each, or a list of parts.
    """
    labels = [label for name in names for label in _fitted_labels(owner, name)]
    if not labels:
        return
    several = len(labels) > 1
    warn(
        f"{type(owner).__name__}: {listed(labels)} {'are' if several else 'is'} fitted "
        f"already, but fit uses {'fresh clones' if several else 'a fresh clone'} and "
        f"trains {'them' if several else 'it'} anew. Wrap what is to be kept as it is "
        f"in sklearn.frozen.FrozenEstimator; pass sklearn.base.clone of the rest.",
    )


def remember_fits(cloned: Any, original: Any, names: Sequence[str]) -> Any:
    """Note on a clone which of its parts were fitted in the original; return it.

    Searches and cross-validation fit clones, whose parts have forgotten their fit.
    """
    fits = {
        name: (getattr(cloned, name), labels)
        for name in names
        if (labels := list(_fitted_labels(original, name)))
    }
    if fits:
        cloned._fitted_before_clone = fits
    return cloned


def _fitted_labels(owner: Any, name: str) -> Iterator[str]:
    """Yield how to call each part of a parameter that is fitted and not frozen."""
    value = getattr(owner, name)
    before, labels = getattr(owner, "_fitted_before_clone", {}).get(name, (None, []))
    if before is not None and before is value:
        yield from labels
        return
    is_list = isinstance(value, list | tuple)
    for index, part in enumerate(value if is_list else [value]):
        if not is_frozen(part) and is_fitted(part):
            yield f"{name}[{index}]" if is_list else name
