"""A network of features of maps, whose weights are shared by positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse

from skfeat.activations import Activation, JumpReLU, ReLU, TopK
from skfeat.chain import Chain, Step
from skfeat.chain._kinds import Window
from skfeat.maps._reads import Reads
from skfeat.network import _map_file
from skfeat.network._arrays import as_activation, as_array, as_csr, as_end
from skfeat.network._compact import compacted
from skfeat.network._network import SparseFeatureNetwork
from skfeat.utils._names import INPUT_PREFIX, feature_prefix

if TYPE_CHECKING:
    from torch import nn


class SparseMapNetwork(SparseFeatureNetwork):
    """A convolutional network rewritten as sparse weights between features of maps.

    Features of a layer are the same at every position of its map, and so are the
    weights that lead to them: a sparse convolution. These shared weights are what is
    given, counted and saved. Everything that :class:`SparseFeatureNetwork` does runs on
    them written out for each position: its ``features``, attributions and ablations
    have a column for each feature at each position, those of the first position first,
    named ``"F1_3[2,5]"``: feature 3 of the first layer, in row 2 and column 5. Inputs
    without names of their own are called likewise, ``"x0[2,5]"`` in the first channel.

    A :class:`skfeat.FeatureUnwrapper` of a convolutional model makes one.

    Parameters
    ----------
    front : Chain
        From the inputs, in rows channel by channel, to the first maps.
    encoder_coef : array-like of shape (m_0, n_channels) or sparse matrix
        Reads the channels of a position; with `reads_in`, a sparse matrix
        (m_0, n_places * n_channels) that reads patches of the inputs.
    encoder_intercept : array-like of shape (m_0,)
    encoder_bias : array-like of shape (n_channels,)
        Subtracted before encoding.
    activation : ReLU, TopK or JumpReLU
        Of the features of a position.
    coefs : sequence of sparse matrices, (m_i, n_places * m_{i-1}) each
    intercepts : sequence of array-like, (m_i,) each
    links : sequence of {"relu", "identity"}
    decoder_coef : array-like of shape (m_last, n_channels) or sparse matrix
        Decodes a position; with `reads_out`, a sparse matrix
        (n_places * m_last, n_outputs) that gives the outputs.
    decoder_intercept : array-like of shape (n_channels,) or (n_outputs,)
    back : Chain
        From the last maps, channel by channel, to the outputs.
    layer_names : sequence of str
    map_shapes : sequence of tuple of int
        The height and width of each layer's maps; (1, 1) of a layer of rows.
    reads : sequence of Reads
        What each of `coefs` reads.
    reads_in, reads_out : Reads, default=None
        What the first connector reads of the inputs, and the last of the features.
    input_shape : tuple of int, default=None
        Such as (channels, height, width): X may have that shape too.
    **names : dict
        `input_names`, `output_names`, `classes` and the like, as
        :class:`SparseFeatureNetwork` takes them.

    Attributes
    ----------
    shared_coefs_ : list of csr_array
        As given; `coefs_` are these written out for each position.
    n_shared_components_ : list of int
        Features of each layer at a position.
    n_weights_ : list of int
        Nonzero weights of each of `shared_coefs_`.
    n_weights_all_ : int
        Nonzero weights of everything that runs, each shared one counted once.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from torch import nn
    >>> from torch import manual_seed
    >>> from skfeat import FeatureUnwrapper, SparseAutoencoder
    >>> X, y = load_digits(return_X_y=True)
    >>> X = X.reshape(-1, 1, 8, 8)[:300] / 16
    >>> _ = manual_seed(0)
    >>> model = nn.Sequential(
    ...     nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    ...     nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
    ...     nn.Flatten(), nn.Linear(32, 10),
    ... )
    >>> part = SparseAutoencoder(4, k=2)
    >>> unwrapper = FeatureUnwrapper(
    ...     model, autoencoder=part, n_nonzero_coefs=20, random_state=0
    ... ).fit(X)
    >>> network = unwrapper.network()
    >>> network.map_shapes
    [(4, 4), (2, 2)]
    >>> network.n_shared_components_, network.n_weights_
    ([4, 4], [20])
    >>> network.features(X)[0].shape
    (300, 64)
    """

    _files = _map_file

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
        map_shapes: Sequence[tuple[int, int]],
        reads: Sequence[Reads],
        reads_in: Reads | None = None,
        reads_out: Reads | None = None,
        input_shape: Sequence[int] | None = None,
        **names: Any,
    ):
        self.map_shapes = [(int(height), int(width)) for height, width in map_shapes]
        self.reads, self.reads_in, self.reads_out = list(reads), reads_in, reads_out
        self.input_shape = (
            None if input_shape is None else tuple(int(size) for size in input_shape)
        )
        n_positions = [height * width for height, width in self.map_shapes]
        self._share_encoder(encoder_coef, encoder_intercept, encoder_bias, activation)
        self._share_connectors(coefs, intercepts)
        self.shared_decoder_coef_ = as_end("decoder_coef", decoder_coef, None, None)
        self.shared_decoder_intercept_ = as_array(
            "decoder_intercept", decoder_intercept, None
        )
        widths = self.n_shared_components_
        is_series = self.input_shape is not None and len(self.input_shape) == 2
        self._is_series = bool(is_series)
        if names.get("feature_names") is None:
            names["feature_names"] = [
                _position_names(feature_prefix(i), m, shape, self._is_series)
                for i, (m, shape) in enumerate(
                    zip(widths, self.map_shapes, strict=True)
                )
            ]
        super().__init__(
            front=front,
            encoder_coef=self._unrolled_encoder(n_positions[0]),
            encoder_intercept=np.tile(self.shared_encoder_intercept_, n_positions[0]),
            encoder_bias=np.repeat(
                self.shared_encoder_bias_,
                n_positions[0] if reads_in is None else reads_in.n_positions_in,
            ),
            activation=_of_positions(self.shared_activation, widths[0], n_positions[0]),
            coefs=[
                own.unroll(coef)
                for own, coef in zip(self.reads, self.shared_coefs_, strict=True)
            ],
            intercepts=[
                np.tile(intercept, n)
                for intercept, n in zip(
                    self.shared_intercepts_, n_positions[1:], strict=True
                )
            ],
            links=links,
            decoder_coef=self._unrolled_decoder(n_positions[-1]),
            decoder_intercept=self.shared_decoder_intercept_
            if reads_out is not None
            else np.repeat(self.shared_decoder_intercept_, n_positions[-1]),
            back=back,
            layer_names=layer_names,
            **names,
        )
        if names.get("input_names") is None and self.input_shape is not None:
            self.input_names_ = _input_names(self.input_shape)
        self._count_weights()

    def _share_encoder(
        self, coef: Any, intercept: Any, bias: Any, activation: Activation
    ) -> None:
        self.shared_encoder_coef_ = as_end("encoder_coef", coef, None, None)
        self.shared_encoder_intercept_ = as_array("encoder_intercept", intercept, None)
        self.shared_encoder_bias_ = as_array("encoder_bias", bias, None)
        n_features = len(self.shared_encoder_intercept_)
        self.shared_activation = as_activation(activation, n_features)

    def _share_connectors(self, coefs: Sequence[Any], intercepts: Sequence[Any]):
        widths = [len(self.shared_encoder_intercept_)]
        self.shared_coefs_, self.shared_intercepts_ = [], []
        for i, (coef, intercept) in enumerate(zip(coefs, intercepts, strict=True)):
            n_read = self.reads[i].n_places * widths[-1]
            self.shared_coefs_.append(as_csr(f"coefs[{i}]", coef, None, n_read))
            widths.append(self.shared_coefs_[-1].shape[0])
            self.shared_intercepts_.append(
                as_array(f"intercepts[{i}]", intercept, widths[-1])
            )
        self.n_shared_components_ = widths

    def _count_weights(self) -> None:
        """Count weights that positions share once."""
        self.n_weights_ = [int(coef.nnz) for coef in self.shared_coefs_]
        ends = self.shared_encoder_coef_, self.shared_decoder_coef_
        counts = [_n_nonzero(end) for end in ends]
        self.n_weights_in_ = None if self.reads_in is None else counts[0]
        self.n_weights_out_ = None if self.reads_out is None else counts[1]
        kept = self.front.n_weights(), self.back.n_weights()
        self.n_weights_all_ = sum((*kept, *self.n_weights_, *counts))

    def _unrolled_encoder(self, n_positions: int) -> np.ndarray | sparse.csr_array:
        coef = self.shared_encoder_coef_
        if self.reads_in is not None:
            n_channels = coef.shape[1] // self.reads_in.n_places
            columns = _by_channel(n_channels, self.reads_in.n_positions_in)
            return self.reads_in.unroll(coef)[:, columns]
        if n_positions == 1:
            return coef
        each = sparse.csr_array(sparse.kron(sparse.eye_array(n_positions), coef))
        return each[:, _by_channel(coef.shape[1], n_positions)].astype(coef.dtype)

    def _unrolled_decoder(self, n_positions: int) -> np.ndarray | sparse.csr_array:
        coef = self.shared_decoder_coef_
        if self.reads_out is not None:
            return sparse.csr_array(self.reads_out.unroll(coef.T).T)
        if n_positions == 1:
            return coef
        each = sparse.csr_array(sparse.kron(sparse.eye_array(n_positions), coef))
        return each[:, _by_channel(coef.shape[1], n_positions)].astype(coef.dtype)

    def n_multiply_adds(self, compact: bool = False) -> int:
        """Count the multiply-adds a row costs, or would cost after :meth:`compact`.

        A shared weight costs one at each position.

        Parameters
        ----------
        compact : bool, default=False
            Count those of the compacted network.

        Returns
        -------
        int
        """
        if compact:
            return self.compact().n_multiply_adds()
        own = sum(coef.nnz for coef in self.coefs_) - sum(self.n_weights_)
        return super().n_multiply_adds() + int(own)

    def compact(self) -> SparseFeatureNetwork:
        """Make the network that computes the same without what nothing reads.

        Its weights are written out for each position, of which some may read less than
        others: those at the border of a map.

        Returns
        -------
        network : SparseFeatureNetwork
            Features keep their names, in `feature_names_`.
        """
        return SparseFeatureNetwork(**compacted(self))

    def to_torch(self) -> nn.Module:
        """Make a torch module that computes the same by convolutions.

        Every array becomes a parameter, of float64 if any array is. Kernels are dense:
        to keep them sparse in training, mask them.

        Returns
        -------
        module : torch.nn.Module
            Takes a tensor (n, n_features_in) or of maps, returns the raw outputs.
        """
        from skfeat.network._map_torch import MapNetworkModule

        return MapNetworkModule(self)

    def convolutions(self) -> tuple[list[Step], list[Step]]:
        """Return the network as steps on maps, before and after its activation.

        Returns
        -------
        before, after : list of Step
            Rows between them have the features channel by channel.
        """
        n_features, maps = self.n_shared_components_, self.map_shapes
        steps = list(self.front.steps)
        coef, bias = self.shared_encoder_coef_, self.shared_encoder_bias_
        shape = maps[0]
        reads = self.reads_in
        dense = coef if isinstance(coef, np.ndarray) else coef.toarray()
        intercept = self.shared_encoder_intercept_
        if reads is None:
            intercept = intercept - dense @ bias
            steps.append(_each_position(dense, intercept, shape, len(bias)))
        else:
            steps += _connector_steps(reads, coef, intercept, len(bias))
        after = []
        for i, (own, coef, intercept) in enumerate(
            zip(self.reads, self.shared_coefs_, self.shared_intercepts_, strict=True)
        ):
            after += _connector_steps(own, coef, intercept, n_features[i])
            if self.links[i] == "relu":
                after.append(Step("relu"))
        decoder, intercept = self.shared_decoder_coef_, self.shared_decoder_intercept_
        if self.reads_out is None:
            after.append(_each_position(decoder.T, intercept, maps[-1], n_features[-1]))
        else:
            after += _connector_steps(
                self.reads_out, decoder.T, intercept, n_features[-1]
            )
        return steps, [*after, *self.back.steps]


def _by_channel(n_channels: int, n_positions: int) -> np.ndarray:
    """Return the columns, counted by position, of rows counted by channel."""
    columns = np.arange(n_channels * n_positions).reshape(n_positions, n_channels)
    return columns.T.ravel()


def _of_positions(activation: Activation, m: int, n_positions: int) -> Activation:
    """Return the activation of the features of all positions."""
    if isinstance(activation, TopK):
        return TopK(activation.k, n_positions) if activation.k < m else ReLU()
    if isinstance(activation, JumpReLU):
        return JumpReLU(np.tile(activation.threshold, n_positions))
    return activation


def _position_names(
    prefix: str, m: int, shape: tuple[int, int], is_series: bool
) -> list[str]:
    names = [f"{prefix}{j}" for j in range(m)]
    if shape == (1, 1):
        return names
    places = [
        f"[{x}]" if is_series else f"[{y},{x}]"
        for y in range(shape[0])
        for x in range(shape[1])
    ]
    return [f"{name}{place}" for place in places for name in names]


def _input_names(input_shape: tuple[int, ...]) -> list[str]:
    """Name inputs by channel and place, such as "x0[3,7]" or, of series, "x0[12]"."""
    channels, *sizes = input_shape
    places = [",".join(map(str, place)) for place in np.ndindex(*sizes)]
    return [f"{INPUT_PREFIX}{c}[{place}]" for c in range(channels) for place in places]


def _n_nonzero(coef: Any) -> int:
    return int(coef.nnz if sparse.issparse(coef) else np.count_nonzero(coef))


def _each_position(
    coef: np.ndarray, intercept: np.ndarray, shape: tuple[int, int], n_in: int
) -> Step:
    """Make the convolution of a kernel of one position."""
    one, none = (1, 1), (0, 0)
    window = Window(n_in, shape, one, one, one, none, none)
    arrays = {"coef": np.ascontiguousarray(coef), "intercept": intercept}
    return Step("conv", "", arrays, window.settings(groups=1))


def _connector_steps(
    reads: Reads, coef: Any, intercept: np.ndarray, n_in: int
) -> list[Step]:
    """Make the steps of a connector, on rows channel by channel."""
    patches = reads.patches
    size: Any = patches.map_shape
    if reads.is_mean:
        none = (0, 0)
        window = Window(n_in, size, size, size, (1, 1), none, none)
        mean = Step("mean_pool", "", {}, window.settings(counts_padding=1))
        dense = coef.toarray() if sparse.issparse(coef) else coef
        return [mean, _each_position(dense, intercept, (1, 1), n_in)]
    kernel, stride, padding, dilation = (
        patches.kernel_size,
        patches.stride,
        patches.padding,
        patches.dilation,
    )
    window = Window(n_in, size, kernel, stride, dilation, padding, padding)  # type: ignore[arg-type]
    kernels = patches.kernels(coef)
    arrays = {"coef": kernels.reshape(len(kernels), -1), "intercept": intercept}
    return [Step("conv", "", arrays, window.settings(groups=1))]
