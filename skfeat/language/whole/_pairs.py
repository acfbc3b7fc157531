"""Each replaced MLP as a `LayerPair`, on what the model itself computes."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from skfeat.capture import Capture
from skfeat.language._layer_pair import LayerPair
from skfeat.language._pair_explore import explore_pairs
from skfeat.language.whole._slots import SlottedModel, listed_batches
from skfeat.utils._checks import check_int
from skfeat.utils._files import check_writable

# Rows of an MLP's input and of its output.
Rows = tuple[np.ndarray, np.ndarray]


@torch.no_grad()
def rows_of_mlps(
    slotted: SlottedModel, batches: list[Any]
) -> tuple[dict[str, Rows], Capture]:
    """Return the rows that MLPs read and compute, by name, and the tokens they are of.

    One run of the model gives both. Padding and special tokens are left out.

    Raises
    ------
    ValueError
        If no other token is left.
    """
    rows: dict[str, tuple[list, list]] = {name: ([], []) for name in slotted.names}
    tokens: dict[str, list] = {"sequence": [], "position": [], "token_ids": []}
    n_sequences = 0
    for number, raw in enumerate(batches):
        batch = slotted.batch(raw, number)
        with slotted.using({}, records=True) as uses:
            batch.outputs()
        kept = batch.kept_tokens()
        for name, use in uses.items():
            for part, tensor in zip(rows[name], (use.seen, use.made), strict=True):
                mask = torch.from_numpy(kept).to(tensor.device)
                part.append(tensor[mask].float().cpu().numpy())
        sequence, position = np.nonzero(kept)
        tokens["sequence"].append(sequence + n_sequences)
        tokens["position"].append(position.astype(np.int32))
        tokens["token_ids"].append(batch.ids[kept].astype(np.int32))
        n_sequences += len(kept)
    joined = {
        name: (np.concatenate(read), np.concatenate(made))
        for name, (read, made) in rows.items()
    }
    columns: dict[str, Any] = {
        name: np.concatenate(parts) for name, parts in tokens.items()
    }
    captured = Capture({name: read for name, (read, _) in joined.items()}, **columns)
    if not captured.n_rows:
        raise ValueError("batches hold no token that is not padding or a special one.")
    return joined, captured


def pairs_of(
    layers: Mapping[str, tuple[Any, Any, Any]],
    rows: Mapping[str, Rows],
    min_events: int,
) -> dict[str, LayerPair]:
    """Return a fitted pair for each MLP, of fitted parts that stay as they are.

    Parameters
    ----------
    layers : dict of str to tuple
        The autoencoder of the input, the connector and the autoencoder of the output.
    rows : dict of str to tuple of ndarray (n, d) and (n, d_out)
    min_events : int
        Rows in which a feature must fire to be shown.
    """
    return {
        name: LayerPair(
            FrozenEstimator(encoder),
            FrozenEstimator(decoder),
            connector=FrozenEstimator(connector),
            min_events=min_events,
        ).fit(*rows[name])
        for name, (encoder, connector, decoder) in layers.items()
    }


class PairsMixin:
    """What a fitted :class:`ModelUnwrapper` shows of each MLP by itself."""

    module_names_: list[str]
    input_autoencoders_: list
    output_autoencoders_: list
    connectors_: list
    transcoders_: list
    _slotted: Any

    def pairs(self, batches: Any, *, min_events: int = 1) -> dict[str, LayerPair]:
        """Return each replaced MLP as a pair, on what the model itself computes.

        A pair has what reads single connections: their formulas and their logic, its
        own report, pages. Nothing is trained but the dense map that the report sets
        beside the sparse one.

        Parameters
        ----------
        batches : iterable
            Batches of tokens.
        min_events : int, default=1
            A pair has the features that fire for at least so many tokens.

        Returns
        -------
        dict of str to LayerPair
            Fitted, by the names of the MLPs.

        Raises
        ------
        TypeError
            If `batches` is a single batch.
        ValueError
            If an MLP is replaced by a transcoder, a batch is not valid, or no feature
            fires for so many tokens.
        """
        layers = self._layer_parts()
        min_events = check_int("min_events", min_events, 1)
        rows, _ = rows_of_mlps(
            self._slotted(self.module_names_), listed_batches(batches)
        )
        return pairs_of(layers, rows, min_events)

    def explore(
        self,
        batches: Any,
        path: str | os.PathLike[str] = "explorer.html",
        *,
        decode: Any = None,
        min_events: int = 1,
        n_rows: int = 24,
        n_examples: int = 5,
        random_state: Any = 0,
    ) -> Path:
        """Write one HTML file to look around in the features of all replaced MLPs.

        Their columns stand side by side, each fed with the model's own activations:
        the graph of the connections, of the whole and of single tokens, and a page for
        each feature, with the passages in which it fires, its formula, its logic and
        the weights that lead to it or from it. The file loads nothing else.

        Parameters
        ----------
        batches : iterable
            Batches of tokens, best held-out ones.
        path : str or path-like, default="explorer.html"
            The file, overwritten if it exists.
        decode : tokenizer, callable or sequence of str, default=None
            Tells the texts of tokens; ``None``: their numbers.
        min_events : int, default=1
            Features are shown that fire for at least so many tokens.
        n_rows : int, default=24
            Tokens drawn at random that have a graph of their own.
        n_examples : int, default=5
            Passages by which each feature is shown: so many of the strongest, and one
            from each of so many levels of its activation.
        random_state : int, RandomState instance or None, default=0
            Determines the passages and the tokens that are drawn.

        Returns
        -------
        path : pathlib.Path
            The file.

        Raises
        ------
        TypeError
            If `batches` is a single batch.
        ValueError
            If an MLP is replaced by a transcoder, an argument is not valid, or the
            folder of the file does not exist.

        See Also
        --------
        skfeat.language.explore_pairs : The same of pairs that were fitted alone.
        """
        layers = self._layer_parts()
        min_events = check_int("min_events", min_events, 1)
        file = check_writable(path)
        rows, captured = rows_of_mlps(
            self._slotted(self.module_names_), listed_batches(batches)
        )
        return explore_pairs(
            pairs_of(layers, rows, min_events),
            rows,
            file,
            capture=captured,
            decode=decode,
            n_rows=n_rows,
            n_examples=n_examples,
            random_state=random_state,
        )

    def _layer_parts(self) -> dict[str, tuple[Any, Any, Any]]:
        check_is_fitted(self)
        for name, transcoder in zip(self.module_names_, self.transcoders_, strict=True):
            if transcoder is not None:
                raise ValueError(
                    f"Only MLPs replaced by two autoencoders and a connector are "
                    f"pairs; {name!r} is replaced by a transcoder."
                )
        parts = zip(
            self.input_autoencoders_,
            self.connectors_,
            self.output_autoencoders_,
            strict=True,
        )
        return dict(zip(self.module_names_, parts, strict=True))
