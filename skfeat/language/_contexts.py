"""The passages in which a feature fires."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse
from sklearn.utils import check_random_state

from skfeat.language._checks import check_codes, check_column, check_places
from skfeat.utils._checks import check_int


@dataclass(frozen=True, eq=False, repr=False)
class Contexts:
    """Passages in which one feature fires, as `activating_contexts` returns them.

    Parameters
    ----------
    tokens : list of ndarray of int
        The token ids of each passage.
    activations : list of ndarray of float
        The feature's activation at each token.
    sequence : ndarray of int, shape (n_contexts,)
        Which sequence a passage comes from.
    position : ndarray of int, shape (n_contexts,)
        The place in its sequence of the token that the passage was chosen for.
    focus : ndarray of int, shape (n_contexts,)
        The place of that token in the passage.
    stratum : ndarray of int, shape (n_contexts,)
        The bin of the activation that the passage was drawn from, 0 the weakest; -1
        for those of the highest activations.
    effects : list of ndarray of float or None
        Another number at each token, see `with_effects`; nan where there is none.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.language import Contexts
    >>> Contexts(
    ...     tokens=[np.array([3, 5])],
    ...     activations=[np.array([0.0, 1.5])],
    ...     sequence=np.array([0]),
    ...     position=np.array([7]),
    ...     focus=np.array([1]),
    ...     stratum=np.array([-1]),
    ... )
    Contexts(1 of 2 tokens, activations up to 1.5)
    """

    tokens: list[np.ndarray]
    activations: list[np.ndarray]
    sequence: np.ndarray
    position: np.ndarray
    focus: np.ndarray
    stratum: np.ndarray
    effects: list[np.ndarray] | None = None

    def __len__(self) -> int:
        return len(self.tokens)

    def __repr__(self) -> str:
        if not len(self):
            return "Contexts(none)"
        lengths = sorted({len(tokens) for tokens in self.tokens})
        span = str(lengths[0]) if len(lengths) == 1 else f"{lengths[0]}-{lengths[-1]}"
        peak = max(values.max() for values in self.activations)
        return f"Contexts({len(self)} of {span} tokens, activations up to {peak:.3g})"

    def with_effects(self, values, sequence, position) -> Contexts:
        """Return the same passages with another number at each token.

        Parameters
        ----------
        values : array-like of shape (n,)
            For example the `log_prob` of an :class:`AblationEffect`.
        sequence, position : array-like of int, shape (n,)
            Which token each value belongs to.

        Returns
        -------
        Contexts
            With `effects`, nan at tokens without a value.

        Raises
        ------
        ValueError
            If the arrays are not of one length, or two values belong to one token.
        """
        values = check_column("values", values, kind="iuf")
        sequence = check_column("sequence", sequence, len(values))
        position = check_column("position", position, len(values))
        check_places(sequence, position)
        found = []
        for i, tokens in enumerate(self.tokens):
            start = int(self.position[i]) - int(self.focus[i])
            places = position.astype(np.int64) - start
            here = (sequence == self.sequence[i]) & (places >= 0)
            here &= places < len(tokens)
            effects = np.full(len(tokens), np.nan)
            effects[places[here]] = values[here]
            found.append(effects)
        return replace(self, effects=found)


def activating_contexts(
    activations,
    sequence,
    position,
    token_ids,
    *,
    feature=None,
    n_top=5,
    n_strata=5,
    n_per_stratum=1,
    before=10,
    after=5,
    random_state=None,
) -> Contexts:
    """Find passages in which a feature fires: strongest, and over its whole range.

    The strongest alone flatter a feature: what it means where it fires weakly may be
    something else. So passages are also drawn from bins of equal width between zero
    and the largest activation [1]_.

    Parameters
    ----------
    activations : array-like of shape (n,), or matrix of shape (n, n_features)
        Activation of the feature at each token; or those of all features, dense or
        sparse, with `feature`.
    sequence : array-like of int, shape (n,)
        Which sequence each token belongs to, as a :class:`skfeat.capture.Capture`
        holds it.
    position : array-like of int, shape (n,)
        The place of each token in its sequence.
    token_ids : array-like of int, shape (n,)
        The tokens.
    feature : int, default=None
        The column of a matrix.
    n_top : int, default=5
        Number of passages of the highest activations.
    n_strata : int, default=5
        Number of bins; from empty ones nothing is drawn.
    n_per_stratum : int, default=1
        Number of passages drawn at random from each bin.
    before, after : int, default=10 and 5
        Number of tokens shown on both sides of the one that a passage is chosen for.
    random_state : int, RandomState instance or None, default=None
        Draws the passages of the bins.

    Returns
    -------
    Contexts
        The strongest first, then those of the bins, from the strongest bin to the
        weakest. Fewer than asked for where the feature fires in fewer places.

    Raises
    ------
    ValueError
        If an argument is not as described, or two tokens have the same place.

    Notes
    -----
    A passage never leaves its sequence, and ends where a position is missing, such as
    that of a special token that a capture has left out. No token is shown twice: what
    would overlap with a passage that is chosen already is left out, and of passages of
    the same tokens there is one.

    References
    ----------
    .. [1] T. Bricken et al., "Towards Monosemanticity: Decomposing Language Models With
       Dictionary Learning", 2023, section on feature activation intervals.

    Examples
    --------
    >>> from skfeat.language import activating_contexts
    >>> contexts = activating_contexts(
    ...     [0.0, 2.0, 0.0, 0.0, 0.5, 0.0],
    ...     sequence=[0, 0, 0, 1, 1, 1],
    ...     position=[0, 1, 2, 0, 1, 2],
    ...     token_ids=[11, 12, 13, 14, 15, 16],
    ...     n_top=1, n_strata=4, before=1, after=0, random_state=0,
    ... )
    >>> [tokens.tolist() for tokens in contexts.tokens]
    [[11, 12], [14, 15]]
    >>> contexts.stratum
    array([-1,  0])
    """
    token_ids = check_column("token_ids", token_ids)
    n_rows = len(token_ids)
    sequence = check_column("sequence", sequence, n_rows)
    position = check_column("position", position, n_rows)
    values = _one_feature(activations, feature, n_rows)
    n_top, n_strata = check_int("n_top", n_top), check_int("n_strata", n_strata)
    n_per_stratum = check_int("n_per_stratum", n_per_stratum)
    before, after = check_int("before", before), check_int("after", after)
    random = check_random_state(random_state)

    order = check_places(sequence, position)
    sequence, position, token_ids = sequence[order], position[order], token_ids[order]
    rows = _Passages(sequence, position, token_ids, before, after)
    values = values[order]
    firing = np.flatnonzero(values > 0)
    strongest = firing[np.argsort(-values[firing], kind="stable")]
    chosen = [(row, -1) for row in rows.choose(strongest, n_top)]
    if n_strata and len(firing):
        share = values[firing] / values[firing].max()
        bins = np.clip(np.ceil(share * n_strata) - 1, 0, n_strata - 1)
        for stratum in reversed(range(n_strata)):
            drawn = random.permutation(firing[bins == stratum])
            chosen += [(row, stratum) for row in rows.choose(drawn, n_per_stratum)]
    spans = [rows.span(row) for row, _ in chosen]
    at = np.array([row for row, _ in chosen], dtype=np.int64)
    starts = np.array([start for start, _ in spans], dtype=np.int64)
    return Contexts(
        tokens=[rows.token_ids[slice(*span)] for span in spans],
        activations=[values[slice(*span)] for span in spans],
        sequence=rows.sequence[at].astype(np.int64),
        position=rows.position[at].astype(np.int64),
        focus=at - starts,
        stratum=np.array([stratum for _, stratum in chosen], dtype=np.int64),
    )


class _Passages:
    """Rows in order, and which of them are shown already."""

    def __init__(self, sequence, position, token_ids, before, after):
        self.sequence, self.position, self.token_ids = sequence, position, token_ids
        self.before, self.after = before, after
        joined = (np.diff(sequence) == 0) & (np.diff(position.astype(np.int64)) == 1)
        ends = np.flatnonzero(~joined) + 1
        self.bounds = np.concatenate([[0], ends, [len(sequence)]])
        self.shown = np.zeros(len(sequence), dtype=bool)
        self.seen: set[bytes] = set()

    def span(self, row) -> tuple[int, int]:
        """Return where the passage around a row starts and where it has ended."""
        run = np.searchsorted(self.bounds, row, side="right")
        start = max(self.bounds[run - 1], row - self.before)
        return int(start), int(min(self.bounds[run], row + self.after + 1))

    def choose(self, candidates: Iterable[int], n: int) -> list[int]:
        """Take the first `n` rows whose passages show something new."""
        chosen: list[int] = []
        for row in candidates:
            if len(chosen) == n:
                break
            if self.shown[row]:
                continue
            start, end = self.span(row)
            passage = self.token_ids[start:end].tobytes()
            if passage not in self.seen and not self.shown[start:end].any():
                self.seen.add(passage)
                self.shown[start:end] = True
                chosen.append(int(row))
        return chosen


def _one_feature(activations, feature, n_rows) -> np.ndarray:
    """Return the activations of one feature as a dense vector of floats."""
    if not sparse.issparse(activations) and np.ndim(activations) == 1:
        if feature is not None:
            raise ValueError(
                f"feature must be None where activations are those of one feature. Got "
                f"{feature!r} instead."
            )
        column = check_column("activations", activations, n_rows, kind="biuf")
        activations, feature = column[:, None], 0
    codes = check_codes("activations", activations, n_rows)
    if feature is None:
        raise ValueError(
            "feature must name a column where activations are a matrix, an int from 0 "
            f"to {codes.shape[1] - 1}. Got None instead."
        )
    feature = check_int("feature", feature, most=codes.shape[1] - 1)
    values = codes[:, [feature]]
    values = values.toarray() if sparse.issparse(values) else values
    return values.ravel().astype(np.float64)
