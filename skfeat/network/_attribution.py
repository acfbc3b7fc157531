"""What each feature, weight and bias of a SparseFeatureNetwork brings to an output."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from skfeat.chain._slopes import backpropagate, check_piecewise_linear, values_along
from skfeat.network import _predict
from skfeat.network._arrays import NetworkArrays, as_inputs
from skfeat.network._attribution_shown import levels, part_rows, parts_of_attribution
from skfeat.utils._checks import check_flag, is_int
from skfeat.utils._finite import check_finite_result
from skfeat.utils._shown import Part, Shown, data_frame

if TYPE_CHECKING:
    import pandas as pd

# Flows of one block of rows stand densely before the zeros among them are dropped.
_BLOCK_ELEMENTS = 2**22
# What attributions have of the network itself, whatever the rows.
_SHARED = ("coefs", "feature_names", "input_names", "output_names", "layer_names")


@dataclass(frozen=True, eq=False, repr=False)
class Attribution(Shown):
    """One output of each row, split into what features, weights and biases bring.

    All in units of the output. At each layer the parts add up to it:
    ``features[i].sum(axis=1)``, the biases of all later layers and `output_bias` are
    the output, which :meth:`total` computes. What flows into a feature (its edges and
    its bias) is what flows out of it. Printing it, or ending a notebook cell with it,
    shows that the parts of each layer add up.

    Parameters
    ----------
    output : ndarray
        (n,) the output that was split, as a column of the raw outputs.
    value : ndarray
        (n,) its value: the sum of its parts.
    features : list of ndarray
        (n, m_i) of each layer: feature times slope of the output in it.
    edges : list of csr_array
        (n, nnz) of each of `coefs_`: a column for each stored weight, in its order.
    biases : list of ndarray
        (n, m_i) of each layer: what the features' intercepts bring.
    output_bias : ndarray
        (n,) what the constants after the last features bring.
    inputs : ndarray or None
        (n, n_features_in) what the inputs bring; None unless asked for.
    input_edges : csr_array or None
        (n, m_0 * n_features_in): input k through feature j of the first layer, in
        column ``j * n_features_in + k``.
    input_bias : ndarray or None
        (n,) what the constants before the first features bring.
    coefs : list of csr_array
        The network's `coefs_`, which say where each edge leads.
    feature_names : list of lists of str
        The network's names of the features, of the columns of each of `features`.
    input_names : list of str
        Of the columns of `inputs`.
    output_names : list of str
        Of the raw outputs, which `output` counts.
    layer_names : list of str
        The network's names of the layers, of each of `features`.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.neural_network import MLPClassifier
    >>> from skfeat import FeatureUnwrapper, SparseAutoencoder
    >>> X, y = load_iris(return_X_y=True)
    >>> X = (X - X.mean(axis=0)) / X.std(axis=0)
    >>> mlp = MLPClassifier((8, 8), solver="lbfgs", tol=0.01, random_state=0)
    >>> part = SparseAutoencoder(8, k=4, max_iter=200, random_state=0)
    >>> unwrapper = FeatureUnwrapper(mlp.fit(X, y), autoencoder=part, random_state=0)
    >>> attribution = unwrapper.fit(X).network().attribute(X[:3], inputs=True)
    >>> print(attribution)
    contributions to an output of each of 3 rows: 0 in 3...
    layer ...
    >>> list(attribution.to_frame())
    ['row', 'output', 'layer', 'name', 'contribution']
    """

    output: np.ndarray
    value: np.ndarray
    features: list[np.ndarray]
    edges: list[sparse.csr_array]
    biases: list[np.ndarray]
    output_bias: np.ndarray
    inputs: np.ndarray | None
    input_edges: sparse.csr_array | None
    input_bias: np.ndarray | None
    coefs: list[sparse.csr_array]
    feature_names: list[list[str]]
    input_names: list[str]
    output_names: list[str]
    layer_names: list[str]

    def to_frame(self) -> pd.DataFrame:
        """Make a data frame of the parts, without those that are zero.

        Returns
        -------
        pandas.DataFrame
            Columns ``row``, ``output``, ``layer``, ``name`` and ``contribution``. Those
            of a row and a layer add up to the output: what the biases bring there is
            called "constants".

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        found = [part_rows(self, *level) for level in levels(self)]
        columns = {
            key: np.concatenate([np.asarray(part[key], object) for part in found])
            for key in found[0]
        }
        for key, dtype in (("row", np.intp), ("contribution", self.value.dtype)):
            columns[key] = columns[key].astype(dtype)
        return data_frame(columns)

    def _parts(self) -> list[Part]:
        return parts_of_attribution(self)

    def total(self, layer: int | str = 0) -> np.ndarray:
        """Add up the parts at one layer, or at the ``"inputs"``.

        Parameters
        ----------
        layer : int or "inputs", default=0
            Position of the layer.

        Returns
        -------
        total : ndarray of shape (n,)
            Equal to `value` but for rounding, whatever the layer.
        """
        if layer == "inputs":
            if self.inputs is None or self.input_bias is None:
                raise ValueError("layer='inputs' needs attribute(..., inputs=True).")
            start = self.inputs.sum(axis=1) + self.input_bias
            later = self.biases
        else:
            position = _position("layer", layer, len(self.features), "'inputs' or ")
            start = self.features[position].sum(axis=1)
            later = self.biases[position + 1 :]
        return start + sum(part.sum(axis=1) for part in later) + self.output_bias

    def flow(self, row: int, connector: int) -> sparse.csr_array:
        """Arrange the edges of one row as the weights are arranged.

        Parameters
        ----------
        row : int
        connector : int
            Position in `coefs_`.

        Returns
        -------
        flow : csr_array of shape (m_i, m_{i-1})
        """
        connector = _position("connector", connector, len(self.edges))
        row = _position("row", row, len(self.value))
        return _as_matrix(self.edges[connector][[row]], self.coefs[connector])


