"""The fit of one MLP's replacement after another, each on what the earlier ones leave.

The rows of a layer are those that the model computes with all earlier MLPs replaced:
what the layer will read when the whole model is replaced, and what its MLP makes of it.
"""

from __future__ import annotations

from copy import copy
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.base import clone

from skfeat._fitting import check_ends, check_width, fit_part
from skfeat.autoencoder._joint import coder_of, with_coder
from skfeat.autoencoder._sparse_autoencoder import SparseAutoencoder
from skfeat.autoencoder._transcoder import Transcoder
from skfeat.connector._base import BaseConnector
from skfeat.connector._feature_connector import FeatureConnector
from skfeat.connector._joint import connection_of, with_weights
from skfeat.kernels._threads import Team
from skfeat.language._pair_codes import sparse_codes
from skfeat.language.whole._feature_mlp import FeatureMLP, Layer
from skfeat.language.whole._slots import Batch, SlottedModel
from skfeat.language.whole._train import Settings
from skfeat.language.whole._trained import Trained, TrainedPair, TrainedTranscoder
from skfeat.language.whole._transcoded import (
    PairStart,
    may_share_features,
    start_of_pair,
    train_alone,
    transcoder_like,
)
from skfeat.utils._frozen import frozen_part, is_frozen
from skfeat.utils._progress import Share

# Rows that a trained part takes its units and its start from.
_START_ROWS = 16_384


