"""Weights written as a sum."""

from __future__ import annotations

from numbers import Integral

import numpy as np


def write_formula(coef, output, max_terms=None, feature_names=None) -> str:
    """Write one row of CSR weights (q, p) as a sum, strongest term first."""
    n_outputs, n_inputs = coef.shape
    is_index = isinstance(output, Integral) and not isinstance(output, bool)
    if not is_index or int(output) not in range(n_outputs):
        raise ValueError(
            f"output must be an int from 0 to {n_outputs - 1}, the index of an output. "
            f"Got {output!r} instead."
        )
    if max_terms is not None and (
        not isinstance(max_terms, Integral)
        or isinstance(max_terms, bool)
        or max_terms < 1
    ):
        raise ValueError(
            f"max_terms must be None or an int of at least 1. Got {max_terms!r} "
            f"instead."
        )
    if feature_names is not None and len(feature_names) != n_inputs:
        raise ValueError(
            f"feature_names must name the {n_inputs} inputs. Got {len(feature_names)} "
            f"names instead."
        )
    span = slice(coef.indptr[output], coef.indptr[output + 1])
    weights, inputs = coef.data[span], coef.indices[span]
    order = np.argsort(-np.abs(weights), kind="stable")[:max_terms]
    text = f"F2_{output} ="
    for rank, position in enumerate(order):
        weight, index = float(weights[position]), int(inputs[position])
        name = f"F1_{index}" if feature_names is None else feature_names[index]
        sign = "-" if weight < 0 else "" if rank == 0 else "+"
        separator = "" if rank == 0 and sign else " "
        text += f" {sign}{separator}{_number(abs(weight))}*{name}".replace("  ", " ")
    return text if len(order) else f"{text} 0"


def _number(value: float) -> str:
    """Two decimals, or two digits where those would hide the weight."""
    return f"{value:.2f}" if value >= 0.095 else f"{value:.2g}"
