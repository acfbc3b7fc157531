"""The passages that a page of a layer pair holds."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from skfeat.capture._capture import Capture
from skfeat.capture._checks import order_of_tokens
from skfeat.capture._contexts import Passages
from skfeat.explorer._statistics import Statistics, stored_codes
from skfeat.inspection._token_text import token_texts, visible

_BEFORE, _AFTER = 10, 5


class PassageStore:
    """Passages of a captured text, and the activations of a feature in each."""

    def __init__(self, capture: Capture, decode: Any):
        tokens = np.asarray(capture.token_ids)
        self.order = order_of_tokens(capture.sequence, capture.position)
        self.place = np.empty(len(tokens), np.int64)
        self.place[self.order] = np.arange(len(tokens))
        self.sequence = capture.sequence[self.order]
        self.position = capture.position[self.order]
        self.tokens = tokens[self.order]
        self.texts = token_texts(decode, np.unique(tokens))
        self.passages = Passages(
            self.sequence, self.position, self.tokens, _BEFORE, _AFTER
        )
        self.rows: list[int] = []
        self.values: list[np.ndarray] = []

    def choose(
        self,
        codes: sparse.csc_array,
        found: Statistics,
        n: int,
        random: np.random.RandomState,
    ) -> None:
        """Choose passages of each feature, and write their numbers into `found`.

        They are those of `activating_contexts`, with `n` of the strongest and one of
        each of `n` strata.
        """
        ordered = sparse.csc_array(sparse.csr_array(codes)[self.order])
        ordered.sort_indices()
        found.n_top = n
        found.rows = np.full((codes.shape[1], 2 * n), -1)
        found.values = np.zeros(found.rows.shape)
        for j in range(codes.shape[1]):
            firing, values = stored_codes(ordered, j)
            firing, values = firing[values > 0], values[values > 0]
            n_top = 0
            for row, stratum in self.passages.select(firing, values, (n, n, 1), random):
                column = 2 * n - 1 - stratum if stratum >= 0 else n_top
                n_top += stratum < 0
                found.rows[j, column] = len(self.rows)
                found.values[j, column] = values[np.searchsorted(firing, row)]
                self._add(row, firing, values / found.high[j])

    def around(self, row: int) -> tuple[int, str]:
        """Return the number of a passage around a row of the capture, and its token."""
        at = int(self.place[row])
        self._add(at, np.empty(0, int), np.empty(0))
        return len(self.rows) - 1, visible(self.texts[int(self.tokens[at])])

    def _add(self, row: int, firing: np.ndarray, shares: np.ndarray) -> None:
        start, end = self.passages.span(row)
        inside = slice(*np.searchsorted(firing, (start, end)))
        values = np.zeros(end - start, np.uint8)
        # Rounded up: what fires is never shown as silent.
        values[firing[inside] - start] = np.ceil(255 * shares[inside])
        self.rows.append(row)
        self.values.append(values)

    def describe(self) -> dict[str, Any]:
        """Return the passages as `Explorer.examples`; each token once."""
        spans = np.array([self.passages.span(row) for row in self.rows]).reshape(-1, 2)
        used = np.zeros(len(self.tokens) + 1, int)
        np.add.at(used, spans[:, 0], 1)
        np.add.at(used, spans[:, 1], -1)
        kept = np.cumsum(used[:-1]) > 0
        offset = np.cumsum(kept) - 1
        known, stream = np.unique(self.tokens[kept], return_inverse=True)
        length = spans[:, 1] - spans[:, 0]
        rows = np.array(self.rows, dtype=np.int64)
        return {
            "kind": "tokens",
            "labels": None,
            "classes": [],
            "vocabulary": [visible(self.texts[token]) for token in known.tolist()],
            "stream": stream.ravel(),
            "offset": offset[spans[:, 0]],
            "length": length,
            "starts": np.cumsum(length) - length,
            "focus": rows - spans[:, 0],
            "sequence": self.sequence[rows],
            "position": self.position[rows],
            "values": np.concatenate([np.empty(0, np.uint8), *self.values]),
        }
