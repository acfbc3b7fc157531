"""What a language model predicts worse without a feature."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy import sparse
from sklearn.utils.validation import check_is_fitted
from torch import nn

from skfeat.capture._hooks import logits_of, put_tensor, tensor_of
from skfeat.capture._reader import ActivationReader, check_batches
from skfeat.utils._arrays import as_numpy
from skfeat.utils._checks import check_int


@dataclass(frozen=True, eq=False, repr=False)
class AblationEffect:
    """What removing features changes, a row a token, as `ablation_effect` returns it.

    Parameters
    ----------
    log_prob : ndarray of float64, shape (n,)
        Log-probability of each token without the features, minus the model's own; in
        nats. Negative where the model predicts the token worse without them. nan where
        nothing predicts a token: the first one of a sequence.
    logit : ndarray of float64, shape (n,)
        The same difference of the token's logit.
    activations : ndarray of float64, shape (n,) or (n, n_features)
        Of the removed features at each token.
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
        known = self.log_prob[~np.isnan(self.log_prob)]
        span = ""
        if known.size:
            span = f", log_prob from {known.min():.3g} to {known.max():.3g}"
        return f"AblationEffect({len(self.sequence)} tokens{span})"


def ablation_effect(
    model: nn.Module,
    batches: Iterable[Any],
    module: str,
    autoencoder,
    feature,
    *,
    what: str = "output",
    index: int | None = None,
    sequences=None,
    special_tokens: Any = "auto",
) -> AblationEffect:
    """Measure what a language model predicts worse without a feature.

    At every token ``f_i d_i`` is subtracted from what a module gives, where ``f_i`` is
    the feature's activation there and ``d_i`` its row of ``autoencoder.components_``.
    What the autoencoder does not reconstruct stays, so nothing else changes. The
    activation is that of the unablated model. The model then predicts every next token
    anew; compared is what it gives to the token that does come next.

    Parameters
    ----------
    model : torch.nn.Module
        A causal language model that maps tokens to logits of shape
        (n_sequences, length, n_tokens): a tensor, or the ``logits`` of what it returns.
        It runs in evaluation mode and is left as it was found.
    batches : iterable
        What the model is called with, as for :func:`skfeat.capture.capture`.
    module : str
        Name of the module, as ``model.named_modules()`` gives it.
    autoencoder : SparseAutoencoder
        Fitted on the rows of that module: with `transform` and `components_`.
    feature : int or sequence of int
        The feature to remove; of several all are removed together.
    what : {"output", "input"}, default="output"
        Which side of the module the autoencoder was fitted on.
    index : int, default=None
        Which entry to take where a module gives or takes several. ``None`` takes the
        first tensor.
    sequences : array-like of int, default=None
        Measure these sequences only, counted over all batches from zero. Of the others
        nothing is run or returned. ``None`` means all.
    special_tokens : "auto", None or sequence of int, default="auto"
        Tokens at which nothing is removed and which get no row, as for
        :func:`skfeat.capture.capture`; so it is with padding.

    Returns
    -------
    AblationEffect
        A row a token. The value at a token says how well this token itself is
        predicted, from those before it; the first of a sequence has nan.

    Raises
    ------
    TypeError
        If `model` is not a module, `autoencoder` is none, or a batch holds no tensor.
    ValueError
        If an argument is not valid, the module does not run exactly once, its width is
        not that of the autoencoder, its rows are not finite, or the model gives no
        logits for tokens. That `sequences` names one which `batches` does not have
        shows only once they have come to their end.

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
        raise ValueError(f"module must be the name of one module. Got {module!r}.")
    check_batches(batches)
    removal = _Removal(reader, autoencoder, feature)
    wanted = None if sequences is None else _check_sequences(sequences)
    parts, first = [], 0
    for number, batch in enumerate(batches):
        args, kwargs, tokens = reader.prepare(batch, number)
        ids = tokens.ids
        if ids is None or ids.ndim != 2 or ids.dtype.kind not in "iu" or not ids.size:
            raise ValueError(
                f"batches must hold token ids, an integer tensor called input_ids or "
                f"passed first. Batch {number} has none."
            )
        n_sequences = len(ids)
        here = np.arange(n_sequences)
        if wanted is not None:
            here = here[np.isin(first + here, wanted)]
        if len(here):
            if len(here) < n_sequences:
                batch = _take(batch, here, n_sequences)
                args, kwargs, tokens = reader.prepare(batch, number)
            part = removal.measure(args, kwargs, tokens, number)
            part["sequence"] = first + here[part["sequence"]]
            parts.append(part)
        first += n_sequences
    if first == 0:
        raise ValueError("batches are empty: there is nothing to measure.")
    if wanted is not None and not len(wanted):
        raise ValueError("sequences must name one or more. Got none instead.")
    if wanted is not None and (beyond := wanted[wanted >= first]).size:
        raise ValueError(_allowed_sequences(beyond[0], first - 1))
    names = parts[0]
    return AblationEffect(
        **{name: np.concatenate([part[name] for part in parts]) for name in names}
    )


class _Removal:
    """Runs a model with and without features."""

    def __init__(self, reader: ActivationReader, autoencoder, feature):
        check_is_fitted(autoencoder)
        if not all(hasattr(autoencoder, name) for name in ("transform", "components_")):
            raise TypeError(
                "autoencoder must have transform and components_, as a "
                f"SparseAutoencoder. Got {autoencoder!r} instead."
            )
        self.reader, self.autoencoder = reader, autoencoder
        components = np.asarray(as_numpy(autoencoder.components_, "components_"))
        self.single = np.ndim(feature) == 0
        last = len(components) - 1
        features = [feature] if self.single else list(feature)
        if not features:
            raise ValueError("feature must name one feature or more. Got none instead.")
        self.features = [check_int("feature", i, most=last) for i in features]
        if len(set(self.features)) < len(self.features):
            raise ValueError(f"feature names a feature twice: {self.features!r}.")
        self.directions = components[self.features].astype(np.float64)

    def measure(self, args, kwargs, tokens, number) -> dict[str, np.ndarray]:
        """Return the rows of one batch, sequences counted within it."""
        reader = self.reader
        keep = reader.kept(tokens, tokens.ids.shape)
        found: list[Any] = []
        output = self._run(reader.hook(found.append), args, kwargs, tokens)
        rows = reader.only(reader.modules[0], found)
        tokens.shape_of_rows({reader.modules[0]: rows})
        codes = self._codes(rows, keep, number)
        own = _of_next_tokens(output, tokens, number)
        # Where no feature fires nothing changes, to the last bit.
        other = own
        if codes.any():
            removed = self._contribution(codes, keep, rows)

            def subtract(module, args, kwargs, output=None):
                given = output
                if reader.what == "input":
                    given = (*args, *kwargs.values())
                old = tensor_of(given, reader.index)
                assert old is not None  # the first run has found it
                new = (old.to(removed.dtype) - removed).to(old.dtype)
                given = put_tensor(given, old, new)
                if reader.what == "output":
                    return given
                named = zip(kwargs, given[len(args) :], strict=True)
                return given[: len(args)], dict(named)

            changed = self._run(subtract, args, kwargs, tokens)
            other = _of_next_tokens(changed, tokens, number)
        sequence, position = np.nonzero(keep)
        log_prob, logit = ((b - a)[keep] for a, b in zip(own, other, strict=True))
        return {
            "log_prob": log_prob,
            "logit": logit,
            "activations": codes[:, 0] if self.single else codes,
            "sequence": sequence,
            "position": position.astype(np.int32),
            "token_ids": tokens.ids[keep].astype(np.int32),
        }

    def _run(self, hook, args, kwargs, tokens):
        reader = self.reader
        # A model may write on what it is given.
        args, kwargs = copy.deepcopy((args, kwargs))
        hooks = [(reader.modules[0], reader.what, hook)]
        return reader.run(hooks, args, kwargs, tokens)

    def _codes(self, rows, keep, number) -> np.ndarray:
        """Return the features' activations at the kept tokens."""
        width, name = self.directions.shape[1], self.reader.modules[0]
        if rows.shape[-1] != width:
            raise ValueError(
                f"autoencoder takes rows of {width} values, but those of module "
                f"{name!r} have {rows.shape[-1]}."
            )
        dtype = "float64" if rows.dtype == torch.float64 else "float32"
        rows = self.reader.rows_of(name, rows, keep, number, dtype)
        if not len(rows):
            return np.zeros((0, len(self.features)))
        codes = self.autoencoder.transform(rows)
        codes = sparse.csc_array(codes) if sparse.issparse(codes) else as_numpy(codes)
        codes = codes[:, self.features]
        codes = codes.toarray() if sparse.issparse(codes) else np.asarray(codes)
        return codes.astype(np.float64)

    def _contribution(self, codes, keep, rows) -> torch.Tensor:
        """Return what the features add to the module's rows, in its shape."""
        removed = np.zeros((keep.size, self.directions.shape[1]))
        removed[keep.ravel()] = codes @ self.directions
        # Differences of half precision are rounded once, not twice.
        precise = torch.promote_types(rows.dtype, torch.float32)
        tensor = torch.from_numpy(removed).to(rows.device, precise)
        return tensor.reshape(rows.shape)


