"""The explorer's page of layer pairs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from sklearn.utils import check_consistent_length, check_random_state
from sklearn.utils.validation import check_is_fitted

from skfeat.capture._capture import Capture
from skfeat.capture._checks import check_capture, check_vector
from skfeat.explorer._description import Explorer, Gap, Layer, ShownRow, formulas_of
from skfeat.explorer._page import write_page
from skfeat.explorer._rows import MOST_MEASURED
from skfeat.explorer._statistics import Statistics, summarize
from skfeat.language._connections import read_all
from skfeat.language._feature_tokens import feature_tokens
from skfeat.language._pair_codes import as_float_rows, predict_codes
from skfeat.language._pair_passages import PassageStore
from skfeat.utils._checks import check_int, type_error, value_error
from skfeat.utils._files import check_writable

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
        :func:`skfeat.language.ablation_effect` for the latter. Several pairs, such as
        those of all layers, share a page by :func:`skfeat.language.explore_pairs`.
        """
        return _write(
            f"Features across an MLP, {type(self).__name__}",
            {"": self},
            {"": (X, y)},
            _Wanted(path, capture, decode, n_rows, n_examples, random_state),
        )


def explore_pairs(
    pairs: Mapping[str, Any],
    rows: Mapping[str, tuple[Any, Any]],
    path: str | os.PathLike[str] = "explorer.html",
    *,
    capture: Capture | None = None,
    decode: Any = None,
    n_rows: int = 24,
    n_examples: int = 5,
    random_state: Any = 0,
) -> Path:
    """Write one HTML file to look around in the features of several layer pairs.

    Their columns stand side by side, in the order of `pairs`: a whole language model,
    where there is one for each MLP. The rest is as in :meth:`LayerPair.explore`.

    Parameters
    ----------
    pairs : dict of str to LayerPair
        Fitted pairs by what the page calls them, such as "MLP 0".
    rows : dict of str to tuple of array-like (n, d) and (n, d_out)
        What each pair is shown on: rows of the residual stream and of the MLP's output,
        of the same tokens for all.
    path : str or path-like, default="explorer.html"
        The file, overwritten if it exists.
    capture : skfeat.capture.Capture, default=None
        The capture of these rows, with tokens. ``None``: no passages are shown.
    decode : tokenizer, callable or sequence of str, default=None
        With `capture`, as in :func:`skfeat.language.connection_page`.
    n_rows : int, default=24
        Tokens drawn at random that have a graph of their own.
    n_examples : int, default=5
        Passages by which each feature is shown: so many of the strongest, and one from
        each of so many levels of its activation.
    random_state : int, RandomState instance or None, default=0
        Determines the passages and the tokens that are drawn.

    Returns
    -------
    path : pathlib.Path
        The file.

    Raises
    ------
    TypeError
        If pairs or rows are no dicts, or something else than a LayerPair is among the
        pairs.
    ValueError
        If there are no pairs, rows are missing or of different lengths, or a parameter
        is not valid.
    NotFittedError
        If a pair is not fitted.

    Notes
    -----
    Each pair is fed with the model's own activations, and edges lead across one MLP:
    what attention does between two of them is not shown.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from skfeat import SparseAutoencoder
    >>> from skfeat.language import LayerPair, explore_pairs
    >>> X = np.random.default_rng(0).normal(size=(300, 8))
    >>> rows = {"MLP 0": (X, np.maximum(X, 0)), "MLP 1": (X, np.maximum(-X, 0))}
    >>> part = SparseAutoencoder(8, k=2, max_iter=40)
    >>> pairs = {
    ...     name: LayerPair(part, part, n_nonzero_coefs=2, min_events=10).fit(*both)
    ...     for name, both in rows.items()
    ... }
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     explore_pairs(pairs, rows, f"{folder}/model.html").name
    'model.html'
    """
    for what, given in (("pairs", pairs), ("rows", rows)):
        if not isinstance(given, Mapping):
            raise type_error(what, "a dict with the name of each pair", given)
    if not pairs or set(pairs) != set(rows):
        raise ValueError(
            f"rows must have the names of pairs, at least one. Got {list(rows)} for "
            f"pairs {list(pairs)}."
        )
    for name, pair in pairs.items():
        if not isinstance(pair, ExploredPair):
            raise TypeError(
                f"pairs must hold LayerPairs. Got a {type(pair).__name__} for {name!r}."
            )
        if not isinstance(rows[name], tuple | list) or len(rows[name]) != 2:
            allowed = "the rows of its inputs and those of its outputs, (X, y)"
            raise value_error(f"rows[{name!r}]", allowed, rows[name])
    return _write(
        f"Features across {len(pairs)} MLPs",
        pairs,
        rows,
        _Wanted(path, capture, decode, n_rows, n_examples, random_state),
    )


class _Wanted(NamedTuple):
    """What a page is to show, and where; see `explore_pairs`."""

    path: Any
    capture: Capture | None
    decode: Any
    n_rows: Any
    n_examples: Any
    random_state: Any


