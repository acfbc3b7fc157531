"""Connections that read as logic, found by their evidence."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from scipy import sparse
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted

from skfeat.capture._checks import check_codes
from skfeat.connector._base import BaseConnector
from skfeat.connector._logic import read_logic
from skfeat.utils._checks import check_int
from skfeat.utils._formula import (
    check_count,
    check_names,
    check_output,
    check_threshold,
    name_inputs,
    write_formula,
)

_KINDS = ("or", "and-not", "and", "single")


def find_connections(
    connector,
    X,
    Y=None,
    *,
    kind="or",
    n=3,
    max_inputs=8,
    threshold=0.0,
    min_firings=100,
    feature_names=None,
    output_names=None,
) -> list[Bunch]:
    """Find the outputs of a connector that read most clearly as a kind of logic.

    Every output is read off the data as by :meth:`skfeat.FeatureConnector.logic`; those
    of the kind are ranked by ``score = f1 * (f1 - f1_simpler) * r2``: how well the
    reading says where the output fires, what its logic adds to a simpler reading (to
    the best single input for an OR or an AND, to the same without the NOT for an
    AND-NOT, to nothing for a single input), and how well the connector predicts the
    output's activation.

    Parameters
    ----------
    connector : FeatureConnector
        Fitted.
    X : array-like or sparse matrix of shape (n_rows, n_inputs)
        Activations of the input features, best of rows that were not fitted.
    Y : array-like or sparse matrix of shape (n_rows, n_outputs), default=None
        Measured activations of the output features. ``None`` means the connector's own
        prediction, for which `r2` is nan and left out of the score.
    kind : str or sequence of str, default="or"
        "or", "and-not", "and" or "single"; of several kinds one after the other.
    n : int, default=3
        Number of connections of each kind.
    max_inputs : int, default=8
        Number of inputs that are looked at, the strongest; ``None`` means all.
    threshold : float, default=0.0
        Activation above which a feature fires.
    min_firings : int, default=100
        Outputs that fire in fewer rows are left out.
    feature_names, output_names : sequence of str, default=None
        Names of the inputs and outputs; ``None`` means "F1_0" and "F2_0" and so on.

    Returns
    -------
    connections : list of Bunch
        The clearest first, with ``output``, its ``name``, ``kind``, ``score``, ``r2``,
        ``formula`` (the weighted sum of all inputs) and ``logic``, which is what
        `FeatureConnector.logic` returns. Fewer than `n` of a kind where there are no
        more.

    Raises
    ------
    TypeError
        If `connector` is none.
    ValueError
        If an argument is not as described.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat import FeatureConnector
    >>> from skfeat.language import find_connections
    >>> X = np.random.RandomState(0).binomial(1, 0.1, (5000, 6)) * 1.0
    >>> Y = np.column_stack([X[:, 0] + X[:, 1], np.maximum(X[:, 2] - X[:, 3], 0)])
    >>> connector = FeatureConnector(n_nonzero_coefs=4).fit(X, Y)
    >>> for found in find_connections(connector, X, Y, kind=["or", "and-not"]):
    ...     print(found.kind, found.formula)
    or F2_0 = 1.00*F1_0 + 1.00*F1_1
    and-not F2_1 = 1.00*F1_2 - 1.00*F1_3
    """
    listed = isinstance(kind, Iterable) and not isinstance(kind, str)
    kinds = list(kind) if listed else [kind]
    if not kinds or not all(isinstance(k, str) and k in _KINDS for k in kinds):
        allowed = ", ".join(map(repr, _KINDS))
        raise ValueError(
            f"kind must be one or several of {allowed}. Got {kind!r} instead."
        )
    n, min_firings = check_int("n", n, 1), check_int("min_firings", min_firings)
    reader = _Reader(
        *(connector, X, Y, max_inputs, threshold, feature_names, output_names)
    )
    found: dict[str, list] = {k: [] for k in kinds}
    for output in reader.candidates(kinds, min_firings):
        connection = reader.read(output, min_firings)
        if connection is not None and connection.kind in found and connection.score > 0:
            found[connection.kind].append(connection)
    return [
        connection
        for k in dict.fromkeys(kinds)
        for connection in sorted(found[k], key=lambda c: (-c.score, c.output))[:n]
    ]


def read_connection(
    connector,
    output,
    X,
    Y=None,
    *,
    max_inputs=8,
    threshold=0.0,
    feature_names=None,
    output_names=None,
) -> Bunch:
    """Read one output of a connector as `find_connections` reads them all.

    Parameters
    ----------
    connector : FeatureConnector
        Fitted.
    output : int
        Index of the output.
    X, Y, max_inputs, threshold, feature_names, output_names
        As in :func:`find_connections`.

    Returns
    -------
    Bunch
        As in :func:`find_connections`, whatever its kind.

    Raises
    ------
    TypeError
        If `connector` is none.
    ValueError
        If an argument is not as described.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat import FeatureConnector
    >>> from skfeat.language import read_connection
    >>> X = np.random.RandomState(0).binomial(1, 0.1, (5000, 6)) * 1.0
    >>> Y = X[:, [0]] + X[:, [1]]
    >>> connector = FeatureConnector(n_nonzero_coefs=2).fit(X, Y)
    >>> read_connection(connector, 0, X, Y).logic.formula
    '1.00*F1_0 OR 1.00*F1_1'
    """
    reader = _Reader(
        *(connector, X, Y, max_inputs, threshold, feature_names, output_names)
    )
    check_output(output, reader.coef.shape[0])
    return reader.read(int(output), 0)


class _Reader:
    """Reads outputs one after the other from the few rows that concern each."""

    def __init__(
        self, connector, X, Y, max_inputs, threshold, feature_names, output_names
    ):
        check_is_fitted(connector)
        if not isinstance(connector, BaseConnector):
            raise TypeError(
                f"connector must be a FeatureConnector. Got {connector!r} instead."
            )
        self.coef = sparse.csr_array(connector.coef_)
        self.intercept, self.link = connector.intercept_, connector.link
        n_outputs, n_inputs = self.coef.shape
        check_count(max_inputs, "max_inputs")
        check_threshold(threshold)
        check_names(feature_names, n_inputs)
        check_names(output_names, n_outputs, "output_names", "outputs")
        self.max_inputs, self.threshold = max_inputs, float(threshold)
        self.feature_names, self.output_names = feature_names, output_names
        self.X = _columns("X", X, None, n_inputs)
        self.n_rows = self.X.shape[0]
        self.Y = None if Y is None else _columns("Y", Y, self.n_rows, n_outputs)
        self.norms = np.sqrt(self.X.power(2).sum(axis=0))
        self.marked = np.zeros(self.n_rows, dtype=bool)
        self.place = np.zeros(self.n_rows, dtype=np.int64)

    def weights_of(self, output):
        """Return inputs and weights of an output, strongest first."""
        span = slice(self.coef.indptr[output], self.coef.indptr[output + 1])
        inputs, weights = self.coef.indices[span], self.coef.data[span]
        inputs, weights = inputs[weights != 0], weights[weights != 0].astype(np.float64)
        # As connector_logic ranks them, equal ones by their index.
        by_index = np.argsort(inputs, kind="stable")
        inputs, weights = inputs[by_index], weights[by_index]
        order = np.argsort(-np.abs(weights) * self.norms[inputs], kind="stable")
        return inputs[order], weights[order]

    def candidates(self, kinds, min_firings):
        """Yield the outputs whose weights and firings allow one of the kinds."""
        often = np.ones(self.coef.shape[0], dtype=bool)
        if self.Y is not None:
            columns = sparse.coo_array(self.Y).col[self.Y.data > self.threshold]
            often = np.bincount(columns, minlength=len(often)) >= min_firings
        for output in np.flatnonzero(often).tolist():
            _, weights = self.weights_of(output)
            weights = weights[: self.max_inputs]
            n_positive, n_negative = (weights > 0).sum(), (weights < 0).sum()
            possible = {
                "or": n_positive > 1,
                "and": n_positive > 1,
                "and-not": n_positive > 0 and n_negative > 0,
                "single": n_positive > 0,
            }
            if any(possible[kind] for kind in kinds):
                yield output

    def read(self, output, min_firings) -> Bunch | None:
        """Read an output; None if it fires too rarely."""
        inputs, weights = self.weights_of(output)
        columns = [_entries(self.X, i) for i in inputs]
        measured = None if self.Y is None else _entries(self.Y, output)
        rows = self._union([*columns, *([] if measured is None else [measured])])
        # All other rows are alike: one row at the end stands for them.
        n_quiet = self.n_rows - len(rows)
        size = len(rows) + (n_quiet > 0)
        listed = len(inputs[: self.max_inputs])
        x = np.zeros((size, listed), order="F")
        predicted = np.full(size, self.intercept[output], dtype=np.float64)
        for i, (at, values) in enumerate(columns):
            here = self.place[at]
            predicted[here] += weights[i] * values
            if i < listed:
                x[here, i] = values
        if self.link == "relu":
            np.maximum(predicted, 0, out=predicted)
        y, r2 = predicted, np.nan
        if measured is not None:
            y = np.zeros(size)
            y[self.place[measured[0]]] = measured[1]
            r2 = _r2(y, predicted, n_quiet)
        n_firings = np.count_nonzero(y > self.threshold)
        if n_quiet and y[-1] > self.threshold:
            n_firings += n_quiet - 1
        if n_firings < min_firings:
            return None
        return self._read(output, inputs, weights, x, y, n_quiet, r2)

    def _read(self, output, inputs, weights, x, y, n_quiet, r2):
        listed = x.shape[1]
        name = f"F2_{output}"
        if self.output_names is not None:
            name = list(self.output_names)[output]
        logic = read_logic(
            name,
            inputs[:listed],
            name_inputs(inputs[:listed], self.feature_names),
            weights[:listed],
            x,
            y,
            self.threshold,
            n_quiet,
        )
        formula = write_formula(self.coef, output, None, self.feature_names)
        score = logic.f1 * max(0.0, logic.f1 - logic.f1_simpler)
        return Bunch(
            output=output,
            name=name,
            kind=logic.kind,
            score=float(score if np.isnan(r2) else score * max(0.0, r2)),
            r2=float(r2),
            formula=f"{name}{formula[formula.index(' = ') :]}",
            logic=logic,
        )

    def _union(self, columns):
        """Return the rows where any column has an entry, and note their places."""
        for at, _ in columns:
            self.marked[at] = True
        rows = np.flatnonzero(self.marked)
        self.marked[rows] = False
        self.place[rows] = np.arange(len(rows))
        return rows


def _entries(matrix, column):
    span = slice(matrix.indptr[column], matrix.indptr[column + 1])
    return matrix.indices[span], matrix.data[span]


def _columns(name, value, n_rows, n_columns):
    matrix = sparse.csc_array(check_codes(name, value, n_rows)).astype(np.float64)
    if matrix.shape[1] != n_columns:
        raise ValueError(
            f"{name} must have {n_columns} columns, as the connector was fitted with. "
            f"Got {matrix.shape[1]} instead."
        )
    if not matrix.shape[0]:
        raise ValueError(f"{name} must have rows. Got none instead.")
    matrix.sum_duplicates()
    return matrix


def _r2(y, predicted, n_quiet) -> float:
    """Return R2 where the last row stands for `n_quiet` rows, 0 for none but itself."""
    n_unseen = max(0, n_quiet - 1)

    def total(values):
        return values.sum() + n_unseen * values[-1]

    deviation = total((y - total(y) / (len(y) + n_unseen)) ** 2)
    error = total((y - predicted) ** 2)
    return float(1 - error / deviation) if deviation > 0 else np.nan
