"""What a SparseFeatureNetwork is given, checked and copied to plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import sparse

from skfeat.activations import Activation, JumpReLU, ReLU, TopK
from skfeat.chain import Chain
from skfeat.network._columns import check_columns
from skfeat.network._decide import as_classes, as_rule
from skfeat.utils._checks import as_plain, described, is_int
from skfeat.utils._decision import DecisionRule
from skfeat.utils._finite import all_finite
from skfeat.utils._names import INPUT_PREFIX, Numbered, feature_prefix, output_names

LINKS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda pre: np.maximum(pre, 0),
    "identity": lambda pre: pre,
}
_FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def as_chain(name: str, chain: Any) -> Chain:
    """Copy a chain with its arrays."""
    if not isinstance(chain, Chain):
        raise ValueError(f"{name} must be a Chain, got {chain!r}.")
    arrays, spec = chain.to_arrays()
    return Chain.from_arrays({key: a.copy() for key, a in arrays.items()}, spec)


def as_activation(activation: Any, n_components: int) -> Activation:
    """Return the activation, a threshold copied."""
    if isinstance(activation, JumpReLU):
        return JumpReLU(as_array("threshold", activation.threshold, n_components))
    if not isinstance(activation, ReLU | TopK):
        raise ValueError(
            "activation must be ReLU(), TopK(k) or JumpReLU(threshold), got "
            f"{activation!r}."
        )
    return activation


def as_names(what: str, names: Any) -> list[str]:
    """Copy a list of strings."""
    is_list = isinstance(names, list | tuple | np.ndarray)
    if not is_list or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{what} must be a list of strings, got {names!r}.")
    return [str(name) for name in names]


def layer_index(names: list[str], layer: Any, what: str = "layer") -> int:
    """Find a layer by its name or its position, from the end if negative."""
    if isinstance(layer, str) and layer in names:
        return names.index(layer)
    if is_int(layer) and int(layer) in range(-len(names), len(names)):
        return range(len(names))[int(layer)]
    raise ValueError(
        f"{what} must be an int from {-len(names)} to {len(names) - 1} or one of the "
        f"names {names}. Got {layer!r} instead."
    )


def layer_title(name: str) -> str:
    """Return what a layer is called where its name stands alone.

    Modules of an nn.Sequential are named "0", "2", which alone would not be clear.
    """
    return f"layer {name}" if name.isdigit() else name


def as_links(links: Any) -> list[str]:
    """Copy a list of names of :data:`LINKS`."""
    links = as_names("links", links)
    if unknown := set(links) - set(LINKS):
        raise ValueError(f"links must be of {list(LINKS)}, got {min(unknown)!r}.")
    return links


def as_feature_names(names: Any, n_components: list[int]) -> list[list[str]]:
    """Copy the names of each layer's features, or make them up."""
    if names is None:
        return [
            list(Numbered(feature_prefix(i), m)) for i, m in enumerate(n_components)
        ]
    copied = [as_names("feature_names", layer) for layer in names]
    if [len(layer) for layer in copied] != n_components:
        raise ValueError(
            "feature_names must be one list a layer, with a name for each of its "
            f"{n_components} features."
        )
    return copied


def as_end_names(what: str, names: Any, n: int) -> list[str]:
    """Copy the names of the `n` inputs or outputs."""
    copied = as_names(what, names)
    if len(copied) != n:
        raise ValueError(f"{what} must have {n} names, got {len(copied)}.")
    return copied


def as_array(name: str, value: Any, *shape: int | None) -> np.ndarray:
    """Copy an array of this shape; None stands for any positive length."""
    array = np.asarray(value)
    array = np.array(array, _float_dtype(name, array.dtype), order="C")
    _check_shape(name, array.shape, shape)
    _check_finite(name, array)
    return array


def as_csr(name: str, value: Any, *shape: int | None) -> sparse.csr_array:
    """Copy a matrix of this shape to a canonical CSR array without stored zeros."""
    array = sparse.csr_array(value, copy=True)
    array.check_format(full_check=True)
    _check_shape(name, array.shape, shape)
    array = array.astype(_float_dtype(name, array.dtype), copy=False)
    _check_finite(name, array.data)
    array.sum_duplicates()
    array.eliminate_zeros()
    return array


def as_end(name: str, value: Any, *shape: int | None) -> np.ndarray | sparse.csr_array:
    """Copy the encoder or decoder, dense or sparse as it is."""
    return (as_csr if sparse.issparse(value) else as_array)(name, value, *shape)