def _of_next_tokens(output, tokens, number) -> tuple[np.ndarray, np.ndarray]:
    """Return log-probability and logit of each token, nan where none precedes it."""
    logits = logits_of(output, tokens.ids, number)
    ids = torch.from_numpy(tokens.ids.astype(np.int64))
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    precise, after = precise[:, :-1], ids[:, 1:, None].to(logits.device)
    logit = precise.gather(2, after)[..., 0].double()
    log_prob = logit - precise.logsumexp(dim=2).double()
    mask = np.ones(tokens.ids.shape, bool) if tokens.mask is None else tokens.mask
    found = []
    for values in (log_prob, logit):
        padded = np.full(tokens.ids.shape, np.nan)
        padded[:, 1:] = np.where(mask[:, :-1], values.cpu().numpy(), np.nan)
        found.append(padded)
    return found[0], found[1]


def _take(batch, rows, n_sequences):
    """Return a batch with some of its sequences."""

    def part(value):
        if isinstance(value, torch.Tensor | np.ndarray):
            of_sequences = value.ndim > 0 and value.shape[0] == n_sequences
            return value[rows] if of_sequences else value
        return value

    if isinstance(batch, Mapping):
        return {name: part(value) for name, value in batch.items()}
    if isinstance(batch, tuple | list):
        return tuple(map(part, batch))
    return part(batch)


def _check_sequences(sequences) -> np.ndarray:
    found = np.asarray(as_numpy(sequences, "sequences"))
    if found.ndim != 1 or found.dtype.kind not in "iu":
        raise ValueError(
            f"sequences must be None or a sequence of ints. Got {sequences!r} instead."
        )
    if found.min(initial=0) < 0:
        raise ValueError(_allowed_sequences(found.min()))
    return found


def _allowed_sequences(got, last="the last one") -> str:
    return (
        f"sequences must be numbers from 0 to {last} of the sequences of batches. "
        f"Got {got} instead."
    )
