"""The explorer's page of a layer pair."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils.validation import check_is_fitted

from skfeat.capture._capture import Capture
from skfeat.capture._checks import check_capture, check_vector
from skfeat.explorer._description import Explorer, Gap, Layer, ShownRow, formulas_of
from skfeat.explorer._page import page_path, write_page
from skfeat.explorer._rows import MOST_MEASURED
from skfeat.explorer._statistics import Statistics, summarize
from skfeat.language._connections import read_all
from skfeat.language._feature_tokens import feature_tokens
from skfeat.language._pair_codes import as_float_rows, predict_codes
from skfeat.language._pair_passages import PassageStore
from skfeat.utils._checks import check_int

# Rows that logic is read off, at most: more take minutes for thousands of features.
_MOST_READ = 50_000


class ExploredPair:
    """Mixin of LayerPair: a page to look around in."""

    _check_inputs: Any
    _check_outputs: Any

    def explore(
        self,
        X: Any,
        y: Any,
        path: str | os.PathLike[str] = "explorer.html",
        *,
        capture: Capture | None = None,
        decode: Any = None,
        n_rows: int = 24,
        n_examples: int = 5,
        random_state: Any = 0,
    ) -> Path:
        """Write one HTML file to look around in the features with a browser.

        It shows the graph of the connections, of the pair and of single tokens, and a
        page for each live feature: passages in which it fires, how often and how
        strongly, its formula and its logic, and the weights that lead to it or from
        it. The file holds all that it needs, and loads nothing.

        Parameters
        ----------
        X : array-like of shape (n, d)
            Rows of the residual stream before the MLP, best held-out ones.
        y : array-like of shape (n, d_out) or (n,)
            Rows of the MLP's output for the same tokens.
        path : str or path-like, default="explorer.html"
            The file, overwritten if it exists.
        capture : skfeat.capture.Capture, default=None
            The capture of these rows, with tokens. ``None``: no passages are shown.
        decode : tokenizer, callable or sequence of str, default=None
            With `capture`, as in :func:`skfeat.language.connection_page`.
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
        ValueError
            If a parameter is not valid, or the folder of the file does not exist.

        Notes
        -----
        Edges show weight times activation. The effect of leaving a feature out is that
        on the rows which the pair predicts, not on the whole model: see
        :func:`skfeat.language.ablation_effect` for the latter.
        """
        check_is_fitted(self)
        file = page_path(path)
        X = self._check_inputs(X, reset=False)
        y = self._check_outputs(y, reset=False)
        check_consistent_length(X, y)
        n_rows = check_int("n_rows", n_rows)
        n_examples = check_int("n_examples", n_examples, 1)
        random = check_random_state(random_state)
        page = _PairPage(self, X, y, random)
        if capture is not None:
            check_capture(capture)
            check_vector("capture.token_ids", capture.token_ids, len(X))
            page.add_passages(capture, decode, n_examples)
        return write_page(page.describe(n_rows), file)


class _PairPage:
    """The features of a pair on some rows."""

    def __init__(self, pair: Any, X: Any, y: Any, random: np.random.RandomState):
        self.pair, self.random = pair, random
        self.codes = [
            sparse.csc_array(pair.input_features(X)),
            sparse.csc_array(pair.output_features(y)),
        ]
        self.coef = sparse.csr_array(pair.connector_.coef_)
        names = [
            [side[j] for j in live.tolist()]
            for side, live in zip(
                pair._names(), (pair.live_inputs_, pair.live_outputs_), strict=True
            )
        ]
        found = [summarize(codes) for codes in self.codes]
        # Means over all rows, with those on which a feature does not fire.
        flows = abs(self.coef) @ sparse.diags_array(_mean_size(self.codes[0]))
        self.gap = Gap.of(flows, self.coef)
        self.layers = [
            Layer("input features", "features", names[0], flows.sum(axis=0), found[0]),
            Layer("output features", "features", names[1], flows.sum(axis=1), found[1]),
        ]
        self.layers[1].formulas = formulas_of(self.coef, *names)
        self._add_logic(len(X))
        self._add_effects(y)
        self.passages: PassageStore | None = None

    def _add_logic(self, n_rows: int) -> None:
        rows = np.sort(self.random.permutation(n_rows)[:_MOST_READ])
        read = read_all(self.pair.connector_, *(codes[rows] for codes in self.codes))
        self.layers[1].logics = [
            f"{one.kind}: {one.logic.formula}" if one.logic.inputs else ""
            for one in read
        ]
        self.layers[1].r2 = np.array([one.r2 for one in read])

    def _add_effects(self, y: np.ndarray) -> None:
        """Measure what the predicted rows lose, as a share of how far rows vary."""
        components = self.pair.output_autoencoder_.components_[self.pair.live_outputs_]
        rows = np.sort(self.random.permutation(len(y))[:MOST_MEASURED])
        deviation = as_float_rows(y[rows]) - self.pair.output_mean_
        spread = np.linalg.norm(deviation, axis=1).mean() or 1.0
        codes = sparse.csr_array(self.codes[0])[rows]
        predicted = predict_codes(self.pair.connector_, codes)
        lengths = np.linalg.norm(components, axis=1)
        self.layers[1].effect = np.abs(predicted).mean(axis=0) * lengths / spread
        if self.pair.connector_.link == "identity":
            lengths = np.linalg.norm(self.coef.T @ components, axis=1)
            sizes = _mean_size(sparse.csc_array(codes))
            self.layers[0].effect = sizes * lengths / spread

    def add_passages(self, capture: Capture, decode: Any, n_examples: int) -> None:
        """Choose the passages of each feature, and label it by its tokens."""
        self.passages = PassageStore(capture, decode)
        for layer, codes in zip(self.layers, self.codes, strict=True):
            layer.labels = feature_tokens(codes, capture.token_ids, decode).labels
            assert isinstance(layer.statistics, Statistics)
            self.passages.choose(codes, layer.statistics, n_examples, self.random)

    def describe(self, n_rows: int) -> Explorer:
        """Return what the page shows, with a graph for each of `n_rows` tokens."""
        n = self.codes[0].shape[0]
        fires = np.diff(sparse.csr_array(self.codes[0]).indptr) > 0
        shown = np.sort(self.random.permutation(np.flatnonzero(fires))[:n_rows])
        rows = self._shown_rows(shown)
        if self.passages is None:
            examples: dict[str, Any] = {"kind": "none", "rows": shown}
            examples |= {"labels": None, "classes": []}
        else:
            examples = self.passages.describe()
        return Explorer(
            title=f"Features across an MLP, {type(self.pair).__name__}",
            layers=self.layers,
            gaps=[self.gap],
            rows=rows,
            examples=examples,
            flow="product",
            strength_name="mean |weight × activation|",
            part_name="activation, of an output feature as predicted (and as measured)",
            effect_name="mean change of the predicted rows without it, as a share of "
            "how far rows vary",
            notes=[
                f"Live features alone, on {n:,} tokens.",
                f"Effects are over {min(n, MOST_MEASURED):,} tokens drawn at random.",
                f"Logic and R2 are over {min(n, _MOST_READ):,}.",
            ],
        )

    def _shown_rows(self, shown: np.ndarray) -> list[ShownRow]:
        if not len(shown):
            return []
        before, after = (
            sparse.csr_array(codes)[shown].toarray() for codes in self.codes
        )
        predicted = predict_codes(self.pair.connector_, sparse.csr_array(before))
        found = []
        for i, row in enumerate(shown.tolist()):
            facts = [
                ("input features active", str(np.count_nonzero(before[i]))),
                ("output features active", str(np.count_nonzero(after[i]))),
            ]
            example = i
            if self.passages is not None:
                example, token = self.passages.around(row)
                facts.insert(0, ("token", token))
            values = [(before[i], before[i]), (after[i], predicted[i])]
            columns = []
            for own, parts in values:
                nodes = np.flatnonzero((own != 0) | (parts != 0))
                columns.append((nodes, own[nodes], parts[nodes]))
            found.append(ShownRow(example, values=columns, edges=[None], facts=facts))
        return found


def _mean_size(codes: sparse.csc_array) -> np.ndarray:
    """Return the mean magnitude of each column, over all rows."""
    return np.asarray(abs(codes).sum(axis=0)).ravel() / codes.shape[0]