def as_rows(
    name: str,
    rows: Any,
    width: int,
    whose: str,
    *,
    accept_sparse: bool = False,
    finite: bool = True,
) -> np.ndarray | sparse.csr_array:
    """Check rows of data as scikit-learn does, of which nothing is imported here.

    Whether they are `finite` is left to `check_finite_rows` if not asked for.
    """
    if not sparse.issparse(rows):
        rows = as_plain(name, rows)
    elif not accept_sparse:
        raise TypeError(
            f"Sparse data was passed for {name}, but dense data is required. Use "
            "'.toarray()' to convert to a dense numpy array."
        )
    else:
        rows = rows.tocsr()
    if rows.ndim == 0:
        raise TypeError(
            f"{name} must be an array of shape (n, {width}). Got "
            f"{described(rows.item())} instead."
        )
    if rows.ndim != 2:
        raise ValueError(
            f"Expected 2D array, got {rows.ndim}D array instead. Reshape your data "
            "either using array.reshape(-1, 1) if your data has a single feature or "
            "array.reshape(1, -1) if it contains a single sample."
        )
    if rows.shape[1] != width:
        raise ValueError(
            f"{name} has {rows.shape[1]} features, but {whose} is expecting {width} "
            "features as input."
        )
    rows = rows.astype(_float_dtype(name, rows.dtype), copy=False)
    if finite:
        check_finite_rows(name, rows.data if sparse.issparse(rows) else rows)
    return rows


def check_finite_rows(name: str, values: np.ndarray) -> None:
    """Refuse values of data that are NaN or infinite."""
    if not all_finite(values):
        found = "NaN" if np.isnan(values).any() else "infinity"
        raise ValueError(f"Input {name} contains {found}.")


def _float_dtype(name: str, dtype: np.dtype) -> np.dtype:
    if dtype.kind not in "fiubO":
        raise ValueError(f"{name} must hold real numbers, got the dtype {dtype}.")
    return dtype if dtype in _FLOATS else np.dtype(np.float64)


def _check_shape(name: str, found: tuple, expected: tuple[int | None, ...]) -> None:
    fits = len(found) == len(expected) and all(
        n > 0 if wanted is None else n == wanted
        for n, wanted in zip(found, expected, strict=True)
    )
    if not fits:
        shape = ", ".join("any" if n is None else str(n) for n in expected)
        raise ValueError(f"{name} must have the shape ({shape}), got {found}.")


