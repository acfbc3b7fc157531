"""Weights written as a sum or as logic."""

from __future__ import annotations

import textwrap

import numpy as np

from skfeat.utils._checks import check_int, check_int_or_none

_WIDTH = 88
_TITLES = ["weight", "fires", "adds", "output", "alone", "rows"]
_TITLES += ["with", "without", "role", "input"]


def write_formula(coef, output, max_terms, input_names, output_names) -> str:
    """Write one row of CSR weights (q, p) as a sum, strongest term first."""
    check_int("output", output, 0, coef.shape[0] - 1)
    check_int_or_none("max_terms", max_terms)
    span = slice(coef.indptr[output], coef.indptr[output + 1])
    weights, inputs = coef.data[span], coef.indices[span]
    order = np.argsort(-np.abs(weights), kind="stable")[:max_terms]
    names = [input_names[i] for i in inputs[order].tolist()]
    return f"{output_names[int(output)]} = {weighted_sum(weights[order], names)}"


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


def write_table(name, logic, min_rows) -> str:
    """Write what `connector_logic` returns, for the output of this name."""
    lines = textwrap.wrap(f"{name}: {logic.kind}: {logic.formula}", _WIDTH)
    summary = (
        f"fires in {logic.output_rate:.3f} of {logic.n_rows} rows, in "
        f"{_rate(logic.rate_without_inputs) or 'none'} of the {logic.n_without_inputs} "
        f"where no listed input does; coverage {_rate(logic.coverage) or 'unknown'}"
    )
    lines += textwrap.wrap(summary, _WIDTH)
    table = [_TITLES, *(_cells(entry, min_rows) for entry in logic.inputs)]
    # The column of what no input has is left out, and names, of any length, are last.
    columns = [column for column in zip(*table, strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    for row in zip(*columns, strict=True):
        *cells, last = map(str.rjust, row, [*widths[:-1], 0])
        lines.append("  ".join([*cells, " ".join(last.split())])[:_WIDTH])
    return "\n".join(lines)


def _cells(entry, min_rows) -> list[str]:
    """Write one input's row; ~ marks what rests on rows where it outweighs the rest."""
    alone, n = entry["output_rate_alone"], entry["n_alone"]
    mark = ""
    if n < min_rows <= entry["n_dominant"]:
        alone, n, mark = entry["output_rate_dominant"], entry["n_dominant"], "~"
    rates = [entry["output_rate_with"], entry["output_rate_without"]]
    cells = [f"{entry['weight']:.3g}", _rate(entry["firing_rate"])]
    cells += ["" if np.isnan(x := entry["mean_contribution"]) else f"{x:.3g}"]
    cells += [_rate(entry["output_rate_firing"]), mark + _rate(alone), f"{mark}{n}"]
    return [*cells, *map(_rate, rates), entry["role"], entry["name"]]


def _rate(value) -> str:
    return "" if np.isnan(value) else f"{value:.3f}"
