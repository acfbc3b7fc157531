"""The public function and what it returns."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from skfeat.capture._reader import ActivationReader, check_batches, fingerprint
from skfeat.capture._store import FolderStore, MemoryStore, digest_of, load_columns
from skfeat.utils._checks import check_path
from skfeat.utils._warnings import warn

_SECONDS_BETWEEN_LINES = 10


class Progress(NamedTuple):
    """How far a capture is.

    Parameters
    ----------
    n_batches : int
        Batches that are done, those of an earlier call among them.
    n_rows : int
        Rows that are kept.
    n_sequences : int
        Sequences that were seen.
    seconds : float
        Time since this call began.

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
    """Rows that `capture` has recorded, and where each comes from.

    Parameters
    ----------
    activations : dict of str to ndarray of shape (n_rows, d)
        The rows of each module, by its name; read-only memory maps of files if the
        capture lives in a folder.
    sequence : ndarray of int64, shape (n_rows,)
        Which sequence a row comes from, counted over all batches from zero. A model
        that is given rows instead of sequences makes one sequence of each.
    position : ndarray of int32, shape (n_rows,)
        Which place of its sequence a row comes from.
    token_ids : ndarray of int32, shape (n_rows,), or None
        The token at that place; None if the model was given no tokens.
    folder : Path or None
        Where the files are.
    complete : bool
        Whether the batches had come to their end; False after an interruption.

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
            Its arrays are read-only memory maps; those of an interrupted capture hold
            the rows that it had.

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
    callback: Callable[[Progress], Any] | None = None,
    verbose: int = 0,
) -> Capture:
    """Record the outputs or inputs of some modules of a model over batches.

    The model runs in evaluation mode and without gradients, on the device that it is
    on, one batch at a time. Between batches and afterwards it is as it was found. Pass
    the part of a model that holds the modules, such as ``language_model.gpt_neox``, to
    spare what comes after it.

    Parameters
    ----------
    model : torch.nn.Module
        Any torch model, those of transformers among them.
    batches : iterable
        What the model is called with: a tensor or an array (one argument), a tuple or a
        list (positional arguments) or a dict (named arguments). An integer tensor of
        shape (n_sequences, length), called ``input_ids`` or passed first, holds tokens;
        a tensor of that shape called ``attention_mask`` is zero where there is padding.
        Memory holds one batch at a time.
    modules : str or sequence of str
        Names of modules as ``model.named_modules()`` gives them, for example
        ``gpt_neox.layers.1.mlp``; the empty name is the model itself. Each must run
        exactly once a batch and give a tensor of shape (n, d) or
        (n_sequences, length, d).
    what : {"output", "input"}, default="output"
        Which side of the modules to record. Either is taken as other hooks leave it.
    index : int, default=None
        Which entry to take where a module gives or takes several. ``None`` takes the
        first tensor.
    out : str or path, default=None
        A folder to write ``.npy`` files to. It goes on from where it stopped if it
        holds an interrupted capture of the same model, modules and batches, and takes
        up further batches after a finished one; the batches it already has are then
        read, compared and not run but for the last. The model is the same if its
        class and every value of its parameters and buffers are, and if it gives the
        rows that are there for the last batch again, to a thousandth of their norm (or
        half the digits of its weights). What is done is on the disk every ten seconds
        and when the call ends, whatever ends it. ``None`` keeps all rows in memory.
    dtype : {"float32", "float16", "float64"}, default="float32"
        What to store rows in.
    keep_padding : bool, default=False
        Keep the rows where the attention mask is zero.
    special_tokens : "auto", None or sequence of int, default="auto"
        Tokens whose rows are left out. "auto" means those that ``model.config`` names
        as beginning, end, padding, separator or class token; ``None`` keeps all.
    callback : callable, default=None
        Called with a `Progress` after each batch. What it raises ends the capture.
    verbose : int, default=0
        Print a line about every ten seconds (1) or every batch (2).

    Returns
    -------
    Capture
        The rows of each module, with the token, the sequence and the position of each.

    Raises
    ------
    TypeError
        If `model` is not a module, `batches` is a single batch, or a batch holds no
        tensor.
    ValueError
        If a parameter is not valid, a module does not exist, does not run or gives what
        is not a row a token, the model does not run on a batch, a row to keep is not
        finite, or `out` holds something else than this capture.

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
    )
    check_batches(batches)
    if callback is not None and not callable(callback):
        raise TypeError(f"callback must be None or callable. Got {callback!r} instead.")
    if not isinstance(verbose, Integral | np.bool_) or verbose < 0:
        raise ValueError(
            f"verbose must be a bool or an int of at least 0. Got {verbose!r} instead."
        )
    report = _Reporter(callback, verbose)
    if out is None:
        memory = MemoryStore(reader.modules)
        for number, batch in enumerate(batches):
            memory.append(reader.read(batch, number))
            report(memory)
        _refuse_nothing(memory.n_batches)
        report.end(memory)
        return _captured(Capture(**memory.columns()))

    folder = check_path("out", out)
    settings = {**reader.settings(), "model": fingerprint(reader.model)}
    with FolderStore(folder, settings) as store:
        digest, done = "", store.n_batches
        for number, batch in enumerate(batches):
            digest = digest_of(batch, digest)
            if number >= done:
                store.append(reader.read(batch, number), digest)
                report(store)
            elif number == done - 1:
                store.check_digest(digest)
                store.check_rows(reader.read(batch, number), reader.tolerance())
        _refuse_nothing(store.n_batches)
        if digest != store.digest:
            raise ValueError(
                f"batches end before the {done} batches that out={str(folder)!r} "
                "holds; name another folder for another capture."
            )
        store.complete()
        report.end(store)
    return _captured(Capture.load(folder))


def _captured(found: Capture) -> Capture:
    if found.n_rows == 0:
        warn(
            "capture keeps no row: every token is padding or special; see "
            "keep_padding and special_tokens.",
        )
    return found


def _refuse_nothing(n_batches: int) -> None:
    if n_batches == 0:
        raise ValueError("batches is empty: there is nothing to capture.")


class _Reporter:
    """Tells the callback of every batch, and the screen now and then."""

    def __init__(self, callback, verbose):
        self.callback = callback
        self.verbose = verbose
        self.start = self.last = time.monotonic()

    def __call__(self, store) -> None:
        now = time.monotonic()
        if self.callback is not None:
            self.callback(self._progress(store))
        due = now - self.last >= _SECONDS_BETWEEN_LINES
        if self.verbose > 1 or (self.verbose and due):
            self.last = now
            self._print(store)

    def end(self, store) -> None:
        """Print the last line."""
        if self.verbose:
            self._print(store)

    def _progress(self, store) -> Progress:
        seconds = time.monotonic() - self.start
        return Progress(store.n_batches, store.n_rows, store.n_sequences, seconds)

    def _print(self, store) -> None:
        n_batches, n_rows, _, seconds = self._progress(store)
        print(f"[capture] {n_batches:,} batches, {n_rows:,} rows, {seconds:.1f} s")
