"""The tokens that features fire on, as labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import Bunch

from skfeat.capture._checks import check_codes, check_vector
from skfeat.inspection._token_text import token_texts, visible
from skfeat.utils._checks import check_int

# Tokens that score less than this share of the best one do not name a feature.
_LEAST_SHARE = 0.3


def feature_tokens(
    codes: Any,
    token_ids: Any,
    decode: Any = None,
    *,
    features: Sequence[int] | None = None,
    n: int = 3,
) -> Bunch:
    r"""Find the tokens that each feature fires on, and label features by them.

    Tokens are ranked by the cosine, over all rows, between a feature's activations and
    the indicator of the token. It is high where the feature fires strongly on most
    occurrences of the token and hardly elsewhere, and low both for a rare token among
    many on which it fires and for a frequent token on which it fires now and then.

    Parameters
    ----------
    codes : array-like or sparse matrix of shape (n_rows, n_features)
        Activations, none below zero.
    token_ids : array-like of int, shape (n_rows,)
        The token of each row.
    decode : tokenizer, callable or sequence of str, default=None
        A tokenizer with ``decode``, a function from a token id to its text, or the
        texts by id. Texts may be bytes. ``None``: the labels are the ids.
    features : sequence of int, default=None
        Columns of `codes`; ``None`` means all.
    n : int, default=3
        Number of tokens for each feature.

    Returns
    -------
    Bunch
        Arrays of shape (n_features, n), the best tokens first: ``token_ids`` (-1 where
        a feature fires on fewer), ``cosine``, ``mean_activation`` on the token,
        ``lift`` (that mean over the feature's mean on all rows) and ``share`` (of the
        feature's summed activation). ``labels`` is a list of str: the texts of the
        tokens whose cosine is at least 0.3 times the best one, joined by "/"; tokens
        that differ in case or spaces alone count once, and the bytes of a part of a
        character are shown as their codes, such as ``\xc3``. The label of a feature
        that never fires is "".

    Raises
    ------
    ValueError
        If an argument is not valid.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.language import feature_tokens
    >>> codes = np.array([[0.0, 2.0], [1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    >>> feature_tokens(codes, [0, 1, 2, 0], [" the", " old", " Old"]).labels
    ['old', 'the']
    """
    token_ids = check_vector("token_ids", token_ids)
    check_int("token_ids", int(token_ids.min(initial=0)))
    codes = check_codes("codes", codes, len(token_ids))
    n = check_int("n", n, 1)
    if features is not None:
        if np.ndim(features) != 1:
            raise ValueError(
                f"features must be None or a sequence of ints. Got {features!r} "
                "instead."
            )
        last = codes.shape[1] - 1
        chosen = [check_int("features", i, most=last) for i in features]
        codes = codes[:, np.array(chosen, dtype=np.int64)]
    codes = sparse.csc_array(codes).astype(np.float64)
    if len(codes.data) and codes.data.min() < 0:
        raise ValueError(
            f"codes must not be negative. Got {codes.data.min():g} in it instead."
        )
    known, place, counts = np.unique(token_ids, return_inverse=True, return_counts=True)
    n_rows = len(token_ids)
    is_token = sparse.csr_array(
        (np.ones(n_rows), (place.ravel(), np.arange(n_rows))),
        shape=(len(known), n_rows),
    )
    totals = sparse.csc_array(is_token @ codes)
    norms = np.sqrt(codes.power(2).sum(axis=0))
    sums = codes.sum(axis=0)
    shape = (codes.shape[1], n)
    table = Bunch(token_ids=np.full(shape, -1, dtype=np.int64))
    for name in ("cosine", "mean_activation", "lift", "share"):
        table[name] = np.zeros(shape)
    for i in range(shape[0]):
        span = slice(totals.indptr[i], totals.indptr[i + 1])
        at, total = totals.indices[span], totals.data[span]
        at, total = at[total > 0], total[total > 0]
        cosine = total / np.sqrt(counts[at]) / (norms[i] or 1.0)
        # Ties go to the lower token id.
        best = np.lexsort((at, -cosine))[:n]
        at, total = at[best], total[best]
        row = np.s_[i, : len(best)]
        table.token_ids[row] = known[at]
        table.cosine[row] = cosine[best]
        table.mean_activation[row] = total / counts[at]
        table.lift[row] = total / counts[at] * n_rows / (sums[i] or 1.0)
        table.share[row] = total / (sums[i] or 1.0)
    table.labels = _labels(table, decode)
    return table


def _labels(table: Bunch, decode: Any) -> list[str]:
    used = table.token_ids[table.token_ids >= 0]
    texts: dict[int, str | bytes] = {int(t): str(t) for t in used}
    if decode is not None:
        texts = token_texts(decode, used)
    labels = []
    for tokens, cosine in zip(table.token_ids, table.cosine, strict=True):
        names: dict[str, str] = {}
        for token, value in zip(tokens.tolist(), cosine, strict=True):
            if token >= 0 and value >= _LEAST_SHARE * cosine[0]:
                # The space before a word is no part of a label, unless it is all.
                name = visible(_without_spaces(texts[token]) or texts[token])
                names.setdefault(name.casefold(), name)
        labels.append("/".join(names.values()))
    return labels


def _without_spaces(text: str | bytes) -> str | bytes:
    return text.strip(" ") if isinstance(text, str) else text.strip(b" ")
