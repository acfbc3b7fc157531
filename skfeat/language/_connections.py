"""Connections that read as logic, ranked by their evidence."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils.validation import check_is_fitted

from skfeat.capture._checks import check_codes
from skfeat.connector._base import BaseConnector
from skfeat.connector._logic import read_logic
from skfeat.explorer._statistics import stored_codes
from skfeat.language._connection import Connection, Connections
from skfeat.language._shuffled import ReadRows, score_of, shuffled_scores
from skfeat.metrics._reconstruction import r2_of_sums
from skfeat.utils._checks import (
    check_int,
    check_int_or_none,
    check_nonnegative,
)
from skfeat.utils._formula import write_formula
from skfeat.utils._torch import draw_seed

_KINDS = ("or", "and-not", "and", "single")


def find_connections(
    connector: BaseConnector,
    X: Any,
    Y: Any = None,
    *,
    kind: str | Sequence[str] = "or",
    n: int = 3,
    max_inputs: int | None = 8,
    threshold: float = 0.0,
    min_firings: int = 100,
    feature_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    n_shuffles: int = 20,
    random_state: Any = 0,
) -> Connections:
    """Find the outputs of a connector that read most clearly as a kind of logic.

    Each output is read as :meth:`skfeat.FeatureConnector.logic` reads it. Outputs of
    the wanted kind are ranked by ``score = f1 * (f1 - f1_simpler) * r2``. ``f1``
    measures how well the logic predicts where the output fires; ``f1_simpler`` is that
    of a simpler reading: the best single input for an OR or an AND, the same logic
    without the NOT for an AND-NOT, and zero for a single input. ``r2`` measures how
    well the connector predicts the output's activation.

    Beside each score stands what the same connection scores by chance: the rows of its
    output are put in random order, which keeps how often each feature fires and which
    inputs fire together, and the same reading is scored again. Of `n_shuffles` such
    scores the 95 % quantile is reported. An output that fires in most rows has a high
    `f1` by chance, and only what is above `f1_shuffled` is evidence.

    Parameters
    ----------
    connector : FeatureConnector
        Fitted.
    X : array-like or sparse matrix of shape (n_rows, n_inputs)
        Activations of the input features, preferably on held-out rows.
    Y : array-like or sparse matrix of shape (n_rows, n_outputs), default=None
        Measured activations of the output features. ``None`` means the connector's own
        predictions; `r2` is then nan and the score leaves it out.
    kind : str or sequence of str, default="or"
        "or", "and-not", "and" or "single", or several of them: their connections
        are returned in this order.
    n : int, default=3
        Number of connections of each kind.
    max_inputs : int, default=8
        Number of inputs that the logic may use, the strongest; ``None`` means all.
    threshold : float, default=0.0
        Activation above which a feature fires.
    min_firings : int, default=100
        Outputs that fire in fewer rows are skipped.
    feature_names, output_names : sequence of str, default=None
        Names of the inputs and outputs; ``None`` means what the connector calls them,
        see :meth:`skfeat.FeatureConnector.formula`.
    n_shuffles : int, default=20
        Number of shuffles. Only the connections that are returned are shuffled, each in
        time proportional to the rows in which its output fires: 20 take a few
        milliseconds for 5,000 firings. 0 leaves the baselines nan.
    random_state : int, RandomState instance or None, default=0
        Determines the shuffles.

    Returns
    -------
    connections : Connections
        A list that shows as a table, and `to_frame`. At most `n` of each kind, the
        highest score first. Each is a :class:`Connection` with ``output``, its
        ``name``, ``kind``, ``score``, ``score_shuffled``, ``f1``, ``f1_shuffled``,
        ``r2``, ``formula`` (the weighted sum of all inputs) and ``logic``, as
        `FeatureConnector.logic` returns it.

    Raises
    ------
    TypeError
        If `connector` is not a connector.
    ValueError
        If an argument is not valid.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat import FeatureConnector
    >>> from skfeat.language import find_connections
    >>> X = np.random.RandomState(0).binomial(1, 0.1, (5000, 6)) * 1.0
    >>> Y = np.column_stack([X[:, 0] + X[:, 1], np.maximum(X[:, 2] - X[:, 3], 0)])
    >>> connector = FeatureConnector(n_nonzero_coefs=4).fit(X, Y)
    >>> for found in find_connections(connector, X, Y, kind=["or", "and-not"]):
    ...     print(found.kind, found.formula, found.f1, found.f1_shuffled < 0.3)
    or F2_0 = 1.00*F1_0 + 1.00*F1_1 1.0 True
    and-not F2_1 = 1.00*F1_2 - 1.00*F1_3 1.0 True
    """
    listed = isinstance(kind, Iterable) and not isinstance(kind, str)
    kinds: list[Any] = list(kind) if listed else [kind]
    if not kinds or not all(isinstance(k, str) and k in _KINDS for k in kinds):
        allowed = ", ".join(map(repr, _KINDS))
        raise ValueError(
            f"kind must be one or several of {allowed}. Got {kind!r} instead."
        )
    n, min_firings = check_int("n", n, 1), check_int("min_firings", min_firings)
    reader = _LogicReader(
        connector,
        X,
        Y,
        max_inputs=max_inputs,
        threshold=threshold,
        feature_names=feature_names,
        output_names=output_names,
        n_shuffles=n_shuffles,
        random_state=random_state,
    )
    found: dict[str, list] = {k: [] for k in kinds}
    for output in reader.candidates(kinds, min_firings):
        connection = reader.read(output, min_firings)
        if connection is not None and connection.kind in found and connection.score > 0:
            found[connection.kind].append(connection)
    return Connections(
        reader.read_shuffled(connection.output)
        for k in dict.fromkeys(kinds)
        for connection in sorted(found[k], key=lambda c: (-c.score, c.output))[:n]
    )


def read_connection(
    connector: BaseConnector,
    output: int,
    X: Any,
    Y: Any = None,
    *,
    max_inputs: int | None = 8,
    threshold: float = 0.0,
    feature_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    n_shuffles: int = 20,
    random_state: Any = 0,
) -> Connection:
    """Read one output of a connector as `find_connections` reads all outputs.

    Parameters
    ----------
    connector : FeatureConnector
        Fitted.
    output : int
        Index of the output.
    X, Y, max_inputs, threshold, feature_names, output_names, n_shuffles, random_state
        As in :func:`find_connections`.

    Returns
    -------
    Connection
        As in :func:`find_connections`, whatever its kind.

    Raises
    ------
    TypeError
        If `connector` is not a connector.
    ValueError
        If an argument is not valid.

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
    reader = _LogicReader(
        connector,
        X,
        Y,
        max_inputs=max_inputs,
        threshold=threshold,
        feature_names=feature_names,
        output_names=output_names,
        n_shuffles=n_shuffles,
        random_state=random_state,
    )
    check_int("output", output, 0, reader.coef.shape[0] - 1)
    return reader.read_shuffled(int(output))


