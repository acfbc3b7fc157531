"""How the strongest inputs of one output of a FeatureConnector combine on data."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from scipy import sparse
from sklearn.utils import check_array, gen_batches

from skfeat.connector._logic_shown import MIN_ROWS, Logic
from skfeat.utils._arrays import accept_tensor
from skfeat.utils._checks import check_int_or_none, check_nonnegative
from skfeat.utils._formula import write_logic
from skfeat.utils._names import number_of
from skfeat.utils._shown import write_text

# Half of fewer expected firings may be chance: 10 of 20 is two standard errors off.
_MIN_FIRINGS = 20
# What suffices makes the output fire more often than not ...
_SUFFICIENT_RATE = 0.5
# ... and at least twice as often as without it: an output that fires anyway needs no
# input. By the same factor, what inhibits makes it fire at most half as often.
_HALF = 0.5
# What contributes four times as much as all else together decides the sum.
_DOMINANCE = 4
# Inputs that miss most of the rows where the output fires do not explain it.
_COVERED = 0.5
_BLOCK_ROWS = 4096


def connector_logic(
    coef,
    intercept,
    link,
    output,
    X,
    y,
    *,
    max_inputs,
    threshold,
    names,
) -> Logic:
    """Read off data how the strongest inputs of one output combine.

    An input or output fires in a row where its activation is above `threshold`. Listed
    are the inputs with the largest root mean square of weight times activation.

    - An input of positive weight, or a pair, suffices if the output fires in half of
      the rows where no other listed input fires, and twice as often as where none does.
      With fewer than 10 such rows, those count where it contributes four times what all
      others do, and those without it where the others contribute as little.
    - An input of negative weight inhibits if the output fires at most half as often
      with it as without it, in the rows where an input or pair that suffices fires (if
      none does, any positive input), and no other negative one; these count too where
      its rows are so few that even at the rate without it 20 firings are not expected.

    Parameters
    ----------
    coef : CSR matrix of shape (n_outputs, n_inputs)
        The weights.
    intercept : ndarray of shape (n_outputs,)
        The intercepts.
    link : {"relu", "identity"}
        What is applied to the weighted sum.
    output : int
        Index of the output.
    X : ndarray or CSR matrix of shape (n, n_inputs)
        Activations of the inputs.
    y : array-like or sparse matrix of shape (n,) or (n, n_outputs), or None
        Activations of the output, or of all; ``None`` means the connector's prediction.
    max_inputs : int or None
        Number of inputs listed; ``None`` means all with a nonzero weight.
    threshold : float
        Activation above which an input or output fires. At 0 a prediction with a small
        positive intercept fires in every row without inputs.
    names : tuple of two sequences of str
        Names of the inputs, and of the outputs.

    Returns
    -------
    logic : Logic
        ``name``: that of the output. ``kind``: "or" if two inputs or more suffice and
        none inhibits, "single" if one does, "and-not" if at least one suffices and one
        inhibits, "and" if none suffices, but pairs do, and none inhibits;
        "none" if there is no weight, or
        the output or all its inputs never fire; else "mixed", as for inputs that only
        fire together. ``formula``: these inputs with their weights; the weighted sum
        of all listed for "mixed" and "none". ``inputs``: a dict an input, strongest
        first: its role and what it is judged by; rates of the output, nan without
        rows, come with the number of rows. ``output_rate``, ``n_rows``: the same for
        all rows; ``rate_without_inputs``, ``n_without_inputs``: for those where no
        listed input fires. ``coverage``: share, of the rows where the output and a
        listed positive input fire, of those where an input or pair that suffices does;
        below one half the kind is "mixed". ``precision``, ``recall``, ``f1``: of the
        reading as a prediction of where the output fires. ``f1_simpler``: the same of
        the reading with less: of the best single input for "or" and "and", without the
        inhibitors for "and-not", 0 else. ``text``: all this as a short table, which
        printing shows with a legend.

    Raises
    ------
    ValueError
        If an argument is not as described.
    """
    output = number_of("output", output, names[1])
    check_int_or_none("max_inputs", max_inputs)
    check_nonnegative("threshold", threshold)
    row = coef[[output]].toarray().ravel()
    if y is None:
        y = X @ row.astype(X.dtype) + intercept[output].astype(X.dtype)
        y = np.maximum(y, 0) if link == "relu" else y
    else:
        y = _column(y, output, (X.shape[0], coef.shape[0]))
    listed = _strongest(X, row, max_inputs)
    x = X[:, listed].toarray() if sparse.issparse(X) else X[:, listed]
    inputs = [names[0][i] for i in listed.tolist()]
    name = names[1][output]
    logic, _ = read_logic(name, listed, inputs, row[listed], x, y, threshold)
    return logic


def read_logic(output_name, listed, names, weights, x, y, threshold, n_quiet=0):
    """Read the logic of an output off the activations of its listed inputs.

    Parameters
    ----------
    output_name : str
    listed : ndarray of int, shape (k,)
        Inputs, strongest first.
    names : list of str
    weights : ndarray of shape (k,)
    x : ndarray of shape (n, k)
    y : ndarray of shape (n,)
    threshold : float
    n_quiet : int, default=0
        For how many rows the last one stands, in which no listed input is other than
        zero; 0 means for itself alone.

    Returns
    -------
    logic : Logic
        See `connector_logic`.
    readings : list of ndarray of bool, shape (n,)
        The rows in which the output fires by the logic, and by each simpler reading.
    """
    weights = weights.astype(np.float64)
    # By columns, as they are looked at.
    x = np.asfortranarray(x)
    rows = _Rows(x > threshold, x * weights, y, y > threshold, n_quiet)

    positives, negatives = np.flatnonzero(weights > 0), np.flatnonzero(weights < 0)
    verdicts = {i: rows.suffices([i]) for i in positives.tolist()}
    groups = [[i] for i, verdict in verdicts.items() if verdict]
    weak = [i for i, verdict in verdicts.items() if verdict is False]
    groups = groups or [[*p] for p in combinations(weak, 2) if rows.suffices([*p])]
    some_positive = rows.on[:, positives].any(axis=1)
    read = np.zeros_like(some_positive)
    for group in groups:
        read |= rows.on[:, group].all(axis=1)

    inputs = []
    driven = read if groups else some_positive
    n_negative = rows.on[:, negatives].sum(axis=1)
    for i, name in enumerate(names):
        calm = driven & (n_negative == rows.on[:, i])
        judged_by = np.zeros_like(read)
        if weights[i] < 0:
            verdicts[i], judged_by = rows.inhibits(i, driven, calm)
        role = {None: "undetermined", False: "weak", True: "inhibits"}[verdicts[i]]
        if any(i in group for group in groups):
            role = "suffices" if verdicts[i] else "in a pair"
        entry = {"index": int(listed[i]), "name": name, "weight": float(weights[i])}
        inputs.append(entry | {"role": role} | rows.evidence(i, judged_by))

    inhibitors = [i for i in negatives.tolist() if verdicts[i]]
    coverage = _mean(read[rows.fired & some_positive])
    in_pairs = any(len(group) > 1 for group in groups)
    if not rows.fired.any() or not rows.on.any():
        kind = "none"
    elif not groups or coverage < _COVERED or (in_pairs and inhibitors):
        kind = "mixed"
    elif inhibitors or in_pairs:
        kind = "and-not" if inhibitors else "and"
    else:
        kind = "or" if len(groups) > 1 else "single"
    shown = [] if kind in ("none", "mixed") else groups
    formula = write_logic(inputs, shown, inhibitors)
    logic = Logic(name=output_name, kind=kind, formula=formula, inputs=inputs)
    logic.coverage = coverage
    logic.output_rate, logic.n_rows = rows.rate(np.ones_like(read))
    logic.rate_without_inputs, logic.n_without_inputs = rows.rate(rows.n_on == 0)
    stopped = rows.on[:, inhibitors].any(axis=1)
    reading = read & ~stopped
    logic.precision, logic.recall, logic.f1 = rows.quality(reading)
    simpler = {"and-not": [read], "or": rows.on.T, "and": rows.on.T}.get(kind, [])
    logic.f1_simpler = max((rows.quality(other)[2] for other in simpler), default=0.0)
    logic.text = write_text(logic._parts(), legend=False)
    return logic, [reading, *simpler]


class _Rows:
    """Where the listed inputs and the output fire, and what the inputs contribute."""

    def __init__(self, on, contributions, y, fired, n_quiet):
        self.on, self.contributions, self.y, self.fired = on, contributions, y, fired
        self.n_unseen = max(0, n_quiet - 1)  # beyond the last one, which is like them
        self.n_on = on.sum(axis=1)
        self.total = np.abs(contributions).sum(axis=1)
        self.known: dict[tuple[int, ...], tuple] = {}

    def rate(self, rows) -> tuple[float, int]:
        """Return the share of some rows where the output fires, and their number."""
        n = self.number(rows)
        return (self.number(rows & self.fired) / n if n else np.nan), n

    def number(self, rows) -> int:
        """Return how many rows there are of some, which may stand for many."""
        return int(np.count_nonzero(rows) + self.n_unseen * rows[-1:].sum())

    def quality(self, rows) -> tuple[float, float, float]:
        """Judge some rows as a prediction of those where the output fires."""
        both, n, n_fired = map(self.number, (rows & self.fired, rows, self.fired))
        precision, recall = (both / m if m else np.nan for m in (n, n_fired))
        return precision, recall, 2 * both / (n + n_fired) if n + n_fired else 0.0

    def own_and_rest(self, group):
        """Return what some inputs contribute, and the size of what the others do."""
        columns = [self.contributions[:, i] for i in group]
        own, size = sum(columns), sum(map(np.abs, columns))
        return own, self.total - size

    def alone(self, group):
        """Find the rows where only these inputs fire, and where they outweigh all."""
        if tuple(group) not in self.known:
            own, rest = self.own_and_rest(group)
            on = np.logical_and.reduce([self.on[:, i] for i in group])
            found = on & (self.n_on == len(group)), on & (own >= _DOMINANCE * rest)
            self.known[tuple(group)] = found
        return self.known[tuple(group)]

    def suffices(self, group) -> bool | None:
        """Judge inputs of positive weight together; None means too few rows."""
        alone, dominant = self.alone(group)
        alone = alone if self.number(alone) >= MIN_ROWS else dominant
        rate, n = self.rate(alone)
        if n < MIN_ROWS or rate < _SUFFICIENT_RATE:
            return None if n < MIN_ROWS else False
        silent = self.n_on == 0
        if self.number(silent) < MIN_ROWS:
            own, rest = self.own_and_rest(group)
            off = ~self.on[:, group].any(axis=1)
            silent = off & (_DOMINANCE * rest <= own[alone].mean())
        base, n = self.rate(silent)
        return base <= _HALF * rate if n >= MIN_ROWS else None

    def inhibits(self, i, driven, calm):
        """Judge an input of negative weight, and return the rows that tell."""
        for rows in (calm, driven):
            rate, n = self.rate(rows & self.on[:, i])
            base, n_base = self.rate(rows & ~self.on[:, i])
            if n_base >= MIN_ROWS and n * base >= _MIN_FIRINGS:
                return rate <= _HALF * base, rows
        return None, driven

    def evidence(self, i, judged_by) -> dict:
        """Return what an input is judged by."""
        on = self.on[:, i]
        alone, dominant = self.alone([i])
        firing_rate = self.number(on) / (len(on) + self.n_unseen)
        entry = {"firing_rate": firing_rate, "mean_output": _mean(self.y[on])}
        entry["mean_contribution"] = _mean(self.contributions[on, i])
        cases = {"firing": on, "alone": alone, "dominant": dominant}
        cases |= {"with": judged_by & on, "without": judged_by & ~on}
        for case, rows in cases.items():
            entry[f"output_rate_{case}"], entry[f"n_{case}"] = self.rate(rows)
        return entry


def _mean(values) -> float:
    return float(np.mean(values)) if len(values) else np.nan


def _column(y, output, shape):
    y = accept_tensor(y, "y")
    if np.shape(y) not in (shape[:1], shape):
        raise ValueError(
            f"y must have shape {shape[:1]}, for the output, or {shape}, for all. Got "
            f"shape {np.shape(y)} instead."
        )
    y = check_array(y, accept_sparse="csr", ensure_2d=False, input_name="y")
    y = y if y.ndim == 1 else y[:, [output]]
    return y.toarray().ravel() if sparse.issparse(y) else y.ravel()


def _strongest(X, row, max_inputs):
    inputs = np.flatnonzero(row)
    norm = sparse.linalg.norm if sparse.issparse(X) else np.linalg.norm
    squares = np.zeros(len(inputs))
    for rows in gen_batches(X.shape[0], _BLOCK_ROWS):
        squares += norm(X[rows][:, inputs].astype(np.float64), axis=0) ** 2
    strength = np.abs(row[inputs]) * np.sqrt(squares)
    return inputs[np.argsort(-strength, kind="stable")[:max_inputs]]
