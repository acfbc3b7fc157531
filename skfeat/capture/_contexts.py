"""The passages in which a feature fires."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils import check_random_state

from skfeat.capture._checks import check_codes, check_vector, order_of_tokens
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
        The sequence that each passage comes from.
    position : ndarray of int, shape (n_contexts,)
        Position, in its sequence, of the token that the passage was chosen for.
    focus : ndarray of int, shape (n_contexts,)
        Index of that token in the passage.
    stratum : ndarray of int, shape (n_contexts,)
        The bin of activations that the passage was drawn from, 0 the weakest; -1 for
        the passages with the highest activations.
    effects : list of ndarray of float or None
        A second number at each token, see `with_effects`; nan where there is none.

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

    def with_effects(self, values: Any, sequence: Any, position: Any) -> Contexts:
        """Return the same passages with a second number at each token.

        Parameters
        ----------
        values : array-like of shape (n,)
            For example the `log_prob` of an :class:`AblationEffect`.
        sequence, position : array-like of int, shape (n,)
            The token that each value belongs to.

        Returns
        -------
        Contexts
            With `effects`, nan at tokens without a value.

        Raises
        ------
        ValueError
            If the arrays differ in length, or two values belong to one token.
        """
        values = check_vector("values", values, kinds="iuf")
        sequence = check_vector("sequence", sequence, len(values))
        position = check_vector("position", position, len(values))
        order_of_tokens(sequence, position)
        all_effects = []
        for i, tokens in enumerate(self.tokens):
            start = int(self.position[i]) - int(self.focus[i])
            index = position.astype(np.int64) - start
            inside = (sequence == self.sequence[i]) & (index >= 0)
            inside &= index < len(tokens)
            effects = np.full(len(tokens), np.nan)
            effects[index[inside]] = values[inside]
            all_effects.append(effects)
        return replace(self, effects=all_effects)


def activating_contexts(
    activations: Any,
    sequence: Any,
    position: Any,
    token_ids: Any,
    *,
    feature: int | None = None,
    n_top: int = 5,
    n_strata: int = 5,
    n_per_stratum: int = 1,
    before: int = 10,
    after: int = 5,
    random_state: Any = None,
) -> Contexts:
    """Find passages in which a feature fires, over the whole range of its activation.

    The passages with the highest activations alone flatter a feature: where it fires
    weakly it may mean something else. Passages are therefore also drawn from bins of
    equal width between zero and the largest activation [1]_.

    Parameters
    ----------
    activations : array-like of shape (n,), or matrix of shape (n, n_features)
        Activation of the feature at each token; or the activations of all features,
        dense or sparse, together with `feature`.
    sequence : array-like of int, shape (n,)
        The sequence that each token belongs to, as in a
        :class:`skfeat.capture.Capture`.
    position : array-like of int, shape (n,)
        The position of each token in its sequence.
    token_ids : array-like of int, shape (n,)
        The tokens.
    feature : int, default=None
        The column of `activations`, where they are a matrix.
    n_top : int, default=5
        Number of passages with the highest activations.
    n_strata : int, default=5
        Number of bins; empty bins give no passage.
    n_per_stratum : int, default=1
        Number of passages drawn at random from each bin.
    before, after : int, default=10 and 5
        Number of tokens before and after the token that a passage is chosen for.
    random_state : int, RandomState instance or None, default=None
        Determines the passages drawn from the bins.

    Returns
    -------
    Contexts
        The passages with the highest activations, then those of the bins, from the
        strongest bin to the weakest. There are fewer where the feature fires in fewer
        places.

    Raises
    ------
    ValueError
        If an argument is not valid, or two tokens have the same position.

    Notes
    -----
    A passage stays within its sequence, and ends where a position is missing, such as
    that of a special token that the capture left out. No token is shown twice:
    passages that overlap with an earlier one are skipped, and of several passages with
    the same tokens one is kept.

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
    token_ids = check_vector("token_ids", token_ids)
    n_rows = len(token_ids)
    sequence = check_vector("sequence", sequence, n_rows)
    position = check_vector("position", position, n_rows)
    values = _activations_of_one(activations, feature, n_rows)
    n_top, n_strata = check_int("n_top", n_top), check_int("n_strata", n_strata)
    n_per_stratum = check_int("n_per_stratum", n_per_stratum)
    before, after = check_int("before", before), check_int("after", after)
    random = check_random_state(random_state)

    order = order_of_tokens(sequence, position)
    passages = Passages(
        sequence[order], position[order], token_ids[order], before, after
    )
    return passages.contexts(values[order], (n_top, n_strata, n_per_stratum), random)