def read_all(connector: BaseConnector, X: Any, Y: Any) -> list[Connection]:
    """Read every output as `find_connections` does, without the scores by chance."""
    reader = _LogicReader(
        connector,
        X,
        Y,
        max_inputs=8,
        threshold=0.0,
        feature_names=None,
        output_names=None,
        n_shuffles=0,
        random_state=0,
    )
    found = [reader.read(output, 0) for output in range(reader.coef.shape[0])]
    return [connection for connection in found if connection is not None]


class _LogicReader:
    """Reads the logic of outputs, each from the rows where one of its codes fires."""

    def __init__(
        self,
        connector: BaseConnector,
        X: Any,
        Y: Any,
        *,
        max_inputs: int | None,
        threshold: float,
        feature_names: Sequence[str] | None,
        output_names: Sequence[str] | None,
        n_shuffles: int,
        random_state: Any,
    ):
        if not isinstance(connector, BaseConnector):
            raise TypeError(
                f"connector must be a FeatureConnector. Got {connector!r} instead."
            )
        check_is_fitted(connector)
        self.coef = sparse.csr_array(connector.coef_)
        self.intercept, self.link = connector.intercept_, connector._fitted_link
        n_outputs, n_inputs = self.coef.shape
        check_int_or_none("max_inputs", max_inputs)
        check_nonnegative("threshold", threshold)
        self.input_names, self.output_names = connector._names(
            feature_names, output_names
        )
        self.max_inputs, self.threshold = max_inputs, float(threshold)
        self.n_shuffles = check_int("n_shuffles", n_shuffles)
        self.seed = draw_seed(random_state)
        self.X = _check_features("X", X, None, n_inputs)
        self.n_rows = self.X.shape[0]
        self.Y = None
        if Y is not None:
            self.Y = _check_features("Y", Y, self.n_rows, n_outputs)
        self.norms = np.sqrt(self.X.power(2).sum(axis=0))
        self.marked = np.zeros(self.n_rows, dtype=bool)
        # Maps a row of X to its index among the rows that `_rows_of_any` returned.
        self.index_of_row = np.zeros(self.n_rows, dtype=np.int64)

    def weights_of(self, output: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the inputs and weights of an output, strongest first."""
        span = slice(self.coef.indptr[output], self.coef.indptr[output + 1])
        inputs, weights = self.coef.indices[span], self.coef.data[span]
        inputs, weights = inputs[weights != 0], weights[weights != 0].astype(np.float64)
        # The order of connector_logic: ties go to the lower index.
        by_index = np.argsort(inputs, kind="stable")
        inputs, weights = inputs[by_index], weights[by_index]
        order = np.argsort(-np.abs(weights) * self.norms[inputs], kind="stable")
        return inputs[order], weights[order]

    def candidates(self, kinds: list[str], min_firings: int) -> Iterator[int]:
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

    def read(self, output: int, min_firings: int) -> Connection | None:
        """Read an output; return None if it fires in fewer than `min_firings` rows."""
        found = self._read(output, min_firings)
        return None if found is None else found[0]

    def read_shuffled(self, output: int) -> Connection:
        """Read an output, and score it with its rows shuffled too."""
        found = self._read(output, 0)
        assert found is not None  # no output fires in fewer than no rows
        connection, rows = found
        # By the output: the same whichever others are read.
        rng = np.random.default_rng([self.seed, output])
        has_r2 = self.Y is not None
        score, f1 = shuffled_scores(rows, has_r2, self.n_shuffles, rng)
        connection.score_shuffled, connection.f1_shuffled = score, f1
        return connection

    def _read(
        self, output: int, min_firings: int
    ) -> tuple[Connection, ReadRows] | None:
        inputs, weights = self.weights_of(output)
        codes = [stored_codes(self.X, i) for i in inputs]
        measured = None if self.Y is None else stored_codes(self.Y, output)
        rows = self._rows_of_any(codes if measured is None else [*codes, measured])
        # In all other rows nothing fires: one row at the end stands for them.
        n_silent = self.n_rows - len(rows)
        size = len(rows) + (n_silent > 0)
        n_listed = len(inputs[: self.max_inputs])
        x = np.zeros((size, n_listed), order="F")
        predicted = np.full(size, self.intercept[output], dtype=np.float64)
        for i, (firing, values) in enumerate(codes):
            index = self.index_of_row[firing]
            predicted[index] += weights[i] * values
            if i < n_listed:
                x[index, i] = values
        if self.link == "relu":
            np.maximum(predicted, 0, out=predicted)
        y, r2 = predicted, np.nan
        if measured is not None:
            y = np.zeros(size)
            y[self.index_of_row[measured[0]]] = measured[1]
            r2 = _r2(y, predicted, n_silent)
        n_firings = np.count_nonzero(y > self.threshold)
        if n_silent and y[-1] > self.threshold:
            n_firings += n_silent - 1
        if n_firings < min_firings:
            return None
        name = self.output_names[output]
        logic, readings = read_logic(
            name,
            inputs[:n_listed],
            [self.input_names[i] for i in inputs[:n_listed].tolist()],
            weights[:n_listed],
            x,
            y,
            self.threshold,
            n_silent,
        )
        names = self.input_names, self.output_names
        connection = Connection(
            output=output,
            name=name,
            kind=logic.kind,
            score=score_of(logic.f1, logic.f1_simpler, r2),
            f1=float(logic.f1),
            r2=float(r2),
            formula=write_formula(self.coef, output, None, *names),
            logic=logic,
        )
        return connection, ReadRows(readings, y, predicted, n_silent, self.threshold)

    def _rows_of_any(self, codes: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
        """Return the rows where any code fires, and set `index_of_row` for them."""
        for firing, _ in codes:
            self.marked[firing] = True
        rows = np.flatnonzero(self.marked)
        self.marked[rows] = False
        self.index_of_row[rows] = np.arange(len(rows))
        return rows


def _check_features(
    name: str, value: Any, n_rows: int | None, n_columns: int
) -> sparse.csc_array:
    matrix = sparse.csc_array(check_codes(name, value, n_rows)).astype(np.float64)
    if matrix.shape[1] != n_columns:
        raise ValueError(
            f"{name} must have {n_columns} columns, as the connector was fitted with. "
            f"Got {matrix.shape[1]} instead."
        )
    if not matrix.shape[0]:
        raise ValueError(f"{name} must have at least one row. Got none instead.")
    matrix.sum_duplicates()
    return matrix


def _r2(y: np.ndarray, predicted: np.ndarray, n_silent: int) -> float:
    """Return the R2 of rows, the last of which stands for `n_silent` rows if any."""
    n_unseen = max(0, n_silent - 1)

    def total(values: np.ndarray) -> float:
        return values.sum() + n_unseen * values[-1]

    deviation = total((y - total(y) / (len(y) + n_unseen)) ** 2)
    error = total((y - predicted) ** 2)
    return float(r2_of_sums(error, deviation))
