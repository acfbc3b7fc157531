"""Features of a language model, in the format that sites of dashboards read."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse

from skfeat.capture import Capture
from skfeat.capture._checks import check_capture, check_codes, order_of_tokens
from skfeat.capture._contexts import Contexts, Passages
from skfeat.inspection._token_text import token_texts
from skfeat.utils._checks import check_int, check_path, type_error, value_error

_BINS = 50
_LOGITS = 10
# Passages of the highest activations; bins of activations, and passages of each.
_TOP, _STRATA, _EACH = 10, 5, 3
# Tokens before and after the one that a passage is chosen for.
_BEFORE, _AFTER = 10, 5


def feature_dashboards(
    codes: Any,
    capture: Capture,
    decode: Any,
    *,
    model: str,
    layer: str,
    numbers: Sequence[int] | None = None,
    logits: Any = None,
    path: str | os.PathLike[str] | None = None,
) -> list[dict[str, Any]]:
    """Describe features by the passages they fire on, as dashboard sites read it.

    The format is that of Neuronpedia's pages of features: an object for each, with its
    number, how often it fires, a histogram of its activations, the tokens whose logits
    it moves most, and passages from the whole range of its activation.

    Parameters
    ----------
    codes : array-like or sparse matrix of shape (n_rows, n_features)
        Activations, none below zero: ``pair.output_features(Y)`` of a `LayerPair`, or
        what a `SparseAutoencoder` returns.
    capture : skfeat.capture.Capture
        The capture whose rows were encoded, with tokens.
    decode : tokenizer, callable or sequence of str
        A tokenizer with ``decode``, a function from a token id to its text, or the
        texts by id.
    model : str
        Name of the model on the site, such as "pythia-70m-deduped".
    layer : str
        Name of the layer and of the set of features, such as "3-mlp-skfeat".
    numbers : sequence of int, default=None
        Number of the feature of each column on the site, such as
        ``pair.live_outputs_``; ``None``: that of the column.
    logits : array-like of shape (n_features, n_tokens), default=None
        What a feature adds to the logit of each token when it is one:
        ``autoencoder.components_ @ unembedding`` for features that are written to the
        last residual stream; ``None``: the lists of tokens stay empty.
    path : str or path, default=None
        A JSON file to write the list to.

    Returns
    -------
    list of dict
        One for each feature that fires, with ``modelId``, ``layer``, ``index`` (a str,
        as the site has it), ``frac_nonzero`` (share of rows), ``maxActApprox``,
        ``freq_hist_data_bar_values`` and ``freq_hist_data_bar_heights`` (centres of
        bins of nonzero activations, and their counts), ``pos_str``, ``pos_values``,
        ``neg_str``, ``neg_values`` and the same histogram of the logits, and
        ``activations``: passages with ``tokens``, ``values``, ``maxValue``,
        ``maxValueTokenIndex``, ``minValue``, ``qualifyingTokenIndex`` (the token that
        the passage was chosen for) and, as the share of firing rows in the range
        from ``binMin`` to ``binMax`` that it was drawn from, ``binContains``.

    Raises
    ------
    ValueError
        If an argument is not valid, or the capture has no tokens.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.capture import Capture
    >>> from skfeat.sharing import feature_dashboards
    >>> capture = Capture(
    ...     activations={},
    ...     sequence=np.zeros(4, int),
    ...     position=np.arange(4),
    ...     token_ids=np.array([0, 1, 2, 1]),
    ... )
    >>> codes = np.array([[0.0, 1.5, 0.0, 0.5]]).T
    >>> texts = ["the", " old", " man"]
    >>> (page,) = feature_dashboards(codes, capture, texts, model="m", layer="0-mlp")
    >>> page["index"], page["frac_nonzero"], page["maxActApprox"]
    ('0', 0.5, 1.5)
    >>> page["activations"][0]["tokens"]
    ['the', ' old', ' man', ' old']
    """
    for name, value in (("model", model), ("layer", layer)):
        if not isinstance(value, str) or not value:
            raise type_error(name, "a str that is not empty", value)
    check_capture(capture)
    matrix = sparse.csc_array(check_codes("codes", codes, capture.n_rows))
    if len(matrix.data) and matrix.data.min() < 0:
        raise value_error("codes", "at least zero", float(matrix.data.min()))
    n_rows, n_features = matrix.shape
    if numbers is None:
        numbers = range(n_features)
    elif np.ndim(numbers) != 1 or len(numbers) != n_features:
        raise value_error("numbers", f"a sequence of {n_features} ints", numbers)
    numbers = [check_int("numbers", number) for number in numbers]
    effects = None if logits is None else np.asarray(logits)
    if effects is not None and (effects.ndim != 2 or len(effects) != n_features):
        raise value_error("logits", f"of shape ({n_features}, n_tokens)", logits)
    pages = []
    order = order_of_tokens(capture.sequence, capture.position)
    passages = Passages(
        capture.sequence[order],
        capture.position[order],
        np.asarray(capture.token_ids)[order],
        _BEFORE,
        _AFTER,
    )
    for j in np.flatnonzero(np.diff(matrix.indptr)).tolist():
        values = matrix[:, [j]].toarray().ravel()
        firing = values[values > 0]
        if not len(firing):
            continue
        random = np.random.RandomState(0)
        contexts = passages.contexts(values[order], (_TOP, _STRATA, _EACH), random)
        whose = {"modelId": model, "layer": layer, "index": str(numbers[j])}
        pages.append(
            {
                **whose,
                "frac_nonzero": len(firing) / n_rows,
                "maxActApprox": float(firing.max()),
                **_histogram("freq", firing),
                **_moved_logits(None if effects is None else effects[j], decode),
                "activations": _passages(contexts, firing, decode, whose),
            }
        )
    if path is not None:
        text = json.dumps(pages, allow_nan=False) + "\n"
        check_path("path", path).write_text(text, encoding="utf-8")
    return pages


def _histogram(name: str, values: np.ndarray) -> dict[str, list[float]]:
    """Return the bars of a histogram: as many centres as counts."""
    heights, edges = np.histogram(values, _BINS)
    centres = (edges[1:] + edges[:-1]) / 2
    shown = bool(len(values))
    return {
        f"{name}_hist_data_bar_heights": heights.tolist() if shown else [],
        f"{name}_hist_data_bar_values": centres.tolist() if shown else [],
    }


def _moved_logits(effects: np.ndarray | None, decode: Any) -> dict[str, list]:
    """Return the tokens whose logits a feature raises most, and lowers most."""
    if effects is None:
        effects = np.empty(0)
    order = np.argsort(-effects, kind="stable")
    raised = order[:_LOGITS][effects[order[:_LOGITS]] > 0]
    lowered = order[::-1][:_LOGITS]
    lowered = lowered[effects[lowered] < 0]
    texts = token_texts(decode, np.concatenate([raised, lowered]).tolist())
    found: dict[str, list] = dict(_histogram("logits", effects))
    for name, tokens in (("pos", raised), ("neg", lowered)):
        found[f"{name}_str"] = [_as_text(texts[t]) for t in tokens.tolist()]
        found[f"{name}_values"] = [float(v) for v in effects[tokens]]
    return found


def _passages(
    contexts: Contexts, firing: np.ndarray, decode: Any, whose: dict[str, str]
) -> list[dict[str, Any]]:
    ids = {token for tokens in contexts.tokens for token in tokens.tolist()}
    texts = token_texts(decode, ids)
    largest = float(firing.max())
    passages = []
    for i, (tokens, values) in enumerate(
        zip(contexts.tokens, contexts.activations, strict=True)
    ):
        stratum = int(contexts.stratum[i])
        low, high = (0.0, largest)
        if stratum >= 0:
            low = largest * stratum / _STRATA
            high = largest * (stratum + 1) / _STRATA
        inside = (firing > low) & (firing <= high)
        peak = int(np.argmax(values))
        passages.append(
            {
                **whose,
                "tokens": [_as_text(texts[token]) for token in tokens.tolist()],
                "values": [float(value) for value in values],
                "maxValue": float(values[peak]),
                "maxValueTokenIndex": peak,
                "minValue": float(values.min()),
                "qualifyingTokenIndex": int(contexts.focus[i]),
                "binMin": low,
                "binMax": high,
                "binContains": float(inside.mean()),
            }
        )
    return passages


def _as_text(text: str | bytes) -> str:
    return text if isinstance(text, str) else text.decode("utf-8", "replace")