def _write(
    title: str,
    pairs: Mapping[str, Any],
    rows: Mapping[str, tuple[Any, Any]],
    wanted: _Wanted,
) -> Path:
    """Check all that is given, and write the page."""
    for pair in pairs.values():
        check_is_fitted(pair)
    file = check_writable(wanted.path)
    checked: dict[str, tuple[Any, Any]] = {}
    for name, pair in pairs.items():
        X, y = rows[name]
        X = pair._check_inputs(X, reset=False)
        y = pair._check_outputs(y, reset=False)
        check_consistent_length(X, y, *(own for own, _ in checked.values()))
        checked[name] = X, y
    n_rows = check_int("n_rows", wanted.n_rows)
    n_examples = check_int("n_examples", wanted.n_examples, 1)
    random = check_random_state(wanted.random_state)
    page = _Page(
        [_Across(pair, *checked[name], random, name) for name, pair in pairs.items()],
        random,
    )
    if wanted.capture is not None:
        page.add_passages(wanted.capture, wanted.decode, n_examples)
    return write_page(page.describe(title, n_rows), file)


class _Across:
    """The features on both sides of one pair, on some rows, as columns of a graph."""

    def __init__(
        self, pair: Any, X: Any, y: Any, random: np.random.RandomState, name: str
    ):
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
            Layer(
                f"{name}, {side}s" if name else f"{side} features",
                "features",
                own,
                flows.sum(axis=axis),
                numbers,
            )
            for axis, (side, own, numbers) in enumerate(
                zip(("input", "output"), names, found, strict=True)
            )
        ]
        self.layers[1].formulas = formulas_of(self.coef, *names)
        self._add_logic(len(X))
        self._add_effects(y)

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
        if self.pair.connector_._fitted_link == "identity":
            lengths = np.linalg.norm(self.coef.T @ components, axis=1)
            sizes = _mean_size(sparse.csc_array(codes))
            self.layers[0].effect = sizes * lengths / spread

    def choose_passages(
        self, passages: PassageStore, capture: Capture, decode: Any, n_examples: int
    ) -> None:
        """Choose the passages of each feature, and label it by its tokens."""
        for layer, codes in zip(self.layers, self.codes, strict=True):
            layer.labels = feature_tokens(codes, capture.token_ids, decode).labels
            assert isinstance(layer.statistics, Statistics)
            passages.choose(codes, layer.statistics, n_examples, self.random)

    def values(self, rows: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return what features measure on rows, and what is computed, a side each."""
        before, after = (
            sparse.csr_array(codes)[rows].toarray() for codes in self.codes
        )
        predicted = predict_codes(self.pair.connector_, sparse.csr_array(before))
        return [(before, before), (after, predicted)]


class _Page:
    """A page of the features of pairs, one after the other, on the same tokens."""

    def __init__(self, pairs: list[_Across], random: np.random.RandomState):
        self.pairs, self.random = pairs, random
        self.passages: PassageStore | None = None

    def add_passages(self, capture: Capture, decode: Any, n_examples: int) -> None:
        """Choose the passages of each feature, and label it by its tokens."""
        check_capture(capture)
        n = self.pairs[0].codes[0].shape[0]
        check_vector("capture.token_ids", capture.token_ids, n)
        self.passages = PassageStore(capture, decode)
        for pair in self.pairs:
            pair.choose_passages(self.passages, capture, decode, n_examples)

    def describe(self, title: str, n_rows: int) -> Explorer:
        """Return what the page shows, with a graph for each of `n_rows` tokens."""
        codes = self.pairs[0].codes[0]
        n = codes.shape[0]
        fires = np.diff(sparse.csr_array(codes).indptr) > 0
        shown = np.sort(self.random.permutation(np.flatnonzero(fires))[:n_rows])
        rows = self._shown_rows(shown)
        if self.passages is None:
            examples: dict[str, Any] = {"kind": "none", "rows": shown}
            examples |= {"labels": None, "classes": []}
        else:
            examples = self.passages.describe()
        layers = [layer for pair in self.pairs for layer in pair.layers]
        gaps = [self.pairs[0].gap]
        for pair in self.pairs[1:]:
            # What lies between two pairs, such as attention, is not on the page.
            gaps += [_no_edges(len(pair.layers[0].names)), pair.gap]
        return Explorer(
            title=title,
            layers=layers,
            gaps=gaps,
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
        values = [both for pair in self.pairs for both in pair.values(shown)]
        layers = [layer for pair in self.pairs for layer in pair.layers]
        active = [np.count_nonzero(own, axis=1) for own, _ in values]
        found = []
        for i, row in enumerate(shown.tolist()):
            facts = [
                (f"{layer.title} active", str(n[i]))
                for layer, n in zip(layers, active, strict=True)
            ]
            example = i
            if self.passages is not None:
                example, token = self.passages.around(row)
                facts.insert(0, ("token", token))
            columns = []
            for own, parts in values:
                nodes = np.flatnonzero((own[i] != 0) | (parts[i] != 0))
                columns.append((nodes, own[i][nodes], parts[i][nodes]))
            edges: list[Any] = [None] * (len(values) - 1)
            found.append(ShownRow(example, values=columns, edges=edges, facts=facts))
        return found


def _no_edges(n: int) -> Gap:
    none = np.empty(0)
    return Gap(np.zeros(n + 1, np.int64), none.astype(np.int64), none, none, 0)


def _mean_size(codes: sparse.csc_array) -> np.ndarray:
    """Return the mean magnitude of each column, over all rows."""
    return np.asarray(abs(codes).sum(axis=0)).ravel() / codes.shape[0]
