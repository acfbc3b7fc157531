"""The loss with each replacement of a module's output, as a table with noise."""

from __future__ import annotations

from typing import Self

import numpy as np

from skfeat.metrics._noise import paired_noise
from skfeat.utils._shown import Part
from skfeat.utils._table import Table, titled_columns

_FLOORS = ("zero", "mean")
_WITHIN_NOISE = "floor within noise"
_TITLES = {
    "replacement": ("replacement", "what stands in for the module's output"),
    "loss": ("loss", "mean cross-entropy of the next token, in nats"),
    "recovered_zero": (
        "recovered (zero)",
        "share kept of what the module does to the loss, counted from zero",
    ),
    "recovered_mean": ("recovered (mean)", "the same, counted from its mean"),
}


class ReplacementLoss(Table):
    """Columns with one value for each replacement of a module's output.

    ``table.to_frame()`` turns it into a data frame; printing it, or ending a notebook
    cell with it, shows a table.

    Parameters
    ----------
    noise : dict of str to float
        As the attribute.
    **columns : list
        The columns.

    Attributes
    ----------
    replacement : list of str
        "original": nothing is replaced. "reconstruction": the output's own autoencoder
        encodes and decodes it. "dense", "sparse" and, where the pair has one,
        "nonlinear": that connector predicts the output's features from the input
        features, and the autoencoder decodes them. "mean": the mean of the fitted rows.
        "zero": zero.
    loss : list of float
        Mean cross-entropy of the next token, in nats.
    recovered_zero, recovered_mean : list of float
        The share of the module's effect on the loss that the replacement keeps: (loss
        of zero - loss) / (loss of zero - original loss), and the same for the mean. It
        is 1 for the original and 0 for zero or the mean; nan if replacing the output by
        zero, or by the mean, changes the loss by no more than its noise, as the ratio
        would then be of noise over noise.
    n_predictions : list of int
        Number of predicted tokens, the same in each row.
    noise : dict of str to float
        Of each replacement, half the width of the 95 % confidence interval of its loss
        minus the original one, which is taken sequence by sequence; see
        :func:`skfeat.metrics.paired_noise`. The tokens of a single sequence count as
        independent. No column of the data frame; empty if it is not known.
    floors_within_noise : list of str
        Which of "zero" and "mean" change the loss by no more than their noise.

    Examples
    --------
    >>> from skfeat.language import ReplacementLoss
    >>> table = ReplacementLoss.from_losses({"original": 2.0, "mean": 3, "zero": 4}, 10)
    >>> print(table)
    replacement    loss  recovered (zero)  recovered (mean)
    original     2.0000            1.0000            1.0000
    mean         3.0000            0.5000            0.0000
    zero         4.0000            0.0000           -1.0000
    replacement: what stands in for the module's output; loss: mean cross-entropy of ...
    recovered (zero): share kept of what the module does to the loss, counted from ...

    Replacing the output by zero changes the loss by 0.01, less than the noise:

    >>> losses = {"original": 2.0, "sparse": 2.2, "mean": 3.0, "zero": 2.01}
    >>> noise = {"sparse": 0.1, "mean": 0.1, "zero": 0.1}
    >>> table = ReplacementLoss.from_losses(losses, 10, noise)
    >>> table.floors_within_noise, table.recovered_zero[1]
    (['zero'], nan)
    """

    noise: dict[str, float]

    def __init__(self, noise: dict[str, float] | None = None, **columns: list):
        super().__init__({"noise": dict(noise or {})}, columns)

    @property
    def floors_within_noise(self) -> list[str]:
        """Floors, of "zero" and "mean", that change the loss by no more than noise."""
        losses = dict(zip(self["replacement"], self["loss"], strict=True))
        return [floor for floor in _FLOORS if _is_noise(losses, floor, self.noise)]

    @classmethod
    def from_losses(
        cls,
        losses: dict[str, float],
        n_predictions: int,
        noise: dict[str, float] | None = None,
    ) -> Self:
        """Compute the recovered shares from the losses.

        Parameters
        ----------
        losses : dict of str to float
            The loss with each replacement, including "original", "mean" and "zero".
        n_predictions : int
            Number of predicted tokens.
        noise : dict of str to float, default=None
            The noise of each loss minus the original one; ``None`` means that it is not
            known.

        Returns
        -------
        ReplacementLoss
        """
        names = list(losses)

        def recovered(floor: str) -> list[float]:
            if _is_noise(losses, floor, noise):
                return [np.nan] * len(names)
            span = losses[floor] - losses["original"]
            return [(losses[floor] - losses[name]) / span for name in names]

        return cls(
            noise,
            replacement=names,
            loss=[float(losses[name]) for name in names],
            recovered_zero=recovered("zero"),
            recovered_mean=recovered("mean"),
            n_predictions=[n_predictions] * len(names),
        )

    def _parts(self) -> list[Part]:
        within = self.floors_within_noise
        silent = [f"recovered_{floor}" for floor in within]

        def cells(name: str) -> list[str]:
            write = (lambda _: _WITHIN_NOISE) if name in silent else _text
            return [*map(write, self[name])]

        columns = titled_columns(_TITLES, cells)
        return [columns, *map(self._line_of_noise, within)]

    def _line_of_noise(self, floor: str) -> str:
        losses = dict(zip(self["replacement"], self["loss"], strict=True))
        change = losses[floor] - losses["original"]
        noise = f"{self.noise[floor]:.2g}" if floor in self.noise else "unknown"
        return (
            f"{_WITHIN_NOISE}: replaced by {floor}, the module's output changes the "
            f"loss by {change:+.2g}, and the noise is {noise} (95 %, over sequences)"
        )


def _text(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.4f}"


def _is_noise(
    losses: dict[str, float], floor: str, noise: dict[str, float] | None
) -> bool:
    span = losses[floor] - losses["original"]
    return abs(span) <= (noise or {}).get(floor, 0.0)


class Losses:
    """Sums of losses, and of their differences from the original by sequence."""

    def __init__(self, names: list[str]):
        self.sums, self.n_predictions = dict.fromkeys(names, 0.0), 0
        self.sizes: list[np.ndarray] = []
        self.differences: dict[str, list[np.ndarray]] = {name: [] for name in names}
        self.last: dict[str, np.ndarray] = {}  # differences of the last predictions

    def add(self, sequences: np.ndarray, losses: dict[str, np.ndarray]) -> None:
        """Add the losses of predictions in sequences that are numbered from 0."""
        sizes = np.bincount(sequences)
        self.n_predictions += len(sequences)
        self.sizes.append(sizes[sizes > 0])
        for name, values in losses.items():
            self.sums[name] += float(values.sum())
            self.last[name] = values - losses["original"]
            by_sequence = np.bincount(sequences, self.last[name])
            self.differences[name].append(by_sequence[sizes > 0])

    def means(self) -> dict[str, float]:
        """Return the mean loss with each replacement."""
        return {name: total / self.n_predictions for name, total in self.sums.items()}

    def noise(self, name: str) -> float:
        """Return the noise of a loss minus the original one, at least its rounding."""
        sizes: np.ndarray | None = np.concatenate(self.sizes)
        differences = np.concatenate(self.differences[name])
        if len(differences) == 1:
            differences, sizes = self.last[name], None
        if not np.isfinite(differences).all():
            return np.nan
        # The model computes in float32, or with fewer digits.
        rounding = float(np.finfo(np.float32).eps) * self.means()["original"]
        return max(paired_noise(differences, sizes), rounding)
