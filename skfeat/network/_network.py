"""The fitted sparse feature network as plain arrays: it predicts without torch."""

from __future__ import annotations

import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy import sparse

from skfeat.kernels._optional import has_numba
from skfeat.network import _file, _predict, _run
from skfeat.network._ablation import Ablation, ablate
from skfeat.network._arrays import NetworkArrays, as_inputs, as_rows, layer_index
from skfeat.network._attribution import Attribution, MeanFlow, attribute, mean_flow
from skfeat.network._compact import compacted, n_decoder_multiply_adds
from skfeat.network._decide import OfClassifiers, decide, probabilities
from skfeat.network._explanation import Explanation, explain
from skfeat.network._explore import Options, explore
from skfeat.network._graph import make_graph
from skfeat.utils._checks import check_flag, check_path

if TYPE_CHECKING:
    import networkx as nx
    from torch import nn

# Few rows and many run other loops.
_COMPILED_FOR = (1, 64)


class SparseFeatureNetwork(NetworkArrays):
    """A neural network rewritten as sparse weights between interpretable features.

    A row x of the data becomes the raw output (the logits, where `back` ends with
    them) by ::

        h = front(x)
        F_0 = activation((h - encoder_bias) @ encoder_coef.T + encoder_intercept)
        F_i = link_i(F_{i-1} @ coefs[i-1].T + intercepts[i-1])
        h' = F_last @ decoder_coef + decoder_intercept
        output = back(h')

    The arrays are copied; they are kept in float32 or float64 as given. Encoder and
    decoder may be sparse: a network that is sparse from its inputs on has an empty
    `front`, a sparse `encoder_coef`, an `encoder_bias` of zeros and the activation
    ``ReLU()``; one that is sparse to its outputs has a sparse `decoder_coef` and an
    empty `back`.

    Parameters
    ----------
    front : Chain
        From the input to the activations h (d_0,) of the first unwrapped layer.
    encoder_coef : array-like or sparse array of shape (m_0, d_0)
        A sparse one stays sparse.
    encoder_intercept : array-like of shape (m_0,)
    encoder_bias : array-like of shape (d_0,)
    activation : ReLU, TopK or JumpReLU
        Of ``skfeat.activations``.
    coefs : list of sparse arrays of shape (m_i, m_{i-1})
        One between each two feature layers. Stored zeros are dropped.
    intercepts : list of array-likes of shape (m_i,)
    links : list of {"relu", "identity"}
    decoder_coef : array-like or sparse array of shape (m_last, d)
        A sparse one stays sparse.
    decoder_intercept : array-like of shape (d,)
    back : Chain
        From the activations h' of the last unwrapped layer to the raw outputs.
    layer_names : list of str
        One for each feature layer, all different.
    feature_names : list of lists of str, default=None
        One list for each layer; None: ``"F1_0", "F1_1", ...`` in the first layer,
        ``"F2_0", ...`` in the second.
    input_names : list of str, default=None
        Names of the columns of X; None: ``"x0", "x1", ...``.
    output_names : list of str, default=None
        None: the classes, or ``"output 0", "output 1", ...``.
    classes : array-like, default=None
        Labels of a classifier, one for each output, which must be logits; two labels
        for a single logit, which is that of the second. None: outputs are values.
    decision_rule : DecisionRule, default=None
        Which of two classes is predicted: ``DecisionRule(0.9)`` means the second one
        where its probability is above 0.9. None: the most likely class.

    Attributes
    ----------
    front, back, activation, links, decision_rule
        As given.
    encoder_coef_, decoder_coef_ : ndarray or csr_array
        A sparse one is canonical and stores no zeros.
    encoder_intercept_, encoder_bias_, decoder_intercept_ : ndarray
    coefs_ : list of csr_array
    intercepts_ : list of ndarray
    layer_names_ : list of str
    feature_names_ : list of lists of str
    input_names_, output_names_ : list of str
        What graphs and attributions call the inputs and the outputs.
    feature_names_in_ : ndarray of shape (n_features_in,)
        Only where `input_names` were given. A data frame must then have these columns
        in this order; arrays, which have no names, are taken as they are.
    classes_ : ndarray of shape (n_classes,)
        Only where `classes` were given.
    n_components_ : list of int
        Features of each layer.
    n_weights_ : list of int
        Nonzero weights of each of `coefs_`, which the ends are not among.
    n_weights_in_, n_weights_out_ : int or None
        Nonzero weights of a sparse encoder and of a sparse decoder; None for a dense
        one.
    n_weights_all_ : int
        Nonzero weights of everything that runs: of `front`, the encoder, `coefs_`, the
        decoder and `back`, dense or sparse.
    n_features_in_, n_outputs_ : int

    Raises
    ------
    ValueError
        If the shapes do not fit together or a value is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy import sparse
    >>> from skfeat.activations import TopK
    >>> from skfeat.chain import Chain, Step
    >>> from skfeat.network import SparseFeatureNetwork
    >>> network = SparseFeatureNetwork(
    ...     front=Chain.from_steps([Step("relu")], n_features_in=2),
    ...     encoder_coef=[[1, 0], [0, 1], [-1, 1]],
    ...     encoder_intercept=[0, 0, 0],
    ...     encoder_bias=[0, 0],
    ...     activation=TopK(1),
    ...     coefs=[sparse.csr_array([[2.0, 0, 0], [0, 0.5, 0]])],
    ...     intercepts=[[0, 1]],
    ...     links=["relu"],
    ...     decoder_coef=[[1], [10]],
    ...     decoder_intercept=[0],
    ...     back=Chain.from_steps([], n_features_in=1),
    ...     layer_names=["fc1", "fc2"],
    ... )
    >>> network
    SparseFeatureNetwork(fc1: 3 features, fc2: 2 features; 2 nonzero weights)
    >>> X = np.array([[3.0, 1.0], [1.0, 4.0]])
    >>> network.predict_raw(X)
    array([[16.],
           [30.]])
    >>> first, second = network.features(X)
    >>> second
    array([[6., 1.],
           [0., 3.]])
    >>> second[:, 0] = 0  # ablate a feature
    >>> network.raw_from_features(second, layer=1)
    array([[10.],
           [30.]])
    >>> network.ablate(X, {"fc2": "F2_0"}).outputs  # the same by name
    array([[10.],
           [30.]])

    What flows along each weight to the output, row by row and on average:

    >>> [network.attribute(X).flow(row, 0).toarray().tolist() for row in (0, 1)]
    [[[6.0, 0.0, 0.0], [0.0, 0.0, 0.0]], [[0.0, 0.0, 0.0], [0.0, 20.0, 0.0]]]
    >>> network.mean_flow(X).edges[0].toarray()
    array([[ 3.,  0.,  0.],
           [ 0., 10.,  0.]])

    What no row needs goes away; the third feature stays, it competes with the others:

    >>> network.compact()
    SparseFeatureNetwork(fc1: 3 features, fc2: 2 features; 2 nonzero weights)
    >>> list(network.to_networkx().edges(data="weight"))
    [(('fc1', 0), ('fc2', 0), 2.0), (('fc1', 1), ('fc2', 1), 0.5)]
    """

    # Writes and reads its files.
    _files: ModuleType = _file

    def __repr__(self) -> str:
        layers = ", ".join(
            f"{name}: {m} features"
            for name, m in zip(self.layer_names_, self.n_components_, strict=True)
        )
        weights = f"{sum(self.n_weights_)} nonzero weights"
        if self.n_weights_in_ is not None:
            weights += f", {self.n_weights_in_} from the inputs"
        if self.n_weights_out_ is not None:
            weights += f", {self.n_weights_out_} to the outputs"
        return f"{type(self).__name__}({layers}; {weights})"

    def predict_raw(self, X: Any) -> np.ndarray:
        """Compute the raw outputs of the rows of X.

        Where numba is installed, compiled loops leave out the features that are
        inactive: in calls that are large enough to be worth compiling them, in all
        after the first eight, and in all after :meth:`compile`. The result is the same
        to rounding.

        Parameters
        ----------
        X : array-like of shape (n, n_features_in)

        Returns
        -------
        outputs : ndarray of shape (n, n_outputs)
            float32 or float64 as X is, float64 for any other X.

        Raises
        ------
        ValueError
            If X is not 2-D and finite, or has another number of features, or if it is
            so large that the outputs are beyond the range of its dtype.
        """
        return _run.predict(self, as_inputs(self, X, finite=False))

    def predict(self, X: Any) -> np.ndarray:
        """Predict the labels of a classifier, or values.

        Parameters
        ----------
        X : array-like of shape (n, n_features_in)
            A data frame must have the columns of `feature_names_in_` in their order.

        Returns
        -------
        ndarray of shape (n,) or (n, n_outputs)
            Labels of `classes_`, if there are any; else the raw outputs, a single one
            as a vector.
        """
        return self.decide(self.predict_raw(X))

    @OfClassifiers
    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probability of each class; only of a classifier.

        Parameters
        ----------
        X : array-like of shape (n, n_features_in)

        Returns
        -------
        ndarray of shape (n, n_classes)
            In the order of `classes_`.
        """
        return probabilities(self.predict_raw(X))

    def decide(self, outputs: np.ndarray) -> np.ndarray:
        """Turn raw outputs, of an ablation for example, into what `predict` returns.

        Parameters
        ----------
        outputs : ndarray of shape (n, n_outputs)

        Returns
        -------
        ndarray of shape (n,) or (n, n_outputs)
        """
        if type(outputs) is not np.ndarray or outputs.shape[1:] != (self.n_outputs_,):
            whose = f"decide of this {type(self).__name__}"
            outputs = as_rows("outputs", outputs, self.n_outputs_, whose)
        classes = getattr(self, "classes_", None)
        return decide(outputs, classes, self.decision_rule)

    def features(self, X: Any) -> list[np.ndarray]:
        """Compute the features of every layer, each from those of the layer before.

        Parameters
        ----------
        X : array-like of shape (n, n_features_in)

        Returns
        -------
        features : list of ndarray of shape (n, m_i)
        """
        X = as_inputs(self, X)
        features = [np.empty((len(X), m), X.dtype) for m in self.n_components_]
        for rows in _predict.blocks(self, len(X)):
            parts = _predict.checked_features(self, X[rows])
            for whole, part in zip(features, parts, strict=True):
                whole[rows] = part
        return features

    def raw_from_features(self, F: Any, layer: int | str = 0) -> np.ndarray:
        """Continue from the features of one layer, changed at will, to the outputs.

        Parameters
        ----------
        F : array-like or sparse array of shape (n, m_layer)
        layer : int or str, default=0
            Position of the layer, -1 is the last; or a name in `layer_names_`.

        Returns
        -------
        outputs : ndarray of shape (n, n_outputs)
        """
        names = self.layer_names_
        at = layer_index(names, layer)
        whose = f"layer {names[at]!r} of {type(self).__name__}"
        F = as_rows("F", F, self.n_components_[at], whose, accept_sparse=True)
        outputs = np.empty((F.shape[0], self.n_outputs_), F.dtype)
        for rows in _predict.blocks(self, F.shape[0]):
            block = F[rows].toarray() if sparse.issparse(F) else F[rows]
            outputs[rows] = _predict.continue_checked(self, block, at)
        return outputs

    def attribute(
        self, X: Any, output: Any = None, *, inputs: bool = False
    ) -> Attribution:
        """Split an output of each row into what features, weights and biases bring.

        With the features that are active on a row the network is linear, so the split
        is exact: at every layer the parts add up to the output.

        Parameters
        ----------
        X : array-like of shape (n, n_features_in)
            Everything is computed in its precision.
        output : int or array-like of int of shape (n,), default=None
            Which output, of all rows or of each. ``None``: the largest of each row,
            whatever heads the outputs are of.
        inputs : bool, default=False
            Go on through `front`, to the inputs.

        Returns
        -------
        attribution : Attribution
            With the arrays `value` (n,), `features` (one of (n, m_i) a layer),
            `edges` (one of (n, nnz) a connector, CSR), `biases`, `output_bias`, and
            the methods ``total(layer)`` and ``flow(row, connector)``.

        Raises
        ------
        ValueError
            If `back` (or `front`, which only `inputs` needs) has a step that is
            curved, as a tanh, a layer norm or a product of branches, or if there is no
            such output.

        Examples
        --------
        >>> from skfeat.chain import Chain
        >>> from skfeat.activations import ReLU
        >>> from skfeat.network import SparseFeatureNetwork
        >>> network = SparseFeatureNetwork(
        ...     front=Chain.from_steps([], n_features_in=2),
        ...     encoder_coef=[[1, 0], [0, 1]],
        ...     encoder_intercept=[0, 0],
        ...     encoder_bias=[0, 0],
        ...     activation=ReLU(),
        ...     coefs=[[[2, -1], [0, 3]]],
        ...     intercepts=[[0.5, 0]],
        ...     links=["relu"],
        ...     decoder_coef=[[1], [10]],
        ...     decoder_intercept=[0.25],
        ...     back=Chain.from_steps([], n_features_in=1),
        ...     layer_names=["fc1", "fc2"],
        ... )
        >>> parts = network.attribute([[3.0, 1.0]])
        >>> parts.value, parts.features[0], parts.features[1]
        (array([35.75]), array([[ 6., 29.]]), array([[ 5.5, 30. ]]))
        >>> parts.flow(0, 0).toarray()
        array([[ 6., -1.],
               [ 0., 30.]])
        >>> parts.total(0), parts.total(1)
        (array([35.75]), array([35.75]))
        """
        return attribute(self, X, output, inputs)

    def explain(self, x: Any, output: int | str | None = None) -> Explanation:
        """Explain one output of one row by its inputs and features.

        It is :meth:`attribute` of that row as a small table, beside which
        ``FeatureUnwrapper.explain`` has the output of the model itself.

        Parameters
        ----------
        x : array-like of shape (n_features_in,) or (1, n_features_in)
            The row.
        output : int or str, default=None
            Which output: a column of the raw outputs, or its name. ``None``: the class
            that is predicted, or the only output; of several values, the largest.

        Returns
        -------
        explanation : Explanation
            Inputs are among its parts unless `front` is curved.

        Raises
        ------
        ValueError
            If x is not one row, if there is no such output, or if `back` has a step
            that is curved; see :meth:`attribute`.
        """
        return explain(self, x, output)

    def explore(
        self,
        X: Any,
        y: Any = None,
        path: str | os.PathLike[str] = "explorer.html",
        *,
        output: int | str | None = None,
        image_shape: tuple[int, int] | None = None,
        n_rows: int = 24,
        n_examples: int = 6,
        random_state: Any = 0,
    ) -> Path:
        """Write one HTML file to look around in the network with a browser.

        It shows the graph of the network and of single rows, and a page for each
        feature: the rows on which it fires, how often and how strongly, the weights
        that lead to it and from it, and what changes without it. The file holds all
        that it needs, and loads nothing.

        Parameters
        ----------
        X : array-like of shape (n, n_features_in)
            Rows to show features by, some thousand at best. All are encoded;
            contributions and ablations are averaged over 500 of them at most.
        y : array-like of shape (n,), default=None
            Labels of the rows, to be shown beside them.
        path : str or path-like, default="explorer.html"
            The file, overwritten if it exists.
        output : int or str, default=None
            The output that contributions are to: a column or its name. ``None``: the
            class that is predicted for each row, or the largest output.
        image_shape : tuple of int (height, width), default=None
            Shape of a row as a grey image; ``None``: rows are rows of a table.
        n_rows : int, default=24
            Rows drawn at random that have a graph of their own.
        n_examples : int, default=6
            Rows by which each feature is shown: so many of the strongest, and one from
            each of so many levels of its activation. Fewer where the file would become
            large.
        random_state : int, RandomState instance or None, default=0
            Determines the rows that are drawn.

        Returns
        -------
        path : pathlib.Path
            The file.

        Raises
        ------
        ValueError
            If a parameter is not valid, or the folder of the file does not exist.

        Notes
        -----
        Where the network is curved between the last features and the outputs (see
        :meth:`attribute`), edges show weight times activation in place of
        contributions. ``FeatureUnwrapper.explore`` also shows the logic of features,
        and what the model itself gives.
        """
        options = Options(
            title="A network of features",
            output=output,
            image_shape=image_shape,
            n_rows=n_rows,
            n_examples=n_examples,
            random_state=random_state,
        )
        return explore(self, X, y, path, options)

    def mean_flow(
        self, X: Any, output: Any = None, *, inputs: bool = False
    ) -> MeanFlow:
        """Average the magnitudes of what :meth:`attribute` gives, block by block.

        Parameters
        ----------
        X : array-like of shape (n, n_features_in)
        output : int or array-like of int of shape (n,), default=None
            As of :meth:`attribute`.
        inputs : bool, default=False
            Go on through `front`, to the inputs.

        Returns
        -------
        flow : MeanFlow
            With `features` (one of (m_i,) a layer), `edges` (one a connector, CSR of
            the shape of `coefs_`), `to_outputs` (n_outputs, m_last) and, if asked for,
            `inputs` (n_features_in,) and `input_edges` (m_0, n_features_in).
        """
        return mean_flow(self, X, output, inputs)

    def ablate(
        self, X: Any, features: Any, *, value: Any = "zero", reference: Any = None
    ) -> Ablation:
        """Predict with some features held at a value and all after them recomputed.

        Parameters
        ----------
        X : array-like of shape (n, n_features_in)
        features : str, tuple, list of them, or dict
            Names of features; pairs (layer, feature); or a dict from layers to a
            feature or a list of features. A layer goes by its name or position, a
            feature by its name or index.
        value : {"zero", "mean"} or float, default="zero"
            What they are held at; "mean": each at the mean of what the network itself
            computes for it.
        reference : array-like of shape (n_reference, n_features_in), default=None
            Rows to take the means over; ``None``: X.

        Returns
        -------
        ablation : Ablation
            With the arrays `outputs` (n, n_outputs) and `effects`, which is `outputs`
            less the network's own, and the dict `values`.

        Raises
        ------
        ValueError
            If there is no such layer or feature, or no such value.
        """
        return ablate(self, X, features, value, reference)

    def n_multiply_adds(self, compact: bool = False) -> int:
        """Count the multiply-adds a row costs, or would cost after :meth:`compact`.

        Whatever is sparse costs its nonzero weights, a dense encoder all of them. Of
        the decoder only the features count that are not zero whatever the input.

        Parameters
        ----------
        compact : bool, default=False
            Count those of the compacted network.

        Returns
        -------
        int
        """
        if check_flag("compact", compact):
            return self.compact().n_multiply_adds()
        return (
            self.front.n_multiply_adds()
            + self.encoder_coef_.size  # of a sparse array: its nonzeros
            + sum(self.n_weights_)
            + n_decoder_multiply_adds(self)
            + self.back.n_multiply_adds()
        )

    def compile(self) -> Self:
        """Compile what predicts now, not after the first calls.

        One row then takes a quarter of the time. Large calls, and the ninth of any
        size, compile without being told. Compiling takes some ten seconds, and one or
        two in later processes: numba keeps the loops in the folder that
        `NUMBA_CACHE_DIR` names, by default beside the installed modules. They are those
        for rows of the precision of the weights. Files, and other networks that are
        made from this one,
        do not keep that it was done.

        Returns
        -------
        self : SparseFeatureNetwork

        Raises
        ------
        ImportError
            If numba is not installed.
        """
        if not has_numba():
            raise ImportError(
                "compile needs numba, without which nothing is compiled; install it "
                "with pip install 'skfeat[fast]'."
            )
        self.is_compiled = True
        for n_rows in _COMPILED_FOR:
            rows = np.zeros((n_rows, self.n_features_in_), self.decoder_coef_.dtype)
            self.predict_raw(rows)
        return self

    def compact(self) -> SparseFeatureNetwork:
        """Make the network that computes the same without the features nothing reads.

        A feature that no weight leads to is the same for every row: it moves into the
        intercepts of what reads it. A feature that no kept feature reads is dropped.
        Not so in the first layer where features compete for the places of
        :class:`TopK`: there all stay. Each layer keeps at least one feature. The inputs
        stay as they are, also those that nothing reads. A dense decoder and a linear
        layer that follows it become one where that costs less.

        Returns
        -------
        network : SparseFeatureNetwork
            Features keep their names, in `feature_names_`.
        """
        return type(self)(**compacted(self))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to one ``.npz`` file, all of it or none.

        The file keeps the classes and all names too: what is loaded from it predicts
        the same labels, and refuses the same data frames.

        Parameters
        ----------
        path : str or path-like
            Taken as it is, whatever its extension.

        Raises
        ------
        OSError
            If the file cannot be written; one that was there before is then kept.
        ValueError
            If a class is neither a string nor a number or bool.
        """
        self._files.write(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SparseFeatureNetwork:
        """Read what :meth:`save` wrote; nothing in the file is ever executed.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        network : SparseFeatureNetwork

        Raises
        ------
        ValueError
            If the file is broken, of another kind or of another format version.
        """
        with open(check_path("path", path), "rb") as file:
            try:
                return cls(**cls._files.read(file))
            except Exception as error:  # a hostile file may provoke any
                told = str(error).rstrip(".")
                if not isinstance(error, ValueError):
                    kind = type(error).__name__
                    told = f"it is damaged, or no file of a network ({kind}: {told})"
                raise ValueError(
                    f"Cannot read a {cls.__name__} from {os.fspath(path)!r}: {told}."
                ) from error

    def to_torch(self) -> nn.Module:
        """Make a torch module that computes the same, to train or to differentiate.

        Every array becomes a parameter, of float64 if any array is. All weights are
        dense: to keep them sparse in training, mask them.

        Returns
        -------
        module : torch.nn.Module
            Takes a tensor (n, n_features_in), returns the raw outputs, of a classifier
            the logits: `decide` turns these into labels.
        """
        from skfeat.network._torch import NetworkModule

        return NetworkModule(self)

    def to_onnx(self, path: str | os.PathLike[str]) -> None:
        """Write the whole network to an ONNX file, for other runtimes and languages.

        It computes in float32, whatever the network's arrays are, and has the branches
        of `front` and `back` as they are. All weights are
        dense there: :meth:`compact` first makes a smaller and faster file.

        Parameters
        ----------
        path : str or path-like
            The input is called ``"X"``, of shape (n, n_features_in) with any n, the
            output, which is the raw one, ``"outputs"``. The file's metadata have, in
            JSON, ``input_names``, ``output_names`` and, of a classifier, ``classes``
            and ``decision_rule``: null or a threshold, the class whose probability is
            compared with it and whether one that equals it is enough.

        Raises
        ------
        ImportError
            If onnx is not installed.
        """
        from skfeat.network._onnx import write

        write(self, path)

    def to_networkx(self, all_features: bool = False) -> nx.DiGraph:
        """Make a directed graph of the features and the nonzero weights between them.

        Parameters
        ----------
        all_features : bool, default=False
            Keep features without an edge too.

        Returns
        -------
        graph : networkx.DiGraph
            Nodes (layer name, index) with the attributes ``layer`` (its position),
            ``index``, ``bias`` (the intercept) and ``feature_name``; edges with
            ``weight``. Where the encoder is sparse, what it reads are the nodes
            ("input", index), ``layer`` -1, ``bias`` what is added before it is read;
            where the decoder is, what it gives are the nodes ("output", index). Their
            ``feature_name`` is that of the input or output.

        Raises
        ------
        ValueError
            If a layer has the name of such an end.
        ImportError
            If networkx is not installed.
        """
        return make_graph(self, check_flag("all_features", all_features))
