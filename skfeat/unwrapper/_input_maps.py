"""Images and series as rows, which are all that the rest of an unwrapper takes."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from torch import nn

from skfeat.network._explanation import one_row
from skfeat.unwrapper._parts import as_numpy
from skfeat.utils._checks import is_int

# How the names of torch's modules begin that take maps.
_OF_MAPS = ("Conv", "MaxPool", "AvgPool", "Adaptive", "BatchNorm2d", "Flatten")


class TakesMaps:
    """Mixin of FeatureUnwrapper: inputs that are maps of channels over positions."""

    input_shape: Any
    _input_shape: tuple[int, ...] | None = None

    def _note_shape(self, X: Any, model: Any) -> None:
        """Note the shape of an input of the model, if it is one of maps."""
        given = self.input_shape
        if given is None:
            is_list = isinstance(X, list | tuple) and len(X) > 0
            shape = (len(X), *np.shape(X[0])) if is_list else getattr(X, "shape", ())
            is_map = len(shape) > 2 and not _takes_rows_alone(model)
            self._input_shape = tuple(shape[1:]) if is_map else None
        else:
            is_list = isinstance(given, list | tuple | np.ndarray)
            sizes = list(given) if is_list else [given]
            if not all(is_int(size) and size > 0 for size in sizes):
                sizes = []
            self._input_shape = tuple(map(int, sizes))
        if self._input_shape is not None and len(self._input_shape) not in (2, 3):
            got = np.shape(X)[1:] if given is None else given
            raise ValueError(
                "input_shape must be (channels, height, width) or (channels, time), as "
                f"must be the shape of each sample of X. Got {got!r} instead."
            )

    def _flat(self, X: Any) -> Any:
        """Return maps as rows, channel by channel, and rows as they are."""
        shape = self._input_shape
        if shape is None:
            return X
        if not (hasattr(X, "columns") or hasattr(X, "tocsr")):
            X = as_numpy(X)
            found = np.shape(X)
            if len(found) > 2:
                if found[1:] != shape:
                    raise ValueError(
                        f"X must have samples of shape {shape}. Got {found[1:]} "
                        "instead."
                    )
                return np.asarray(X).reshape(found[0], -1)
        width = np.shape(X)[1] if len(np.shape(X)) == 2 else None
        if width is not None and width != prod(shape):
            raise ValueError(
                f"X must have {prod(shape)} columns, to be maps of input_shape={shape}."
                f" Got {width} instead."
            )
        return X

    def _single_map(self, x: Any) -> Any:
        """Return one sample, a map or a row, as a batch of one row."""
        shape = self._input_shape
        return one_row(x if shape is None else as_numpy(x), shape)


def _takes_rows_alone(model: Any) -> bool:
    """Tell whether a model has nothing that could take maps."""
    module = getattr(model, "module_", model)
    if not isinstance(module, nn.Module):
        return True
    kinds = [type(part) for part in module.modules()]
    return all(
        kind.__module__.startswith("torch.nn.")
        and not kind.__name__.startswith(_OF_MAPS)
        for kind in kinds
    )
