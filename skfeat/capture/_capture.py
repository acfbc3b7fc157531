"""Capturing the rows of modules: `capture`, and the `Capture` that it returns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy import sparse
from torch import nn

from skfeat.capture._folder_state import load_columns
from skfeat.capture._maps import to_maps
from skfeat.capture._options import check_batches
from skfeat.capture._reader import ActivationReader, fingerprint
from skfeat.capture._store import FolderStore, MemoryStore, digest_of
from skfeat.utils._checks import check_path, check_verbose
from skfeat.utils._warnings import warn

_SECONDS_BETWEEN_LINES = 10


class Progress(NamedTuple):
    """The progress of a capture.

    Parameters
    ----------
    n_batches : int
        Number of finished batches, including those of earlier calls.
    n_rows : int
        Number of captured rows.
    n_sequences : int
        Number of sequences run.
    seconds : float
        Time since the start of this call.

    Examples
    --------
    >>> from skfeat.capture import Progress
    >>> progress = Progress(n_batches=3, n_rows=300, n_sequences=12, seconds=2.0)
    >>> progress.n_rows / progress.n_batches
    100.0
    """

    n_batches: int
    n_rows: int
    n_sequences: int
    seconds: float


@dataclass(frozen=True, eq=False, repr=False)
class Capture:
    """Captured rows of modules, and the token that each row belongs to.

    Parameters
    ----------
    activations : dict of str to ndarray of shape (n_rows, d)
        The rows of each module, by its name; read-only memory maps if the capture is
        in a folder.
    sequence : ndarray of int64, shape (n_rows,)
        The sequence of each row, counted over all batches from zero. For a model that
        takes rows instead of sequences, each row is a sequence of its own.
    position : ndarray of int32, shape (n_rows,)
        The position of each row in its sequence; of a map, counted over its positions
        row by row, as ``np.unravel_index(position, map_shape)`` takes it.
    token_ids : ndarray of int32, shape (n_rows,), or None
        The token of each row; None if the batches held no tokens.
    folder : Path or None
        The folder of the files; None for a capture in memory.
    complete : bool
        Whether all batches were captured; False after an interruption.
    map_shape : tuple of int or None
        Sizes of a map without its channels, such as (height, width); None if modules
        gave no maps.

    Examples
    --------
    >>> import torch
    >>> from skfeat.capture import capture
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU())
    >>> capture(model, [torch.ones(3, 5, 4)], "1")
    Capture(15 rows of '1' (8))
    """

    activations: dict[str, np.ndarray]
    sequence: np.ndarray
    position: np.ndarray
    token_ids: np.ndarray | None = None
    folder: Path | None = None
    complete: bool = True
    map_shape: tuple[int, ...] | None = None

    @property
    def n_rows(self) -> int:
        """Number of rows, the same for every module."""
        return len(self.sequence)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Capture:
        """Open a folder that `capture` wrote, without reading its rows.

        Parameters
        ----------
        folder : str or path
            The `out` of a capture.

        Returns
        -------
        Capture
            Its arrays are read-only memory maps. Those of an interrupted capture hold
            the rows up to the interruption.

        Raises
        ------
        FileNotFoundError
            If there is no capture in the folder.
        ValueError
            If the folder is damaged.
        """
        path = check_path("folder", folder)
        columns, state = load_columns(path)
        return cls(**columns, folder=path, complete=state["complete"])

    def to_maps(self, values: Any, fill: float = np.nan) -> np.ndarray:
        """Put rows back to the places of the maps that they were captured from.

        Parameters
        ----------
        values : str or array-like of shape (n_rows, m)
            The name of a module, or anything with a row for each captured row, such as
            the features that an autoencoder makes of them.
        fill : float, default=nan
            What stands at positions that were not captured.

        Returns
        -------
        ndarray of shape (n_samples, m, ...)
            Maps with their channels first, of the sizes `map_shape`.

        Raises
        ------
        ValueError
            If the capture is not one of maps, or `values` has another number of rows.

        Examples
        --------
        >>> import torch
        >>> from skfeat.capture import capture
        >>> model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU())
        >>> images = torch.rand(10, 1, 8, 8)
        >>> rows = capture(model, [images], "1")
        >>> rows.activations["1"].shape, rows.map_shape
        ((360, 4), (6, 6))
        >>> rows.to_maps("1").shape
        (10, 4, 6, 6)
        """
        if self.map_shape is None:
            raise ValueError(
                "to_maps needs a capture of maps; this one has rows without places "
                "(see the layout of capture)."
            )
        if isinstance(values, str):
            values = self._rows_of(values)
        array = values.toarray() if sparse.issparse(values) else np.asarray(values)
        if array.ndim != 2 or len(array) != self.n_rows:
            raise ValueError(
                f"values must have the shape ({self.n_rows}, m), a row for each "
                f"captured one. Got {array.shape} instead."
            )
        n_samples = int(self.sequence.max(initial=-1)) + 1
        shape = (n_samples, *self.map_shape)
        return to_maps(array, self.sequence, self.position, shape, fill)

    def _rows_of(self, name: str) -> np.ndarray:
        if name not in self.activations:
            raise ValueError(
                f"values must be one of {list(self.activations)} or an array. Got "
                f"{name!r} instead."
            )
        return self.activations[name]

    def __repr__(self) -> str:
        modules = ", ".join(
            f"{name!r} ({rows.shape[1]})" for name, rows in self.activations.items()
        )
        unfinished = "" if self.complete else ", interrupted"
        return f"Capture({self.n_rows} rows of {modules}{unfinished})"


def capture(
    model: nn.Module,
    batches: Iterable[Any],
    modules: str | Iterable[str],
    *,
    what: str = "output",
    index: int | None = None,
    out: str | os.PathLike[str] | None = None,
    dtype: Any = "float32",
    keep_padding: bool = False,
    special_tokens: Any = "auto",
    layout: str = "auto",
    n_positions: int | None = None,
    random_state: int = 0,
    callback: Callable[[Progress], Any] | None = None,
    verbose: int = 0,
) -> Capture:
    """Capture the outputs or inputs of modules of a model over batches.

    The model runs one batch at a time, on its own device, in evaluation mode and
    without gradients. Between batches and afterwards it is in its original state. To
    save computation, pass only the part of a model that holds the modules, such as
    ``language_model.gpt_neox``.

    Parameters
    ----------
    model : torch.nn.Module
        Any torch model, for example one of transformers.
    batches : iterable
        The arguments of the model for each batch: a tensor or an array (one argument),
        a tuple or a list (positional arguments) or a dict (named arguments). An integer
        tensor of shape (n_sequences, length), named ``input_ids`` or passed first,
        holds tokens; a tensor of that shape named ``attention_mask`` is zero at
        padding. A decoder's tokens are ``decoder_input_ids``, or made of ``labels`` as
        the model makes them. Memory holds one batch at a time.
    modules : str or sequence of str
        Names of modules as in ``model.named_modules()``, for example
        ``gpt_neox.layers.1.mlp``; the empty name is the model itself. Each must run
        exactly once a batch, on a tensor of shape (n, d) or (n_sequences, length, d),
        or with the positions first (``batch_first=False``), listed or packed, or on
        maps of channels over positions, whose positions become rows (`layout`). Where
        the shape does not tell the order, as in a batch of as many sequences as
        positions, two or three more runs of the first batch, with some of its tokens
        changed, show which rows belong to which sequence.
    what : {"output", "input"}, default="output"
        The side of the modules to capture, as other hooks leave it.
    index : int, default=None
        Index of the tensor, where the output or input of a module holds several.
        ``None`` takes the first one.
    out : str or path, default=None
        A folder for ``.npy`` files; ``None`` keeps all rows in memory. If the folder
        holds a capture of the same model, modules and batches, the call continues it:
        batches that are already captured are read and compared, but only the last of
        them is run again. The model counts as the same if its class and all values of
        its parameters and buffers are equal, and if it reproduces the rows of that
        batch to a thousandth of their norm (or half the digits of its weights). Files
        are complete on disk every ten seconds and when the call ends, also after an
        error or an interruption.
    dtype : {"float32", "float16", "float64"}, default="float32"
        The dtype of the stored rows.
    keep_padding : bool, default=False
        Whether to keep the rows where the attention mask is zero. Packed sequences have
        none there.
    special_tokens : "auto", None or sequence of int, default="auto"
        Tokens whose rows are left out. "auto" means the tokens that ``model.config``
        defines as beginning, end, padding, separator or class token; ``None`` leaves
        out no token.
    layout : {"auto", "channels_first", "channels_last", "time_first"}, default="auto"
        The axes of maps: (n, channels, ...) as torch's convolutions have them, (n, ...,
        channels) or (time, n, channels). "auto" takes tensors of four dimensions or
        more for (n, channels, ...), and those of three for sequences of rows (n,
        length, d): the series (n, channels, time) of a Conv1d need "channels_first".
    n_positions : int, default=None
        How many positions of each sample or sequence to keep, drawn without
        replacement; ``None`` keeps all.
    random_state : int, default=0
        Seeds that draw, for each batch anew.
    callback : callable, default=None
        Called with a `Progress` after each batch. An exception that it raises ends the
        capture.
    verbose : int, default=0
        Print a line about every ten seconds (1) or after each batch (2).

    Returns
    -------
    Capture
        The rows of each module, and the token, sequence and position of each row.

    Raises
    ------
    TypeError
        If `model` is not a module, `batches` is a single batch, or a batch holds no
        tensor.
    ValueError
        If a parameter is not valid, a module does not exist, does not run exactly once
        or does not give one row for each token, or it cannot be told whose rows they
        are, modules hold rows of different arguments (such as those of an encoder and
        of a decoder), the model does not run on a batch, a row is not finite, or `out`
        holds anything but an earlier part of this capture.

    Warns
    -----
    UserWarning
        If every token is padding or special, so that no row is kept.

    Examples
    --------
    >>> import torch
    >>> from skfeat import SparseAutoencoder
    >>> from skfeat.capture import capture
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Embedding(50, 16), torch.nn.Linear(16, 8), torch.nn.ReLU()
    ... )
    >>> batches = [torch.randint(50, (4, 32)) for _ in range(8)]
    >>> rows = capture(model, batches, ["1", "2"])
    >>> rows.activations["2"].shape
    (1024, 8)
    >>> bool(rows.token_ids[40] == batches[0][rows.sequence[40], rows.position[40]])
    True
    >>> autoencoder = SparseAutoencoder(16, k=4, random_state=0)
    >>> X = rows.activations["2"]
    >>> autoencoder.partial_fit(X).transform(X).shape
    (1024, 16)
    """
    reader = ActivationReader(
        model,
        modules,
        what=what,
        index=index,
        dtype=dtype,
        keep_padding=keep_padding,
        special_tokens=special_tokens,
        layout=layout,
        n_positions=n_positions,
        random_state=random_state,
    )
    check_batches(batches)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be None or callable. Got {callback!r} instead.")
    report = _Reporter(callback, check_verbose(verbose))
    if out is None:
        memory = MemoryStore(reader.modules)
        for number, batch in enumerate(batches):
            memory.append(reader.read(batch, number))
            report(memory)
        _check_any_batch(memory.n_batches)
        report.end(memory)
        return _warn_if_empty(Capture(**memory.columns()))

    folder = check_path("out", out)
    settings = {**reader.settings(), "model": fingerprint(reader.model)}
    with FolderStore(folder, settings) as store:
        digest, n_done = "", store.n_batches
        for number, batch in enumerate(batches):
            digest = digest_of(batch, digest)
            if number >= n_done:
                store.append(reader.read(batch, number), digest)
                report(store)
            elif number == n_done - 1:
                store.check_digest(digest)
                store.check_rows(reader.read(batch, number), reader.tolerance())
        _check_any_batch(store.n_batches)
        if digest != store.digest:
            raise ValueError(
                f"batches end before the {n_done} batches that out={str(folder)!r} "
                "holds; name another folder for another capture."
            )
        store.complete()
        report.end(store)
    return _warn_if_empty(Capture.load(folder))


def _warn_if_empty(captured: Capture) -> Capture:
    if captured.n_rows == 0:
        warn(
            "capture keeps no row: the batches hold no token, or only padding and "
            "special ones, which keep_padding and special_tokens can keep.",
        )
    return captured


def _check_any_batch(n_batches: int) -> None:
    if n_batches == 0:
        raise ValueError("batches is empty: there is nothing to capture.")


class _Reporter:
    """Calls the callback after each batch, and prints lines now and then."""

    def __init__(self, callback: Callable[[Progress], Any] | None, verbose: int):
        self.callback = callback
        self.verbose = verbose
        self.start = self.last = time.monotonic()

    def __call__(self, store: MemoryStore | FolderStore) -> None:
        now = time.monotonic()
        if self.callback is not None:
            self.callback(self._progress(store))
        due = now - self.last >= _SECONDS_BETWEEN_LINES
        if self.verbose > 1 or (self.verbose and due):
            self.last = now
            self._print(store)

    def end(self, store: MemoryStore | FolderStore) -> None:
        """Print the last line."""
        if self.verbose:
            self._print(store)

    def _progress(self, store: MemoryStore | FolderStore) -> Progress:
        seconds = time.monotonic() - self.start
        return Progress(store.n_batches, store.n_rows, store.n_sequences, seconds)

    def _print(self, store: MemoryStore | FolderStore) -> None:
        n_batches, n_rows, _, seconds = self._progress(store)
        print(f"[capture] {n_batches:,} batches, {n_rows:,} rows, {seconds:.1f} s")
