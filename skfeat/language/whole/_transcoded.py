"""Where the features of a layer start: as those of a transcoder of its MLP.

Each feature of the input then leads to one of the output, by one weight, and training
finds the others and what both features reconstruct. Between autoencoders that are
fitted apart no few weights do what the MLP does, so that pruning loses much more.
"""

from __future__ import annotations

from itertools import chain, islice, repeat
from typing import Any, NamedTuple

import numpy as np
import torch

from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.autoencoder._transcoder import Transcoder
from skfeat.language._pair_codes import sparse_codes
from skfeat.language.whole._one_cycle_adam import OneCycleAdam
from skfeat.language.whole._trained import TrainedPair
from skfeat.solvers.joint._start import dense_start
from skfeat.utils._torch import make_generator, shuffled_batches

# Updates of a pair before all layers are trained together, and the rows of each.
_UPDATES, _ROWS = 128, 512
# What the errors of the autoencoders count beside that of the output.
_FAITHFULNESS = 0.5


class PairStart(NamedTuple):
    """Two autoencoders with the features of a transcoder, and the weights between them.

    Attributes
    ----------
    read, computed : SparseAutoencoder
    coef : ndarray of shape (m, m)
    intercept : ndarray of shape (m,)
    """

    read: SparseAutoencoder
    computed: SparseAutoencoder
    coef: np.ndarray
    intercept: np.ndarray


def may_share_features(read: Any, computed: Any, widths: tuple[int, int]) -> bool:
    """Tell whether two autoencoders that are not fitted can start from a transcoder.

    Parameters
    ----------
    read, computed : SparseAutoencoder
    widths : tuple of int
        Of the rows that the MLP reads, and of those that it computes.
    """
    return (
        read.activation == computed.activation == "topk"
        and not read.tied
        and read._width(widths[0]) == computed._width(widths[1])
    )


def transcoder_like(autoencoder: SparseAutoencoder) -> Transcoder:
    """Return a transcoder, not fitted, with the parameters of an autoencoder."""
    own = Transcoder()
    params = autoencoder.get_params()
    return own.set_params(
        **{name: params[name] for name in own.get_params() if name in params}
    )


def start_of_pair(
    transcoder: Transcoder,
    read: SparseAutoencoder,
    computed: SparseAutoencoder,
    X: np.ndarray,
) -> PairStart:
    """Give autoencoders of an MLP's input and output the features of a transcoder.

    Parameters
    ----------
    transcoder : Transcoder
        Fitted.
    read, computed : SparseAutoencoder
        Not fitted; they become so.
    X : ndarray of shape (n, d)
        Some rows that the MLP reads.
    """
    encoder, directions = transcoder.encoder_coef_, transcoder.components_
    _fill(
        computed,
        transcoder,
        encoder_coef_=directions,
        encoder_intercept_=np.zeros(len(directions)),
        components_=directions,
        intercept_=transcoder.intercept_,
    )
    _fill(
        read,
        transcoder,
        encoder_coef_=encoder,
        encoder_intercept_=transcoder.encoder_intercept_,
        components_=encoder,
        intercept_=np.zeros(encoder.shape[1]),
    )
    n = len(X)
    decoder, bias = dense_start(
        sparse_codes(read, X), X, np.full(n, 1 / n), encoder.size, fit_intercept=True
    )
    # A feature that fires in none of the rows keeps the direction that it looks for.
    fires = np.linalg.norm(decoder, axis=0) > 0
    decoder = np.where(fires[:, None], decoder.T, encoder)
    norms = np.linalg.norm(decoder, axis=1)
    # One scale for all codes, as others would change which are among the top k.
    scale = float(np.median(norms))
    _fill(
        read,
        transcoder,
        encoder_coef_=encoder * scale,
        encoder_intercept_=(transcoder.encoder_intercept_ + encoder @ bias) * scale,
        components_=decoder / norms[:, None],
        intercept_=bias,
    )
    m = len(encoder)
    return PairStart(read, computed, np.eye(m) / scale, np.zeros(m))


def train_alone(
    pair: TrainedPair,
    rows: tuple[np.ndarray, np.ndarray],
    learning_rate: float,
    seed: int,
) -> None:
    """Train the parts of a pair on rows; no weight is added between features.

    Parameters
    ----------
    pair : TrainedPair
    rows : tuple of ndarray (n, d) and (n, d_out)
        Those that its MLP reads and computes.
    learning_rate : float
        The largest, of weights between features.
    seed : int
    """
    X, Y = (torch.from_numpy(part).to(pair.device) for part in rows)
    updates = OneCycleAdam([pair], learning_rate, _UPDATES)
    generator, support = make_generator(seed), pair.coef.detach() != 0
    epochs = (shuffled_batches(len(X), _ROWS, generator) for _ in repeat(None))
    for chosen in islice(chain.from_iterable(epochs), _UPDATES):
        x, y = X[chosen], Y[chosen]
        error = pair.output_error(pair(x), y) + pair.sparsity.loss()
        updates.take_gradients(error + _FAITHFULNESS * pair.reconstruction_error(x, y))
        assert pair.coef.grad is not None  # `backward` has run
        pair.coef.grad *= support
        updates.make()


def _fill(autoencoder: SparseAutoencoder, transcoder: Transcoder, **arrays) -> None:
    """Make an autoencoder fitted by arrays."""
    dtype = transcoder.components_.dtype
    autoencoder.n_features_in_ = arrays["components_"].shape[1]
    autoencoder.n_iter_, autoencoder.n_steps_ = transcoder.n_iter_, transcoder.n_steps_
    autoencoder.loss_curve_ = transcoder.loss_curve_
    autoencoder.feature_density_ = transcoder.feature_density_
    k = min(int(autoencoder.k), len(arrays["components_"]))
    autoencoder._take_over(
        {name: np.array(array, dtype=dtype) for name, array in arrays.items()},
        ("topk", k),
        "has the features of a transcoder",
    )
