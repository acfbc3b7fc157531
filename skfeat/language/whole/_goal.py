"""What replacements keep of a model: its next-token distributions, or its last states.

A language model predicts the next token, and its loss is a cross-entropy. An encoder
gives a state for each token and no logits; what is lost of it is the squared error of
these states, as a share of their variance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from skfeat.capture._hooks import logits_of
from skfeat.language._predictions import prediction_losses

Batch = Any  # of _slots, which imports this module


@dataclass(frozen=True)
class Counted:
    """The tokens of a batch whose losses count.

    Parameters
    ----------
    mask : bool Tensor of shape (n_sequences, length or length - 1)
    targets : Tensor of shape (n_counted,) or (n_counted, d)
        The next tokens, or the model's own states.
    sequences : ndarray of int, shape (n_counted,)
    """

    mask: torch.Tensor
    targets: torch.Tensor
    sequences: np.ndarray


class NextTokens:
    """Keeps the distributions of the next token."""

    unit = "nats a token"

    def outputs(self, output: Any, batch: Batch) -> torch.Tensor:
        """Return the logits (n_sequences, length, n_tokens) of what the model gives."""
        return logits_of(output, batch.ids, batch.number).float()

    def check(self, output: Any, batch: Batch) -> None:
        """Raise ValueError unless the logits predict the next token."""
        batch.slotted.predictions.check(output, batch.tokens, batch.raw)

    def targets(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the log-probabilities of logits (n, n_tokens)."""
        return rows.log_softmax(dim=1)

    def loss(self, rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the KL divergence of logits (n, n_tokens) from the targets."""
        return torch.nn.functional.kl_div(
            rows.log_softmax(dim=1), targets, reduction="batchmean", log_target=True
        )

    def counted(self, batch: Batch, outputs: torch.Tensor) -> Counted:
        """Return where a real token is predicted, and which it is."""
        known = batch.kept_tokens()
        counted = known[:, 1:] & batch.present.numpy()[:, :-1]
        targets = torch.from_numpy(np.ascontiguousarray(batch.ids[:, 1:]))
        mask = torch.from_numpy(counted)
        return Counted(mask, targets[mask].long(), np.nonzero(counted)[0])

    def losses(self, outputs: torch.Tensor, counted: Counted) -> np.ndarray:
        """Return the cross-entropies (n_counted,) in nats."""
        return prediction_losses(outputs, counted.mask, counted.targets)


class LastStates:
    """Keeps the last hidden state of each token."""

    unit = "share of the variance of last states"

    def outputs(self, output: Any, batch: Batch) -> torch.Tensor:
        """Return the states (n_sequences, length, d) of what the model gives."""
        states = _last_states(output)
        assert states is not None
        if states.shape[:-1] != batch.ids.shape:
            raise ValueError(
                f"model must return a last_hidden_state of shape "
                f"{(*batch.ids.shape, 'd')} for batch {batch.number}. Got "
                f"{tuple(states.shape)} instead."
            )
        return states.float()

    def check(self, output: Any, batch: Batch) -> None:
        """Accept all states that there are."""
        self.outputs(output, batch)

    def targets(self, rows: torch.Tensor) -> torch.Tensor:
        """Return the states (n, d) themselves."""
        return rows

    def loss(self, rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Return the mean squared error of states, as a share of their variance."""
        return _errors(rows, targets).mean()

    def counted(self, batch: Batch, outputs: torch.Tensor) -> Counted:
        """Return where a real token is, and the model's own state there."""
        known = batch.kept_tokens() & batch.present.numpy()
        mask = torch.from_numpy(known)
        targets = outputs[mask.to(outputs.device)]
        return Counted(mask, targets, np.nonzero(known)[0])

    def losses(self, outputs: torch.Tensor, counted: Counted) -> np.ndarray:
        """Return the errors (n_counted,), as shares of the variance in the batch."""
        rows = outputs[counted.mask.to(outputs.device)]
        return _errors(rows, counted.targets).double().cpu().numpy()


Goal = NextTokens | LastStates


def goal_of(output: Any) -> Goal:
    """Return what is to be kept of a model that gives such an output."""
    if _logits(output) is None and _last_states(output) is not None:
        return LastStates()
    return NextTokens()


def _logits(output: Any) -> Any:
    return _named(output, "logits")


def _last_states(output: Any) -> torch.Tensor | None:
    states = _named(output, "last_hidden_state")
    return states if torch.is_tensor(states) and states.ndim > 1 else None


def _named(output: Any, name: str) -> Any:
    found = getattr(output, name, None)
    return output.get(name) if found is None and isinstance(output, Mapping) else found


def _errors(rows: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    variance = (targets - targets.mean(dim=0)).square().sum(dim=1).mean()
    tiny = torch.finfo(variance.dtype).tiny
    return (rows - targets).square().sum(dim=1) / variance.clamp_min(tiny)
