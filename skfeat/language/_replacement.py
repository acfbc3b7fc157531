"""The loss of a language model that runs on the features of one of its MLPs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skfeat.capture._hooks import logits_of, put_tensor, tensor_of
from skfeat.capture._options import check_batches
from skfeat.capture._reader import ActivationReader
from skfeat.language._layer_pair import LayerPair
from skfeat.language._predictions import Predictions, prediction_losses
from skfeat.language._replacement_table import Losses, ReplacementLoss


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
    rows of the token and of the one before it, which predicts it, are both replaced. Of
    an encoder-decoder the tokens are those of the decoder; where `module` belongs to
    the encoder, all that are neither padding nor special count.

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
        once, `source` runs after `module` or holds rows of other tokens, the pair was
        fitted to rows of other widths, or the model returns no logits that predict the
        next token. A masked language model does not: its logits depend on later tokens,
        which is found by changing some in the first batch.

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
    predictions = Predictions(reader)
    names = ["original", *_replacements(pair)]
    losses = Losses(names)
    for number, batch in enumerate(batches):
        run = _Run(reader, source_reader, predictions, batch, number)
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


class _Run:
    """The model's run on a batch, and its losses with other rows."""

    def __init__(
        self,
        reader: ActivationReader,
        source_reader: ActivationReader,
        predictions: Predictions,
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
        seen = {
            key: part.only(part.modules[0], [one for k, one in events if k == key])
            for key, part in readers.items()
        }
        self._check_order(events[0][0], source_reader)
        located = {
            key: part.locate({part.modules[0]: seen[key]}, tokens, batch)
            for key, part in readers.items()
        }
        places = located["module"]
        origin = located["source"]
        if origin.stream is not places.stream or origin.shape != places.shape:
            raise ValueError(
                f"source={self.source!r} and module={self.name!r} must hold rows of "
                f"the same tokens. Got those of {origin.stream} and of "
                f"{places.stream} in batch {number}."
            )
        if tokens.ids is None or places.ids is None:
            raise ValueError(
                f"batch {number} has no token ids to predict: an integer tensor of "
                "shape (n_sequences, length) called input_ids or passed first."
            )
        predicted = predictions.check(self.output, tokens, batch)
        keep = reader.kept(places, number) & origin.present()
        # The row of the token before predicts a token.
        counted = keep[:, 1:] & keep[:, :-1]
        if predicted is not places.stream:
            # An encoder's rows affect all predictions of the decoder.
            real = reader.kept_tokens(predicted)
            counted = real[:, 1:] & real[:, :-1]
        self.counted = torch.from_numpy(counted)
        self.sequences = np.nonzero(counted)[0]
        assert predicted.ids is not None
        self.ids = predicted.ids
        self.targets = torch.from_numpy(self.ids[:, 1:])[self.counted].long()
        self.numbers = places.numbers(self.name, keep)
        self.source_rows = source_reader.rows_of(
            self.source,
            seen["source"].tensor,
            origin.numbers(self.source, keep),
            number,
        )
        self.rows = reader.rows_of(
            self.name, seen["module"].tensor, self.numbers, number
        )

    def _check_order(self, first: str, source_reader: ActivationReader) -> None:
        """Raise ValueError unless the source runs before what it shall predict."""
        module_of = self.reader.model.get_submodule
        is_same = module_of(self.source) is module_of(self.name)
        if first != "source" or (is_same and source_reader.what == "output"):
            raise ValueError(
                f"source={self.source!r} must run before module={self.name!r}, as it "
                "predicts the output of that module; it "
                + ("is that output." if is_same else "runs after.")
            )

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
            hook = (self.name, "output", self._hook(torch.tensor(rows, device="cpu")))
            output = self.reader.run([hook], self.args, self.kwargs, self.tokens)
        logits = logits_of(output, self.ids, self.number)
        return prediction_losses(logits, self.counted, self.targets)

    def _hook(self, rows: torch.Tensor) -> Callable:
        def replace(module, args, kwargs, output):
            old = tensor_of(output, self.reader.index)
            assert old is not None  # the run without replacement has found it
            new = old.clone().reshape(-1, old.shape[-1])
            new[torch.from_numpy(self.numbers).to(old.device)] = rows.to(
                old.device, old.dtype
            )
            return put_tensor(output, old, new.reshape(old.shape))

        return replace


def _append(events: list[tuple[str, Any]], key: str, tensor: Any) -> None:
    events.append((key, tensor))