def _position(name: str, value: Any, n: int, other: str = "") -> int:
    """Return an index that counts from the start."""
    if not is_int(value) or int(value) not in range(-n, n):
        raise ValueError(
            f"{name} must be {other}an int from {-n} to {n - 1}. Got {value!r} instead."
        )
    return range(n)[int(value)]


@dataclass(frozen=True, eq=False)
class MeanFlow:
    """Mean absolute contributions over rows: what the whole network uses."""

    features: list[np.ndarray]
    """(m_i,) of each layer."""
    edges: list[sparse.csr_array]
    """(m_i, m_{i-1}) of each of `coefs_`."""
    to_outputs: np.ndarray
    """(n_outputs, m_last): a row of the data counts only for the output it is about."""
    inputs: np.ndarray | None
    """(n_features_in,); None unless asked for."""
    input_edges: sparse.csr_array | None
    """(m_0, n_features_in)."""
    feature_names: list[list[str]]
    """The network's names of the features, one list a layer."""
    input_names: list[str]
    """The network's names of the inputs."""
    output_names: list[str]
    """The network's names of the outputs."""
    layer_names: list[str]
    """The network's names of the layers."""


def attribute(network: NetworkArrays, X: Any, output: Any, inputs: bool) -> Attribution:
    """Return what :meth:`SparseFeatureNetwork.attribute` describes."""
    check_flag("inputs", inputs)
    parts = list(_attributed_blocks(network, X, output, inputs))
    columns: dict[str, Any] = {}
    for name in (field.name for field in fields(Attribution)):
        pieces = [getattr(part, name) for part in parts]
        if name in _SHARED:
            columns[name] = pieces[0]
        elif isinstance(pieces[0], list):
            columns[name] = [_stacked(column) for column in zip(*pieces, strict=True)]
        else:
            columns[name] = _stacked(pieces)
    return Attribution(**columns)