class LayerParts:
    """The estimators of one layer before they are fitted, and which are frozen.

    Either `transcoder` is given, or the three others.
    """

    input_autoencoder: Any
    output_autoencoder: Any
    connector: Any
    transcoder: Any

    def __init__(self, index: int, seeds: list[int], params: dict[str, Any]):
        self.index = index
        self.start: PairStart | None = None
        self.n_fits = 0
        self.frozen: dict[str, bool] = {}
        given = {name: _of_layer(value, index) for name, value in params.items()}
        self.transcoder = None
        kinds: dict[str, tuple[type, type]] = {
            "input_autoencoder": (SparseAutoencoder, SparseAutoencoder),
            "output_autoencoder": (SparseAutoencoder, SparseAutoencoder),
            "connector": (FeatureConnector, BaseConnector),
        }
        if given["transcoder"] is not None:
            kinds = {"transcoder": (Transcoder, Transcoder)}
        for (name, (kind, frozen_kind)), seed in zip(
            kinds.items(), seeds, strict=False
        ):
            part = given[name]
            self.frozen[name] = is_frozen(part)
            if part is None:
                part = _default(name)
            if not self.frozen[name] and not isinstance(part, kind):
                raise ValueError(
                    f"The {name!r} parameter must be a {kind.__name__} or a list of "
                    f"them, of which fitted ones may be in a FrozenEstimator. Got "
                    f"{part!r} instead."
                )
            if self.frozen[name]:
                part = frozen_part(part, f"{name}[{index}]", frozen_kind, kind.__name__)
            else:
                part = clone(part)
                if part.random_state is None:
                    part.random_state = seed
            setattr(self, name, part)

    def fit(self, rows, budget, context, share: Share, *, joint: bool) -> None:
        """Fit all that is not frozen to rows that the MLP reads and computes.

        Parameters
        ----------
        rows : tuple of ndarray (n, d) and (n, d_out)
        budget : float or None
            Weights of an output feature, on average.
        context : sklearn.callback.CallbackContext
        share : Share
        joint : bool
            Whether the connector, if it is not frozen, is left to be trained with all
            other parts.
        """
        X, Y = rows
        at = f"[{self.index}]"
        if self.transcoder is not None:
            if not self.frozen["transcoder"]:
                self.transcoder = self._fit_part(
                    "transcoder", self.transcoder, X, Y, context, share
                )
            check_width(self.transcoder, f"transcoder{at}", X.shape[1], "its MLP reads")
            return
        if joint and self._may_start_from_transcoder(budget, (X.shape[1], Y.shape[1])):
            self._start_from_transcoder(X, Y, context, share)
        for name, part_rows in (("input_autoencoder", X), ("output_autoencoder", Y)):
            if not self.frozen[name] and self.start is None:
                part = getattr(self, name)
                part = self._fit_part(name, part, part_rows, None, context, share)
                setattr(self, name, part)
            check_width(
                getattr(self, name), name + at, part_rows.shape[1], "its rows here have"
            )
        n_inputs, n_outputs = (
            len(getattr(self, name).components_)
            for name in ("input_autoencoder", "output_autoencoder")
        )
        if self.frozen["connector"]:
            check_ends(self.connector, f"connector{at}", n_inputs, n_outputs)
            return
        if budget is not None:
            n_live = int((self.output_autoencoder.feature_density_ > 0).sum())
            self.connector.set_params(
                n_nonzero_coefs=round(float(budget) * max(n_live, 1))
            )
        if joint and self.connector.n_nonzero_coefs is not None:
            return
        codes = (
            sparse_codes(self.input_autoencoder, X),
            sparse_codes(self.output_autoencoder, Y),
        )
        targets = codes[1] if self.connector.link == "identity" else codes[1].toarray()
        self.connector = self._fit_part(
            "connector", self.connector, codes[0], targets, context, share
        )

    def _fit_part(self, name: str, part, X, Y, context, share: Share) -> Any:
        self.n_fits += 1
        name = f"{name}[{self.index}]"
        return fit_part(part, X, context, Y, name=name, share=share)

    def _may_start_from_transcoder(self, budget, widths: tuple[int, int]) -> bool:
        is_budgeted = budget is not None or self.connector.n_nonzero_coefs is not None
        return (
            not any(self.frozen.values())
            and is_budgeted
            and isinstance(self.connector.init, str)
            and may_share_features(
                self.input_autoencoder, self.output_autoencoder, widths
            )
        )

    def _start_from_transcoder(self, X, Y, context, share: Share) -> None:
        autoencoders = self.input_autoencoder, self.output_autoencoder
        for autoencoder in autoencoders:
            autoencoder._validate_params()
        transcoder = transcoder_like(self.input_autoencoder)
        transcoder = self._fit_part("transcoder", transcoder, X, Y, context, share)
        self.start = start_of_pair(transcoder, *autoencoders, _some(X))

    def layer(self) -> Layer:
        """Return the layer of the fitted parts."""
        if self.transcoder is not None:
            return Layer.of_transcoder(self.transcoder)
        return Layer.of_pair(
            self.input_autoencoder, self.connector, self.output_autoencoder
        )

    def take_back(self, trained: Trained, n_epochs: int) -> None:
        """Keep copies of the parts with the weights that were trained."""
        if self.transcoder is not None:
            if not self.frozen["transcoder"]:
                self.transcoder = _with_layer(self.transcoder, trained.layer())
            return
        read, computed, coef, intercept = trained.export()
        self.input_autoencoder = with_coder(self.input_autoencoder, read, self.rows[0])
        self.output_autoencoder = with_coder(
            self.output_autoencoder, computed, self.rows[1]
        )
        if not self.frozen["connector"]:
            dtype = self.input_autoencoder.components_.dtype
            self.connector = with_weights(
                self.connector, coef, intercept, dtype, n_epochs=n_epochs
            )

    def trained(self, rows, device, team: Team, settings: Settings) -> Trained:
        """Return the tensors that are trained, starting from the fitted parts."""
        self.rows = rows = tuple(_some(part) for part in rows)
        if self.transcoder is not None:
            return TrainedTranscoder(
                self.layer(), rows, self.frozen["transcoder"], device
            )
        shape = (
            len(self.output_autoencoder.components_),
            len(self.input_autoencoder.components_),
        )
        read, computed = (
            coder_of(getattr(self, name), frozen=self.frozen[name])
            for name in ("input_autoencoder", "output_autoencoder")
        )
        frozen = self.frozen["connector"]
        connection = connection_of(
            self.connector,
            shape,
            None if frozen else self.connector.n_nonzero_coefs,
            frozen=frozen,
        )
        if self.start is not None:
            connection = replace(
                connection, start=(self.start.coef, self.start.intercept)
            )
        pair = TrainedPair((read, computed), connection, rows, device, team)
        if self.start is not None:
            train_alone(pair, rows, settings.learning_rate, settings.seed)
        return pair


