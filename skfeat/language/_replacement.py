"""The loss of a language model that runs on the features of one of its MLPs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Self

import numpy as np
import torch
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted
from torch import nn
from torch.nn.functional import cross_entropy

from skfeat.capture._hooks import logits_of, put_tensor, tensor_of
from skfeat.capture._reader import ActivationReader, check_batches
from skfeat.language._layer_pair import LayerPair
from skfeat.metrics._noise import paired_noise
from skfeat.utils._table import write_columns

# Predictions whose distributions over the vocabulary are in memory at a time.
_PREDICTIONS = 1024

_FLOORS = ("zero", "mean")
_WITHIN_NOISE = "floor within noise"
_TITLES = {
    "replacement": "replacement",
    "loss": "loss",
    "recovered_zero": "recovered (zero)",
    "recovered_mean": "recovered (mean)",
}


class ReplacementLoss(Bunch):
    """Columns with one value for each replacement of a module's output.

    ``pandas.DataFrame(table)`` turns it into a data frame; printing it shows a table.

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

    Replacing the output by zero changes the loss by 0.01, less than the noise:

    >>> losses = {"original": 2.0, "sparse": 2.2, "mean": 3.0, "zero": 2.01}
    >>> noise = {"sparse": 0.1, "mean": 0.1, "zero": 0.1}
    >>> table = ReplacementLoss.from_losses(losses, 10, noise)
    >>> table.floors_within_noise, table.recovered_zero[1]
    (['zero'], nan)
    """

    noise: dict[str, float]

    def __init__(self, noise: dict[str, float] | None = None, **columns: list):
        super().__init__(**columns)
        # Kept out of the Bunch: a data frame shall have the columns alone.
        self.__dict__["noise"] = dict(noise or {})

    def __reduce__(self) -> tuple:
        return _restored, (type(self), self.noise, dict(self))

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

    def __str__(self) -> str:
        within = self.floors_within_noise
        columns = {
            title: [v if isinstance(v, str) else f"{v:.4f}" for v in self[name]]
            for name, title in _TITLES.items()
        }
        for floor in within:
            title = _TITLES[f"recovered_{floor}"]
            columns[title] = [_WITHIN_NOISE] * len(columns[title])
        lines = write_columns(columns, _TITLES["replacement"])
        return "\n".join([*lines, *map(self._line_of_noise, within)])

    def _line_of_noise(self, floor: str) -> str:
        losses = dict(zip(self["replacement"], self["loss"], strict=True))
        change = losses[floor] - losses["original"]
        noise = f"{self.noise[floor]:.2g}" if floor in self.noise else "unknown"
        return (
            f"{_WITHIN_NOISE}: replaced by {floor}, the module's output changes the "
            f"loss by {change:+.2g}, and the noise is {noise} (95 %, over sequences)"
        )


def _restored(
    kind: type[ReplacementLoss], noise: dict[str, float], columns: dict[str, list]
) -> ReplacementLoss:
    return kind(noise, **columns)


def _is_noise(
    losses: dict[str, float], floor: str, noise: dict[str, float] | None
) -> bool:
    span = losses[floor] - losses["original"]
    return abs(span) <= (noise or {}).get(floor, 0.0)


def replacement_loss(
    model: nn.Module,
    batches: Iterable[Any],
    module: str,
    pair: LayerPair,
    *,
    source: str,
    source_what: str = "output",
    index: int | None = None,
    source_index: int | None = None,
    special_tokens: Any = "auto",
) -> ReplacementLoss:
    """Measure a causal language model with the output of a module replaced.

    Rows are replaced where `skfeat.capture.capture` keeps them: not at padding and not
    at special tokens, as the pair was not fitted to these rows. A token counts if the
    rows of the token and of the one before it, which predicts it, are both replaced.

    The model runs in evaluation mode, without gradients and on its own device, and is
    left unchanged.

    Parameters
    ----------
    model : torch.nn.Module
        Returns logits of shape (n_sequences, length, vocabulary): as a tensor, as the
        attribute or entry ``logits``, or as the first tensor of a tuple.
    batches : iterable
        Held-out batches with token ids, as `skfeat.capture.capture` takes them.
    module : str
        Name of the module whose output is replaced, for example
        ``gpt_neox.layers.2.mlp``.
    pair : LayerPair
        Fitted to the rows of `source` and `module`.
    source : str
        Name of the module where the input features are read, for example
        ``gpt_neox.layers.1``. It runs before `module`, or is `module` with
        ``source_what="input"``.
    source_what : {"output", "input"}, default="output"
        The side of `source` to read.
    index : int, default=None
        Index of the tensor to replace, where the output of `module` holds several;
        ``None`` takes the first one.
    source_index : int, default=None
        Index of the tensor to read, where `source` has several.
    special_tokens : "auto", None or sequence of int, default="auto"
        As for `skfeat.capture.capture`.

    Returns
    -------
    ReplacementLoss
        The loss with each replacement, and the shares that it recovers.

    Raises
    ------
    TypeError
        If `model` is not a module, `batches` is a single batch, or `pair` is not a
        LayerPair.
    ValueError
        If a parameter is not valid, a module does not exist or does not run exactly
        once, `source` runs after `module`, the pair was fitted to rows of other widths,
        or the model returns no logits.

    Examples
    --------
    >>> import torch
    >>> from skfeat import SparseAutoencoder
    >>> from skfeat.capture import capture
    >>> from skfeat.language import LayerPair, replacement_loss
    >>> _ = torch.manual_seed(0)
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Embedding(50, 8), torch.nn.Linear(8, 8), torch.nn.Linear(8, 50)
    ... )
    >>> batches = [torch.randint(50, (4, 32)) for _ in range(8)]
    >>> rows = capture(model, batches, ["0", "1"]).activations
    >>> part = SparseAutoencoder(16, k=4, max_iter=50)
    >>> pair = LayerPair(part, part, min_events=10, random_state=0)
    >>> pair = pair.fit(rows["0"], rows["1"])
    >>> table = replacement_loss(model, batches, "1", pair, source="0")
    >>> table.replacement
    ['original', 'reconstruction', 'dense', 'sparse', 'mean', 'zero']
    >>> table.n_predictions[0]
    992
    """
    if not isinstance(pair, LayerPair):
        raise TypeError(f"pair must be a LayerPair. Got {pair!r} instead.")
    check_is_fitted(pair)
    make_reader = partial(
        ActivationReader,
        model,
        dtype="float32",
        keep_padding=False,
        special_tokens=special_tokens,
    )
    reader = make_reader(module, what="output", index=index)
    source_reader = make_reader(source, what=source_what, index=source_index)
    check_batches(batches)
    names = ["original", *_replacements(pair)]
    losses = _Losses(names)
    for number, batch in enumerate(batches):
        run = _Run(reader, source_reader, batch, number)
        run.check_widths(pair)
        if not run.counted.any():
            continue
        of_batch = {"original": run.losses()}
        for name, replace in _replacements(pair).items():
            of_batch[name] = run.losses(replace(run.source_rows, run.rows))
        losses.add(run.sequences, of_batch)
    if losses.n_predictions == 0:
        raise ValueError(
            "batches hold nothing to predict: no kept token follows another one."
        )
    noise = {name: losses.noise(name) for name in names}
    return ReplacementLoss.from_losses(losses.means(), losses.n_predictions, noise)


def _replacements(
    pair: LayerPair,
) -> dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]]:
    """Return functions that compute new rows from those of the source and the old."""

    def predict_with(connector: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        return lambda source, rows: pair.predict(source, connector)

    fitted = pair.connectors()
    connectors = [name for name in ("dense", "sparse", "nonlinear") if name in fitted]
    return {
        "reconstruction": lambda source, rows: pair.reconstruct(rows),
        **{name: predict_with(name) for name in connectors},
        "mean": lambda source, rows: np.broadcast_to(pair.output_mean_, rows.shape),
        "zero": lambda source, rows: np.zeros_like(rows),
    }


class _Losses:
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


class _Run:
    """The model's run on a batch, and its losses with other rows."""

    def __init__(
        self,
        reader: ActivationReader,
        source_reader: ActivationReader,
        batch: Any,
        number: int,
    ):
        self.reader, self.number = reader, number
        self.args, self.kwargs, tokens = reader.prepare(batch, number)
        self.tokens = tokens
        readers = {"source": source_reader, "module": reader}
        events: list[tuple[str, Any]] = []  # in the order in which the modules run
        hooks = [
            (part.modules[0], part.what, part.hook(partial(_append, events, key)))
            for key, part in readers.items()
        ]
        self.output = reader.run(hooks, self.args, self.kwargs, tokens)
        (self.source,), (self.name,) = source_reader.modules, reader.modules
        tensors = {
            key: part.only(part.modules[0], [t for k, t in events if k == key])
            for key, part in readers.items()
        }
        module_of = reader.model.get_submodule
        is_same = module_of(self.source) is module_of(self.name)
        if events[0][0] != "source" or (is_same and source_reader.what == "output"):
            raise ValueError(
                f"source={self.source!r} must run before module={self.name!r}, as it "
                "predicts the output of that module; it "
                + ("is that output." if is_same else "runs after.")
            )
        shape = tokens.shape_of_rows(tensors)
        if tokens.ids is None or len(shape) != 2:
            raise ValueError(
                f"batch {number} has no token ids to predict: an integer tensor of "
                "shape (n_sequences, length) called input_ids or passed first."
            )
        keep = reader.kept(tokens, shape)
        self.keep = torch.from_numpy(keep)
        # The row of the token before predicts a token.
        self.counted = torch.from_numpy(keep[:, 1:] & keep[:, :-1])
        self.ids = tokens.ids
        self.sequences = np.nonzero(self.counted.numpy())[0]
        self.targets = torch.from_numpy(self.ids[:, 1:])[self.counted].long()
        self.source_rows = source_reader.rows_of(
            self.source, tensors["source"], keep, number
        )
        self.rows = reader.rows_of(self.name, tensors["module"], keep, number)

    def check_widths(self, pair: LayerPair) -> None:
        """Raise ValueError unless rows are as wide as those the pair was fitted to."""
        for kind, name, rows, width in (
            ("source", self.source, self.source_rows, pair.n_features_in_),
            ("module", self.name, self.rows, len(pair.output_mean_)),
        ):
            if rows.shape[1] != width:
                raise ValueError(
                    f"{kind}={name!r} gives rows of {rows.shape[1]} values, but the "
                    f"pair was fitted to rows of {width}."
                )

    def losses(self, rows: np.ndarray | None = None) -> np.ndarray:
        """Return the loss of each counted token, with `rows` for the kept rows."""
        output = self.output
        if rows is not None and len(self.rows):
            hook = (self.name, "output", self._hook(torch.tensor(rows)))
            output = self.reader.run([hook], self.args, self.kwargs, self.tokens)
        logits = logits_of(output, self.ids, self.number)
        counted = self.counted.to(logits.device)
        logits, targets = logits[:, :-1][counted], self.targets.to(logits.device)
        losses = [
            cross_entropy(
                logits[start : start + _PREDICTIONS].float(),
                targets[start : start + _PREDICTIONS],
                reduction="none",
            )
            for start in range(0, len(targets), _PREDICTIONS)
        ]
        return torch.cat(losses).double().cpu().numpy()

    def _hook(self, rows: torch.Tensor) -> Callable:
        def replace(module, args, kwargs, output):
            old = tensor_of(output, self.reader.index)
            assert old is not None  # the run without replacement has found it
            new = old.clone().reshape(-1, old.shape[-1])
            new[self.keep.ravel().to(old.device)] = rows.to(old.device, old.dtype)
            return put_tensor(output, old, new.reshape(old.shape))

        return replace


def _append(events: list[tuple[str, Any]], key: str, tensor: Any) -> None:
    events.append((key, tensor))