def mean_flow(network: NetworkArrays, X: Any, output: Any, inputs: bool) -> MeanFlow:
    """Return what :meth:`SparseFeatureNetwork.mean_flow` describes."""
    check_flag("inputs", inputs)
    features = [np.zeros(m) for m in network.n_components_]
    edges = [np.zeros(coef.nnz) for coef in network.coefs_]
    to_outputs = np.zeros((network.n_outputs_, network.n_components_[-1]))
    from_inputs = np.zeros(network.n_features_in_)
    m, d = network.n_components_[0], network.n_features_in_
    input_edges = sparse.csr_array((1, m * d))
    n_rows = 0
    for part in _attributed_blocks(network, X, output, inputs):
        n_rows += len(part.value)
        for total, values in zip(features, part.features, strict=True):
            total += np.abs(values).sum(axis=0)
        for total, flows in zip(edges, part.edges, strict=True):
            total += abs(flows).sum(axis=0)
        np.add.at(to_outputs, part.output, np.abs(part.features[-1]))
        if part.inputs is not None and part.input_edges is not None:
            from_inputs += np.abs(part.inputs).sum(axis=0)
            ones = sparse.csr_array(np.ones((1, len(part.value))))
            input_edges = input_edges + ones @ abs(part.input_edges)
    if not n_rows:
        raise ValueError("X must have at least one row to take the mean of, got none.")
    return MeanFlow(
        features=[total / n_rows for total in features],
        edges=[
            _as_matrix(sparse.csr_array(total[None] / n_rows), coef)
            for total, coef in zip(edges, network.coefs_, strict=True)
        ],
        to_outputs=to_outputs / n_rows,
        inputs=from_inputs / n_rows if inputs else None,
        input_edges=(input_edges / n_rows).reshape(m, d).tocsr() if inputs else None,
        **_names(network),
    )