def _of_layer(value: Any, index: int) -> Any:
    return value[index] if isinstance(value, list | tuple) else value


def _default(name: str) -> Any:
    if name == "connector":
        return FeatureConnector(link="relu")
    return SparseAutoencoder(k=16)


def _with_layer(transcoder: Transcoder, layer: Layer) -> Transcoder:
    """Copy a fitted transcoder, with weights that were trained with other layers."""
    own = copy(transcoder)
    arrays = {
        "encoder_coef_": layer.encoder,
        "encoder_intercept_": layer.encoder_bias,
        "intercept_": layer.bias,
        "components_": layer.decoder,
    }
    if layer.skip is not None:
        arrays["skip_coef_"] = layer.skip
    dtype = transcoder.components_.dtype
    own._take_over(
        {name: array.astype(dtype) for name, array in arrays.items()},
        transcoder._code,
        "was trained together with other layers",
    )
    return own


def _some(rows: np.ndarray) -> np.ndarray:
    if len(rows) <= _START_ROWS:
        return rows
    return rows[np.linspace(0, len(rows) - 1, _START_ROWS).astype(np.int64)]


def chosen_batches(slotted: SlottedModel, batches, n_rows: int, seed: int) -> list[int]:
    """Draw batches at random until they hold so many tokens; return their numbers."""
    order = np.random.RandomState(seed).permutation(len(batches))
    chosen, n = [], 0
    for number in order.tolist():
        if n >= n_rows:
            break
        n += int(Batch(slotted, batches[number], number).present.sum())
        chosen.append(number)
    return sorted(chosen)


@torch.no_grad()
def rows_of_layer(
    slotted: SlottedModel, batches, numbers, functions, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return what an MLP reads and computes where others are replaced by functions.

    Raises
    ------
    ValueError
        If there is no token but padding, or a row is not finite.
    """
    read, made = [], []
    for number in numbers:
        batch = slotted.batch(batches[number], number)
        with slotted.using(functions, records=True) as uses:
            batch.run_to(name)
            read.append(batch.rows(uses[name].seen).float().cpu().numpy())
            made.append(batch.rows(uses[name].made).float().cpu().numpy())
    rows = np.concatenate(read), np.concatenate(made)
    if not len(rows[0]):
        raise ValueError("batches hold no token that is not padding.")
    for part in rows:
        if not np.isfinite(part).all():
            raise ValueError(f"module {name!r} has values that are not finite.")
    return rows


class Cascade:
    """Fits layer after layer, and keeps what the next ones run on.

    Parameters
    ----------
    slotted : SlottedModel
    batches : list
    numbers : list of int
        Of the batches whose rows the parts are fitted to.
    device : torch.device
    team : Team
    """

    def __init__(self, slotted: SlottedModel, batches, numbers, device, team: Team):
        self.slotted, self.batches, self.numbers = slotted, batches, numbers
        self.device, self.team = device, team
        self.functions: dict[str, Any] = {}

    def add(
        self,
        name: str,
        parts: LayerParts,
        budget,
        context,
        share,
        settings: Settings | None,
    ) -> None:
        """Fit the parts of the next layer, and replace its MLP from now on.

        With `settings` it is trained together with all others.
        """
        rows = rows_of_layer(
            self.slotted, self.batches, self.numbers, self.functions, name
        )
        parts.fit(rows, budget, context, share, joint=settings is not None)
        if settings is not None:
            self.functions[name] = parts.trained(rows, self.device, self.team, settings)
        else:
            self.functions[name] = FeatureMLP(parts.layer()).to(self.device)
