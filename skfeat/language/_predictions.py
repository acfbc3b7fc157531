"""Which tokens the logits of a model predict, found by changing some of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from skfeat.capture._config import reserved_tokens_of
from skfeat.capture._hooks import logits_of
from skfeat.capture._probe import (
    OWN_SHARE,
    Change,
    changes_of,
    edit_of,
    moved_at,
    noise_of,
    rows_changed,
    unchanged,
)
from skfeat.capture._reader import ActivationReader
from skfeat.capture._streams import Stream
from skfeat.capture._tokens import Tokens

# Predictions whose distributions over the vocabulary are in memory at a time.
_PREDICTIONS = 1024


def prediction_losses(
    logits: torch.Tensor, counted: torch.Tensor, targets: torch.Tensor
) -> np.ndarray:
    """Return the cross-entropy of each counted prediction.

    Parameters
    ----------
    logits : Tensor of shape (n_sequences, length, n_tokens)
    counted : bool Tensor of shape (n_sequences, length - 1)
        Which tokens, but the last of a sequence, predict one that counts.
    targets : int Tensor of shape (n_counted,)
        The tokens that follow these.
    """
    logits = logits[:, :-1][counted.to(logits.device)]
    targets = targets.to(logits.device)
    losses = [
        cross_entropy(
            logits[start : start + _PREDICTIONS].float(),
            targets[start : start + _PREDICTIONS],
            reduction="none",
        )
        for start in range(0, len(targets), _PREDICTIONS)
    ]
    return torch.cat(losses).double().cpu().numpy()


class Predictions:
    """Checks once that a model predicts each token from the ones before it.

    The logits at a position predict the next token if they depend on the token at this
    position, and on none that follows. Those of a masked language model depend on all
    tokens: their loss on the next one says nothing, as the model has seen it.

    Parameters
    ----------
    reader : ActivationReader
        Runs the model.
    """

    def __init__(self, reader: ActivationReader):
        self.reader = reader
        self.is_checked = False

    def check(self, output: Any, tokens: Tokens, batch: Any) -> Stream:
        """Return the tokens that the model predicts.

        Parameters
        ----------
        output : object
            What the model returned for the batch.
        tokens : Tokens
            What the arguments of the batch hold.
        batch : object
            The batch, to run the model again.

        Raises
        ------
        ValueError
            If the logits do not predict the next token.
        """
        texts = [stream for stream in tokens.streams if stream.ids is not None]
        decoded = [s for s in texts if s.is_decoded]
        named = [s for s in texts if s.name == "input_ids"]
        stream = (decoded or named or texts)[0]
        if not self.is_checked:
            self._check(output, tokens, batch, stream)
        return stream

    def _check(self, output: Any, tokens: Tokens, batch: Any, stream: Stream) -> None:
        assert stream.ids is not None
        number, reader = tokens.number, self.reader
        before = logits_of(output, stream.ids, number)
        reserved = reserved_tokens_of(reader.model)
        change = changes_of(stream, reserved)[0]
        first = int(change.positions[0]) if change.positions is not None else 0
        if stream.shape[1] < 2 or first == 0:
            return  # Nothing comes before: another batch may tell.
        edit = edit_of(stream, change, reserved)
        try:
            with unchanged(reader.model):
                again = reader.rerun(batch, number, edit, [])
        except ValueError:
            return
        after = logits_of(again, stream.ids, number)
        moved = rows_changed(before, after)
        self.is_checked = bool(moved.any())
        if self.is_checked:
            self._judge(moved_at(moved, stream.shape, None), change, number)

    def _judge(self, moved: np.ndarray, change: Change, number: int) -> None:
        """Raise ValueError unless logits from the first changed token on change."""
        assert change.positions is not None
        own, first = moved[change.sequence], int(change.positions[0])
        if own.sum() < OWN_SHARE * moved.sum():
            raise ValueError(
                "model must return logits of shape (n_sequences, length, vocabulary), "
                f"those of one sequence from this sequence alone. In batch {number} "
                "they change with another sequence."
            )
        changes = np.flatnonzero(own > noise_of(moved, change))
        if changes[0] < first:
            raise ValueError(
                "model must predict each token from the ones before it, as causal "
                f"language models do. In batch {number} its logits depend on later "
                "tokens, as those of a masked language model (such as BERT) do: it has "
                "seen what it would have to predict."
            )
        if changes[0] > first:
            raise ValueError(
                "model must return logits that predict the next token. In batch "
                f"{number} they do not depend on the token at their own position, as "
                "if the model had shifted them: return them unshifted."
            )
