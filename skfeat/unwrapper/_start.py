"""Unwrapping what follows a module of a model, from what that module is fed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils import check_array, check_consistent_length
from sklearn.utils.validation import validate_data

from skfeat.adapters._start import Fed, last_linear, read_chain_from, run_from
from skfeat.chain import Chain
from skfeat.unwrapper._input_maps import TakesMaps
from skfeat.unwrapper._parts import as_numpy


class StartsLater(TakesMaps):
    """Mixin of FeatureUnwrapper: rows of the network where it starts in the model."""

    model: Any
    start: str | None
    _start: str | None
    _n_axes: int
    _steps: Any

    def _read_part(self, X: Any, y: Any) -> tuple[np.ndarray, Chain]:
        """Return what the module `start` is fed, and what follows it."""
        assert self._start is not None
        inputs = self._inputs_of_model(X, reset=True)
        fed = run_from(self.model, self._start, inputs)
        check_consistent_length(fed.rows, y)
        return fed.rows, read_chain_from(self.model, self._start, inputs, fed)

    def _run_model(self, X: Any) -> Fed:
        """Run the model itself."""
        assert self._start is not None
        inputs = self._inputs_of_model(X, reset=False)
        return run_from(self.model, self._start, inputs)

    def _inputs_of_model(self, X: Any, reset: bool) -> Any:
        """Check X, of any number of axes or several arrays, as the model takes it."""
        options: dict[str, Any] = {"dtype": "numeric", "allow_nd": True}
        if isinstance(X, Mapping):
            inputs = {
                name: check_array(as_numpy(array), input_name=str(name), **options)
                for name, array in X.items()
            }
            check_consistent_length(*inputs.values())
            return inputs
        if self._steps.steps:
            X = validate_data(self, as_numpy(X), skip_check_array=True, reset=reset)
            X, _ = self._steps.transform(X)
            X = check_array(X, input_name="X after the Pipeline's steps", **options)
        else:
            X = validate_data(self, as_numpy(X), reset=reset, **options)
        if reset:
            self._n_axes = X.ndim
        return X

    def _single(self, x: Any) -> Any:
        """Return one sample as a batch of one."""
        if self._start is None:
            return self._single_map(x)
        if isinstance(x, Mapping):
            return x
        x = as_numpy(x)
        shape = np.shape(x)
        if len(shape) == self._n_axes - 1:
            return np.asarray(x)[None]
        if len(shape) != self._n_axes or shape[0] != 1:
            raise ValueError(
                f"x must be one sample, of {self._n_axes - 1} axes, or a batch of one. "
                f"Got shape {shape} instead."
            )
        return x


def ends_in_classes(model: Any) -> bool:
    """Whether the last linear module of a model has several outputs; never raises."""
    try:
        return last_linear(model) > 1
    except Exception:  # whatever is wrong with the model, fit will say
        return False