def _attributed_blocks(
    network: NetworkArrays, X: Any, output: Any, inputs: bool
) -> Iterator[Attribution]:
    check_piecewise_linear("back", network.back)
    if inputs:
        check_piecewise_linear("front", network.front)
    X = as_inputs(network, X)
    output = _as_outputs(output, len(X), network.n_outputs_)
    widest = max(*network.n_components_, *network.n_weights_, 1)
    size = max(1, _BLOCK_ELEMENTS // widest)
    for start in range(0, max(1, len(X)), size):
        rows = slice(start, start + size)
        chosen = None if output is None else output[rows]
        yield _attribute_block(network, X[rows], chosen, inputs)


def _as_outputs(output: Any, n_rows: int, n_outputs: int) -> np.ndarray | None:
    """Check which output each row is asked for."""
    if output is None:
        return None
    chosen = np.asarray(output)
    if (
        chosen.dtype.kind not in "iu"
        or chosen.shape not in ((), (n_rows,))
        or (chosen.size and not 0 <= chosen.min() <= chosen.max() < n_outputs)
    ):
        raise ValueError(
            f"output must be an int from 0 to {n_outputs - 1}, one of them for each of "
            f"the {n_rows} rows, or None. Got {output!r} instead."
        )
    return np.broadcast_to(chosen, n_rows)


def _attribute_block(
    network: NetworkArrays,
    X: np.ndarray,
    output: np.ndarray | None,
    inputs: bool,
) -> Attribution:
    """Walk back from the output with the slope of each value on the way."""

    def cast(array: Any) -> Any:
        return array.astype(X.dtype, copy=False)

    features = _predict.checked_features(network, X)
    decoder, d_intercept = cast(network.decoder_coef_), cast(network.decoder_intercept_)
    values = values_along(network.back.steps, features[-1] @ decoder + d_intercept)
    check_finite_result("The outputs", values[-1], X)
    if output is None:
        output = values[-1].argmax(axis=1)
    at_output = np.arange(len(X)), output
    slopes = np.zeros_like(values[-1])
    slopes[at_output] = 1
    slopes, output_bias = backpropagate(network.back.steps, values, slopes)
    output_bias = output_bias + slopes @ d_intercept
    slopes = slopes @ decoder.T

    contributions = [features[-1] * slopes]
    edges: list[sparse.csr_array] = []
    biases: list[np.ndarray] = []
    connectors = zip(network.coefs_, network.intercepts_, network.links, strict=True)
    for (coef, intercept, link), (before, after) in reversed(
        list(zip(connectors, pairwise(features), strict=True))
    ):
        if link == "relu":
            slopes = slopes * (after > 0)
        edges.insert(0, _edge_flows(cast(coef), before, slopes))
        biases.insert(0, slopes * cast(intercept))
        slopes = slopes @ cast(coef)
        contributions.insert(0, before * slopes)

    # Every activation of the first layer gives the pre-activation itself, or zero.
    slopes = slopes * (features[0] != 0)
    encoder, e_bias = cast(network.encoder_coef_), cast(network.encoder_bias_)
    biases.insert(0, slopes * (cast(network.encoder_intercept_) - encoder @ e_bias))
    from_inputs = input_edges = input_bias = None
    if inputs:
        values_in = values_along(network.front.steps, X)
        at_inputs, input_bias = backpropagate(
            network.front.steps, values_in, slopes @ encoder
        )
        from_inputs = X * at_inputs
        input_edges = _input_edges(network, encoder, values_in, slopes)
    return Attribution(
        output=output,
        value=values[-1][at_output],
        features=contributions,
        edges=edges,
        biases=biases,
        output_bias=output_bias,
        inputs=from_inputs,
        input_edges=input_edges,
        input_bias=input_bias,
        coefs=network.coefs_,
        **_names(network),
    )


def _names(network: NetworkArrays) -> dict[str, Any]:
    return {
        "feature_names": network.feature_names_,
        "input_names": network.input_names_,
        "output_names": network.output_names_,
        "layer_names": network.layer_names_,
    }


def _edge_flows(
    coef: sparse.csr_array, F: np.ndarray, slopes: np.ndarray
) -> sparse.csr_array:
    """Compute weight * feature it starts from * slope of where it leads, row by row."""
    targets = np.repeat(np.arange(coef.shape[0]), np.diff(coef.indptr))
    return sparse.csr_array(F[:, coef.indices] * coef.data * slopes[:, targets])


def _input_edges(
    network: NetworkArrays, encoder: Any, values: list, slopes: np.ndarray
) -> sparse.csr_array:
    """Compute what each input brings through each active feature of the first layer."""
    X, n_inputs = values[0], network.n_features_in_
    found, columns, counts = [], [], [0]
    for row, slope in enumerate(slopes):
        active = np.flatnonzero(slope)
        weights = encoder[active]
        weights = weights.toarray() if sparse.issparse(weights) else weights
        own = [value[row : row + 1] for value in values]
        at_inputs, _ = backpropagate(
            network.front.steps, own, weights * slope[active, None]
        )
        flows = at_inputs * X[row]
        feature, source = np.nonzero(flows)
        found.append(flows[feature, source])
        columns.append(active[feature].astype(np.int64) * n_inputs + source)
        counts.append(len(source))
    data = np.concatenate([np.empty(0, X.dtype), *found])
    indices = np.concatenate([np.empty(0, np.int64), *columns])
    shape = (len(X), network.n_components_[0] * n_inputs)
    return sparse.csr_array((data, indices, np.cumsum(counts)), shape=shape)


def _as_matrix(row: sparse.csr_array, coef: sparse.csr_array) -> sparse.csr_array:
    """Put one value for each weight where the weight stands; zeros are dropped."""
    values = row.toarray().ravel()
    matrix = sparse.csr_array((values, coef.indices, coef.indptr), shape=coef.shape)
    matrix = matrix.copy()
    matrix.eliminate_zeros()
    return matrix


def _stacked(pieces: Any) -> Any:
    if pieces[0] is None or len(pieces) == 1:
        return pieces[0]
    if sparse.issparse(pieces[0]):
        return sparse.vstack(pieces, format="csr")
    return np.concatenate(pieces)
