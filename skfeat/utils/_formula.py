"""Weights written as a sum or as logic."""

from __future__ import annotations

import numpy as np

from skfeat.utils._checks import check_int_or_none
from skfeat.utils._names import number_of


def write_formula(coef, output, max_terms, input_names, output_names) -> str:
    """Write one row of CSR weights (q, p) as a sum, strongest term first."""
    output = number_of("output", output, output_names)
    check_int_or_none("max_terms", max_terms)
    span = slice(coef.indptr[output], coef.indptr[output + 1])
    weights, inputs = coef.data[span], coef.indices[span]
    order = np.argsort(-np.abs(weights), kind="stable")[:max_terms]
    names = [input_names[i] for i in inputs[order].tolist()]
    return f"{output_names[output]} = {weighted_sum(weights[order], names)}"


def weighted_sum(weights, names) -> str:
    """Write terms in the order given; no terms are 0."""
    text = ""
    for weight, name in zip(weights, names, strict=True):
        sign = "-" if weight < 0 else "+"
        lead = f" {sign} " if text else sign.strip("+")
        text += f"{lead}{weighted_name(weight, name)}"
    return text or "0"


def weighted_name(weight, name) -> str:
    """Write one term without its sign."""
    value = abs(float(weight))
    # Two decimals, or two digits where those would hide the weight.
    number = f"{value:.2f}" if value >= 0.095 else f"{value:.2g}"
    return f"{number}*{name}"


def write_logic(inputs, groups, inhibitors) -> str:
    """Join the inputs of a group by AND, the groups by OR, inhibitors by AND NOT.

    Parameters
    ----------
    inputs : list of dict
        With the entries "name" and "weight".
    groups : list of list of int
        Positions in `inputs`; without any, the weighted sum of all is written.
    inhibitors : list of int
        Positions in `inputs`.
    """
    weights, names = ([entry[key] for entry in inputs] for key in ("weight", "name"))
    if not groups:
        return weighted_sum(weights, names)
    terms = list(map(weighted_name, weights, names))
    parts = [" AND ".join(terms[i] for i in group) for group in groups]
    if len(parts) > 1:
        parts = [f"({part})" if " AND " in part else part for part in parts]
    text = " OR ".join(parts)
    if len(parts) > 1 and inhibitors:
        text = f"({text})"
    return " AND NOT ".join([text, *(terms[i] for i in inhibitors)])