def _check_finite(name: str, values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise ValueError(f"{name} has NaN or infinite values.")


class NetworkArrays:
    """The validated arrays of a network; see `SparseFeatureNetwork`.

    What computes with a network is typed on this class, below the public one.
    """

    front: Chain
    encoder_coef_: np.ndarray | sparse.csr_array
    encoder_intercept_: np.ndarray
    encoder_bias_: np.ndarray
    activation: Activation
    coefs_: list[sparse.csr_array]
    intercepts_: list[np.ndarray]
    links: list[str]
    decoder_coef_: np.ndarray | sparse.csr_array
    decoder_intercept_: np.ndarray
    back: Chain
    layer_names_: list[str]
    feature_names_: list[list[str]]
    n_components_: list[int]
    n_weights_: list[int]
    n_weights_in_: int | None
    n_weights_out_: int | None
    n_weights_all_: int
    input_names_: list[str]
    output_names_: list[str]
    feature_names_in_: np.ndarray  # only where names of inputs were given
    classes_: np.ndarray  # only of a classifier
    decision_rule: DecisionRule | None
    n_features_in_: int
    n_outputs_: int
    input_shape: tuple[int, ...] | None = None
    is_compiled = False  # whether calls of any size run compiled loops
    n_calls = 0  # of predictions so far

    def __init__(
        self,
        *,
        front: Chain,
        encoder_coef: Any,
        encoder_intercept: Any,
        encoder_bias: Any,
        activation: Activation,
        coefs: Sequence[Any],
        intercepts: Sequence[Any],
        links: Sequence[str],
        decoder_coef: Any,
        decoder_intercept: Any,
        back: Chain,
        layer_names: Sequence[str],
        feature_names: Sequence[Sequence[str]] | None = None,
        input_names: Sequence[str] | None = None,
        output_names: Sequence[str] | None = None,
        classes: Any = None,
        decision_rule: DecisionRule | None = None,
    ):
        self.front, self.back = as_chain("front", front), as_chain("back", back)
        self.layer_names_ = as_names("layer_names", layer_names)
        if len(set(self.layer_names_)) < len(self.layer_names_):
            raise ValueError(f"layer_names must all differ, got {self.layer_names_}.")
        self.links = as_links(links)
        lengths = len(coefs), len(intercepts), len(self.links)
        if lengths != (len(self.layer_names_) - 1,) * 3:
            raise ValueError(
                "coefs, intercepts and links must have one entry less than the "
                f"{len(self.layer_names_)} layer_names, got {lengths}."
            )

        d_in, d_out = self.front.n_outputs, self.back.n_features_in
        self.encoder_coef_ = as_end("encoder_coef", encoder_coef, None, d_in)
        m = self.encoder_coef_.shape[0]
        self.activation = as_activation(activation, m)
        self.encoder_intercept_ = as_array("encoder_intercept", encoder_intercept, m)
        self.encoder_bias_ = as_array("encoder_bias", encoder_bias, d_in)
        self.coefs_, self.intercepts_ = [], []
        self.n_components_ = [m]
        for i, (coef, intercept) in enumerate(zip(coefs, intercepts, strict=True)):
            self.coefs_.append(as_csr(f"coefs[{i}]", coef, None, m))
            m = self.coefs_[-1].shape[0]
            self.intercepts_.append(as_array(f"intercepts[{i}]", intercept, m))
            self.n_components_.append(m)
        self.decoder_coef_ = as_end("decoder_coef", decoder_coef, m, d_out)
        self.decoder_intercept_ = as_array(
            "decoder_intercept", decoder_intercept, d_out
        )
        self.feature_names_ = as_feature_names(feature_names, self.n_components_)
        self.n_weights_ = [int(coef.nnz) for coef in self.coefs_]
        self.n_weights_in_, self.n_weights_out_ = (
            None if isinstance(coef, np.ndarray) else int(coef.nnz)
            for coef in (self.encoder_coef_, self.decoder_coef_)
        )
        ends = self.encoder_coef_, self.decoder_coef_
        self.n_weights_all_ = (
            self.front.n_weights()
            + sum(self.n_weights_)
            + sum(
                int(np.count_nonzero(end) if isinstance(end, np.ndarray) else end.nnz)
                for end in ends
            )
            + self.back.n_weights()
        )
        self.n_features_in_ = self.front.n_features_in
        self.n_outputs_ = self.back.n_outputs
        self._take_names(input_names, output_names, classes)
        n_classes = 0 if classes is None else len(self.classes_)
        self.decision_rule = as_rule(decision_rule, n_classes)

    def _take_names(self, inputs: Any, outputs: Any, classes: Any) -> None:
        """Set what inputs and outputs are called, and the labels of a classifier."""
        n_inputs, n_outputs = self.n_features_in_, self.n_outputs_
        if inputs is None:
            self.input_names_ = list(Numbered(INPUT_PREFIX, n_inputs))
        else:
            self.input_names_ = as_end_names("input_names", inputs, n_inputs)
            self.feature_names_in_ = np.array(self.input_names_, dtype=object)
        if classes is not None:
            steps = self.back.steps
            if steps and steps[-1].kind in ("softmax", "sigmoid"):
                raise ValueError(
                    f"back must end with the logits where classes are given, got a "
                    f"{steps[-1].kind} as its last step."
                )
            self.classes_ = classes = as_classes(classes, n_outputs)
        self.output_names_ = (
            output_names(n_outputs, classes)
            if outputs is None
            else as_end_names("output_names", outputs, n_outputs)
        )


def as_inputs(
    network: NetworkArrays, X: Any, name: str = "X", *, finite: bool = True
) -> np.ndarray:
    """Check rows of inputs, and the names of their columns if they have any."""
    if type(X) is not np.ndarray and hasattr(network, "feature_names_in_"):
        check_columns(network.feature_names_in_, X)
    width, whose = network.n_features_in_, type(network).__name__
    shape = network.input_shape
    if shape is not None and not sparse.issparse(X):
        X = as_plain(name, X)
        if X.shape[1:] == shape:
            X = X.reshape(len(X), -1)
    return as_rows(name, X, width, whose, finite=finite)


def names_and_classes(network: NetworkArrays) -> dict[str, Any]:
    """Return the constructor's parameters that tell what inputs and outputs are."""
    names = getattr(network, "feature_names_in_", None)
    return {
        "input_names": None if names is None else names.tolist(),
        "output_names": network.output_names_,
        "classes": getattr(network, "classes_", None),
        "decision_rule": network.decision_rule,
    }
