"""How much worse a language model predicts without a feature."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skfeat.autoencoder._transcoder import Transcoder
from skfeat.capture._hooks import logits_of, put_tensor, tensor_of
from skfeat.capture._options import check_batches
from skfeat.capture._reader import ActivationReader
from skfeat.capture._streams import Stream
from skfeat.capture._tokens import Tokens
from skfeat.language._predictions import Predictions
from skfeat.language._sequences import (
    check_sequences,
    message_of_sequences,
    select_sequences,
    sequences_are_first,
)
from skfeat.utils._arrays import as_numpy
from skfeat.utils._checks import check_int
from skfeat.utils._frozen import thawed


@dataclass(frozen=True, eq=False, repr=False)
class AblationEffect:
    """The effect of removing features at each token, from `ablation_effect`.

    Parameters
    ----------
    log_prob : ndarray of float64, shape (n,)
        Log-probability of each token without the features, minus the model's own, in
        nats. Negative where the model predicts the token worse without them; nan for
        the first token of a sequence, which nothing predicts.
    logit : ndarray of float64, shape (n,)
        The same difference of the token's logit.
    activations : ndarray of float64, shape (n,) or (n, n_features)
        Activations of the removed features at each token.
    sequence, position, token_ids : ndarray of int, shape (n,)
        As in a :class:`skfeat.capture.Capture` of the same batches.

    Examples
    --------
    >>> import numpy as np
    >>> from skfeat.language import AblationEffect
    >>> AblationEffect(
    ...     log_prob=np.array([np.nan, -0.5]),
    ...     logit=np.array([np.nan, -1.0]),
    ...     activations=np.array([2.0, 0.0]),
    ...     sequence=np.array([0, 0]),
    ...     position=np.array([0, 1]),
    ...     token_ids=np.array([7, 8]),
    ... )
    AblationEffect(2 tokens, log_prob from -0.5 to -0.5)
    """

    log_prob: np.ndarray
    logit: np.ndarray
    activations: np.ndarray
    sequence: np.ndarray
    position: np.ndarray
    token_ids: np.ndarray

    def __repr__(self) -> str:
        predicted = self.log_prob[~np.isnan(self.log_prob)]
        span = ""
        if predicted.size:
            span = f", log_prob from {predicted.min():.3g} to {predicted.max():.3g}"
        return f"AblationEffect({len(self.sequence)} tokens{span})"


def ablation_effect(
    model: nn.Module,
    batches: Iterable[Any],
    module: str,
    autoencoder: Any,
    feature: int | Sequence[int],
    *,
    what: str = "output",
    index: int | None = None,
    sequences: Any = None,
    special_tokens: Any = "auto",
) -> AblationEffect:
    """Measure how much worse a language model predicts without a feature.

    At every token ``f_i d_i`` is subtracted from the output of a module, where ``f_i``
    is the feature's activation there, in the unablated model, and ``d_i`` its row of
    ``autoencoder.components_``. The reconstruction error of the autoencoder stays in
    place, so nothing but the feature changes. The model then predicts every next token
    again, and the effect is the difference in what it predicts for the token that does
    come next.

    Parameters
    ----------
    model : torch.nn.Module
        A causal language model that maps tokens to logits of shape
        (n_sequences, length, n_tokens): a tensor, or an attribute ``logits`` of what it
        returns. It runs in evaluation mode and is left unchanged.
    batches : iterable
        Batches with token ids, as :func:`skfeat.capture.capture` takes them.
    module : str
        Name of the module, as ``model.named_modules()`` gives it.
    autoencoder : SparseAutoencoder
        Fitted on the rows of that module, with `transform` and `components_`.
    feature : int or sequence of int
        The feature to remove. Several features are removed together.
    what : {"output", "input"}, default="output"
        The side of the module that the autoencoder was fitted on.
    index : int, default=None
        Index of the tensor, where the module's output or input holds several. ``None``
        takes the first one.
    sequences : array-like of int, default=None
        Numbers of the sequences to measure, counted over all batches from zero. The
        model runs on no other, unless the arguments of a batch do not tell which axis
        counts its sequences. ``None`` means all.
    special_tokens : "auto", None or sequence of int, default="auto"
        Tokens at which nothing is removed and which get no row, as in
        :func:`skfeat.capture.capture`. Padding is treated alike.

    Returns
    -------
    AblationEffect
        One row for each token. Its value is the effect on how well the model predicts
        this token from the ones before it; nan for the first token of a sequence.

    Raises
    ------
    TypeError
        If `model` is not a module, `autoencoder` lacks what it needs, or a batch holds
        no tensor.
    ValueError
        If an argument is not valid, the module does not run exactly once, its width is
        not that of the autoencoder, its rows are not finite or not those of the tokens
        that the model predicts, or the model returns no logits that predict the next
        token, as a masked language model does not. A number in `sequences` beyond the
        last sequence is found only after the last batch.

    Examples
    --------
    >>> import torch
    >>> from skfeat import SparseAutoencoder
    >>> from skfeat.capture import capture
    >>> from skfeat.language import ablation_effect
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Embedding(50, 16), torch.nn.Linear(16, 8), torch.nn.Linear(8, 50)
    ... )
    >>> batches = [torch.randint(50, (4, 32))]
    >>> X = capture(model, batches, "1").activations["1"]
    >>> autoencoder = SparseAutoencoder(16, k=4, random_state=0).partial_fit(X)
    >>> effect = ablation_effect(model, batches, "1", autoencoder, 3)
    >>> effect.log_prob.shape, effect.position[:3]
    ((128,), array([0, 1, 2], dtype=int32))
    """
    reader = ActivationReader(
        model,
        module,
        what=what,
        index=index,
        dtype="float32",
        keep_padding=False,
        special_tokens=special_tokens,
    )
    if len(reader.modules) != 1:
        raise ValueError(
            f"module must be the name of one module. Got {module!r} instead."
        )
    check_batches(batches)
    removal = _Removal(reader, autoencoder, feature)
    wanted = None if sequences is None else check_sequences(sequences)
    parts, first = [], 0
    for number, batch in enumerate(batches):
        args, kwargs, tokens = reader.prepare(batch, number)
        ids = tokens.ids
        if ids is None or ids.ndim != 2 or ids.dtype.kind not in "iu" or not ids.size:
            raise ValueError(
                "batches must hold token ids, an integer tensor called input_ids or "
                f"passed first. Batch {number} has none."
            )
        n_sequences = len(ids)
        here = np.arange(n_sequences)
        if wanted is not None:
            here = here[np.isin(first + here, wanted)]
        if len(here):
            is_part = len(here) < n_sequences
            if is_part and sequences_are_first(tokens, n_sequences):
                batch = select_sequences(batch, here, n_sequences)
                args, kwargs, tokens = reader.prepare(batch, number)
                part = removal.measure(args, kwargs, tokens, batch)
                part["sequence"] = here[part["sequence"]]
            else:
                part = removal.measure(args, kwargs, tokens, batch)
                wanted_rows = np.isin(part["sequence"], here)
                part = {name: values[wanted_rows] for name, values in part.items()}
            part["sequence"] = first + part["sequence"]
            parts.append(part)
        first += n_sequences
    if first == 0:
        raise ValueError("batches is empty: there is nothing to measure.")
    if wanted is not None and not len(wanted):
        raise ValueError("sequences must hold at least one number. Got none instead.")
    if wanted is not None and (beyond := wanted[wanted >= first]).size:
        raise ValueError(message_of_sequences(beyond[0], first - 1))
    return AblationEffect(
        **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    )


class _Removal:
    """Runs a model with and without features."""

    def __init__(self, reader: ActivationReader, autoencoder: Any, feature: Any):
        if isinstance(thawed(autoencoder), Transcoder):
            raise TypeError(
                "autoencoder must be one that writes the rows that it reads. Got "
                f"{autoencoder!r} instead, whose features add to the rows of another "
                "place."
            )
        # Whether it is fitted is for those that can be.
        if hasattr(autoencoder, "transform") and hasattr(autoencoder, "fit"):
            check_is_fitted(autoencoder)
        if not all(hasattr(autoencoder, name) for name in ("transform", "components_")):
            raise TypeError(
                "autoencoder must have transform and components_, like a "
                f"SparseAutoencoder. Got {autoencoder!r} instead."
            )
        self.reader, self.autoencoder = reader, autoencoder
        self.predictions = Predictions(reader)
        components = np.asarray(as_numpy(autoencoder.components_, "components_"))
        self.is_single = np.ndim(feature) == 0
        last = len(components) - 1
        features = [feature] if self.is_single else list(feature)
        if not features:
            raise ValueError("feature must be one int or more. Got none instead.")
        self.features = [check_int("feature", i, most=last) for i in features]
        if len(set(self.features)) < len(self.features):
            raise ValueError(
                f"feature must hold each number once. Got {self.features!r} instead."
            )
        self.directions = components[self.features].astype(np.float64)

    def measure(
        self, args: tuple, kwargs: dict, tokens: Tokens, batch: Any
    ) -> dict[str, np.ndarray]:
        """Return the effects of one batch, its sequences counted from zero."""
        reader, number = self.reader, tokens.number
        (name,) = reader.modules
        found: list[Any] = []
        output = self._run(reader.hook(found.append), args, kwargs, tokens)
        seen = {name: reader.only(name, found)}
        located = reader.locate(seen, tokens, batch)
        predicted = self.predictions.check(output, tokens, batch)
        if located.stream is not predicted:
            raise ValueError(
                f"module {name!r} holds rows of {located.stream} of batch {number}, "
                f"but the model predicts tokens of {predicted}: choose a module that "
                "holds rows of these."
            )
        keep, rows = reader.kept(located, number), seen[name].tensor
        numbers = located.numbers(name, keep)
        codes = self._codes(rows, numbers, number)
        intact = _scores_of_tokens(output, predicted, number)
        # Where no feature fires, nothing changes to the last bit.
        ablated = intact
        if codes.any():
            hook = self._subtract(self._contribution(codes, numbers, rows))
            changed = self._run(hook, args, kwargs, tokens)
            ablated = _scores_of_tokens(changed, predicted, number)
        sequence, position = np.nonzero(keep)
        log_prob, logit = (
            (after - before)[keep]
            for before, after in zip(intact, ablated, strict=True)
        )
        assert located.ids is not None  # those that the model predicts
        return {
            "log_prob": log_prob,
            "logit": logit,
            "activations": codes[:, 0] if self.is_single else codes,
            "sequence": sequence,
            "position": position.astype(np.int32),
            "token_ids": located.ids[keep].astype(np.int32),
        }

    def _subtract(self, removed: torch.Tensor) -> Callable:
        """Return a hook that subtracts a tensor from the module's rows."""
        reader = self.reader

        def subtract(module, args, kwargs, output=None):
            is_input = reader.what == "input"
            value = (*args, *kwargs.values()) if is_input else output
            old = tensor_of(value, reader.index)
            assert old is not None  # the run without ablation has found it
            new = (old.to(removed.dtype) - removed).to(old.dtype)
            value = put_tensor(value, old, new)
            if not is_input:
                return value
            named = zip(kwargs, value[len(args) :], strict=True)
            return value[: len(args)], dict(named)

        return subtract

    def _run(self, hook: Callable, args: tuple, kwargs: dict, tokens: Tokens) -> Any:
        reader = self.reader
        # A model may write to its arguments, which a second run needs unchanged.
        args, kwargs = copy.deepcopy((args, kwargs))
        hooks = [(reader.modules[0], reader.what, hook)]
        return reader.run(hooks, args, kwargs, tokens)

    def _codes(
        self, rows: torch.Tensor, numbers: np.ndarray, number: int
    ) -> np.ndarray:
        """Return the features' activations at the kept tokens."""
        width, name = self.directions.shape[1], self.reader.modules[0]
        if rows.shape[-1] != width:
            raise ValueError(
                f"autoencoder takes rows of {width} values, but those of module "
                f"{name!r} have {rows.shape[-1]}."
            )
        dtype = "float64" if rows.dtype == torch.float64 else "float32"
        kept = self.reader.rows_of(name, rows, numbers, number, dtype)
        if not len(kept):
            return np.zeros((0, len(self.features)))
        codes = self.autoencoder.transform(kept)
        codes = sparse.csc_array(codes) if sparse.issparse(codes) else as_numpy(codes)
        codes = codes[:, self.features]
        codes = codes.toarray() if sparse.issparse(codes) else np.asarray(codes)
        return codes.astype(np.float64)

    def _contribution(
        self, codes: np.ndarray, numbers: np.ndarray, rows: torch.Tensor
    ) -> torch.Tensor:
        """Return what the features add to the module's rows, in the shape of these."""
        removed = np.zeros((rows[..., 0].numel(), self.directions.shape[1]))
        removed[numbers] = codes @ self.directions
        # At least float32, so that half-precision rows are rounded once, not twice.
        precise = torch.promote_types(rows.dtype, torch.float32)
        tensor = torch.from_numpy(removed).to(rows.device, precise)
        return tensor.reshape(rows.shape)


def _scores_of_tokens(
    output: Any, tokens: Stream, number: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return log-probability and logit of each token; nan where no token precedes."""
    assert tokens.ids is not None
    logits = logits_of(output, tokens.ids, number)
    ids = torch.from_numpy(tokens.ids.astype(np.int64))
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    precise, after = precise[:, :-1], ids[:, 1:, None].to(logits.device)
    logit = precise.gather(2, after)[..., 0].double()
    log_prob = logit - precise.logsumexp(dim=2).double()
    mask = np.ones(tokens.ids.shape, bool) if tokens.mask is None else tokens.mask

    def with_first_token(values: torch.Tensor) -> np.ndarray:
        padded = np.full(mask.shape, np.nan)
        padded[:, 1:] = np.where(mask[:, :-1], values.cpu().numpy(), np.nan)
        return padded

    return with_first_token(log_prob), with_first_token(logit)