class Passages:
    """Rows in the order of the text, and which of them a passage already shows."""

    def __init__(
        self,
        sequence: np.ndarray,
        position: np.ndarray,
        token_ids: np.ndarray,
        before: int,
        after: int,
    ):
        self.sequence, self.position, self.token_ids = sequence, position, token_ids
        self.before, self.after = before, after
        joined = (np.diff(sequence) == 0) & (np.diff(position.astype(np.int64)) == 1)
        ends = np.flatnonzero(~joined) + 1
        self.bounds = np.concatenate([[0], ends, [len(sequence)]])
        self.shown = np.zeros(len(sequence), dtype=bool)
        self.seen: set[bytes] = set()

    def span(self, row: int) -> tuple[int, int]:
        """Return the first row of the passage around a row, and the one after it."""
        run = np.searchsorted(self.bounds, row, side="right")
        start = max(self.bounds[run - 1], row - self.before)
        return int(start), int(min(self.bounds[run], row + self.after + 1))

    def select(
        self,
        firing: np.ndarray,
        values: np.ndarray,
        counts: tuple[int, int, int],
        random: np.random.RandomState,
    ) -> list[tuple[int, int]]:
        """Select rows of one feature, each with its stratum, -1 for the strongest.

        Parameters
        ----------
        firing : ndarray of int
            Rows, in the order of the text, in which the feature fires.
        values : ndarray
            Its activations there, all above zero.
        counts : tuple of int
            ``n_top``, ``n_strata`` and ``n_per_stratum`` of `activating_contexts`.
        random : RandomState
        """
        n_top, n_strata, n_per_stratum = counts
        self.shown[:] = False
        self.seen.clear()
        strongest = firing[np.argsort(-values, kind="stable")]
        chosen = [(row, -1) for row in self.choose(strongest, n_top)]
        if n_strata and len(firing):
            share = values / values.max()
            bins = np.clip(np.ceil(share * n_strata) - 1, 0, n_strata - 1)
            for stratum in reversed(range(n_strata)):
                drawn = random.permutation(firing[bins == stratum])
                rows = self.choose(drawn, n_per_stratum)
                chosen += [(row, stratum) for row in rows]
        return chosen

    def contexts(
        self,
        values: np.ndarray,
        counts: tuple[int, int, int],
        random: np.random.RandomState,
    ) -> Contexts:
        """Return the passages of a feature by its activations, in the text's order."""
        firing = np.flatnonzero(values > 0)
        chosen = self.select(firing, values[firing], counts, random)
        spans = [self.span(row) for row, _ in chosen]
        focus = np.array([row for row, _ in chosen], dtype=np.int64)
        starts = np.array([start for start, _ in spans], dtype=np.int64)
        return Contexts(
            tokens=[self.token_ids[start:end] for start, end in spans],
            activations=[values[start:end] for start, end in spans],
            sequence=self.sequence[focus].astype(np.int64),
            position=self.position[focus].astype(np.int64),
            focus=focus - starts,
            stratum=np.array([stratum for _, stratum in chosen], dtype=np.int64),
        )

    def choose(self, candidates: Iterable[int], n: int) -> list[int]:
        """Choose the first `n` rows whose passages show something new."""
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


def _activations_of_one(activations: Any, feature: Any, n_rows: int) -> np.ndarray:
    """Return the activations of one feature as a dense vector of floats."""
    if not sparse.issparse(activations) and np.ndim(activations) == 1:
        if feature is not None:
            raise ValueError(
                "feature must be None where activations are a vector. Got "
                f"{feature!r} instead."
            )
        column = check_vector("activations", activations, n_rows, kinds="biuf")
        activations, feature = column[:, None], 0
    codes = check_codes("activations", activations, n_rows)
    if feature is None:
        raise ValueError(
            f"feature must be an int from 0 to {codes.shape[1] - 1} where activations "
            "are a matrix. Got None instead."
        )
    feature = check_int("feature", feature, most=codes.shape[1] - 1)
    values: Any = codes[:, [feature]]
    values = values.toarray() if sparse.issparse(values) else values
    return values.ravel().astype(np.float64)
