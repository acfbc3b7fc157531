"""What a fit of SparseAutoencoder keeps in a checkpoint, and finds there."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from numbers import Integral, Real
from typing import Any

import numpy as np

from skfeat.solvers._loop import History
from skfeat.solvers.autoencoder._settings import SAESettings
from skfeat.solvers.autoencoder._standardizer import Standardizer
from skfeat.solvers.autoencoder._trainer import SAETrainer
from skfeat.solvers.autoencoder._transcoder import TranscoderTrainer
from skfeat.utils import _distributed as distributed
from skfeat.utils._checkpoint import (
    CheckpointFile,
    as_setting,
    digest_of,
    digest_of_rows,
)

# Parameters that do not change what is learnt, or of which more is to say.
_LEFT_OUT = {
    *("checkpoint", "verbose", "sparse_output", "device"),
    *("distribute", "random_state", "warm_start"),
}


# Parts of a trainer's state that are one.
_STANDARDIZERS = ("standardizer", "target_standardizer")


class Kept:
    """What a fit has learnt so far: from a checkpoint, and into it.

    Parameters
    ----------
    settings : SAESettings
    untrained : callable
        Makes a trainer of such rows from settings.
    file : CheckpointFile, optional
        None keeps nothing.

    Attributes
    ----------
    settings : SAESettings
        With the seed that the fit began with.
    trainer : SAETrainer or None
        The one to go on with.
    history : History
        The epochs so far.
    best : dict
        ``weights`` and ``state`` of the best epoch, where one is looked for.
    """

    def __init__(
        self, settings: SAESettings, untrained, file: CheckpointFile | None = None
    ):
        self.settings, self.file, self._untrained = settings, file, untrained
        self.trainer: SAETrainer | None = None
        self.history, self.best = History(), dict[str, Any]()
        self._written: tuple | None = None
        saved = file.load() if file is not None else None
        if file is not None and saved is not None:
            with file.reading():
                self._restore(saved)

    def _restore(self, saved: dict) -> None:
        self.settings = replace(self.settings, seed=saved["seed"])
        untrained = self._untrained(self.settings)
        fresh, kind = untrained.state(), type(untrained)
        state = _checked(saved["state"], fresh)
        trainer = kind.from_state(self.settings, state)
        trainer.penalty.value = state["penalty_weight"]
        trainer.go_on(_checked_progress(saved["progress"], fresh))
        self.history = History(
            saved["losses"].tolist(), saved["scores"].tolist(), saved["stopped"]
        )
        if saved["best"] is not None:
            best = _checked(saved["best"], fresh)
            weights = kind.from_state(self.settings, best).export()
            self.best = {"weights": weights, "state": best}
        self.trainer = trainer
        self._written = self._where

    def begin(self, trainer: SAETrainer, n_rows: int, n_epochs: int) -> None:
        """Record the length of the run and save, so that a full disk fails early."""
        trainer.plan(n_rows, n_epochs)
        self.trainer = trainer
        self.save()

    def keep_best(self) -> None:
        """Keep the weights as they are, those of the best epoch so far."""
        assert self.trainer is not None
        self.best.update(weights=self.trainer.export(), state=self.trainer.state())

    @property
    def after_batch(self) -> Callable[[], None] | None:
        """What to call after each batch."""
        return None if self.file is None else self._save_if_due

    def _save_if_due(self) -> None:
        assert self.file is not None
        if self.file.is_due:
            self.save()

    @property
    def _where(self) -> tuple:
        """How far the fit has come."""
        assert self.trainer is not None
        done = self.history.n_epochs, self._stopped
        return self.trainer.n_steps, *done

    @property
    def _stopped(self) -> bool:
        """Whether a callback has ended the fit; from the keyboard it only pauses."""
        return self.history.stopped and not self.history.interrupted

    def save(self) -> None:
        """Write what is not yet written, unless a batch is half done.

        Raises
        ------
        OSError
            If that is not possible; the last checkpoint stays.
        """
        trainer, history = self.trainer, self.history
        if self.file is None or trainer is None or not trainer.is_whole:
            return
        where = self._where
        if where == self._written:
            return
        best = self.best.get("state")
        n_epochs = history.n_epochs
        content = {
            "seed": self.settings.seed,
            "state": _plain_state(trainer.state()),
            "progress": trainer.progress(),
            "losses": np.array(history.losses, dtype=np.float64),
            "scores": np.array(history.validation_scores[:n_epochs], dtype=np.float64),
            "stopped": self._stopped,
            "best": None if best is None else _plain_state(best),
        }
        self.file.save(content)
        self._written = where


@contextmanager
def keep(
    sae, settings: SAESettings, X, sample_weight, *, warm: bool, Y=None
) -> Iterator[Kept]:
    """Open the checkpoint of a fit, if its estimator names one.

    Parameters
    ----------
    sae : SparseAutoencoder
    settings : SAESettings
    X : ndarray of shape (n, d)
    sample_weight : ndarray of shape (n,)
    warm : bool
        Whether the fit starts from the weights of the last one.
    Y : ndarray of shape (n, d_out), optional
        Targets of a transcoder.
    """

    def untrained(settings):
        own = Standardizer(np.zeros(X.shape[1]), 1.0)
        if Y is None:
            return SAETrainer(settings, own)
        targets = Standardizer(np.zeros(Y.shape[1]), 1.0)
        return TranscoderTrainer(settings, own, targets)

    if sae.checkpoint is None:
        yield Kept(settings, untrained)
        return
    if distributed.is_active():
        raise ValueError(
            f"checkpoint={sae.checkpoint!r} is not possible in a process group: every "
            f"rank would write it. Set checkpoint=None."
        )
    fit = _settings_of(sae, X, sample_weight, warm)
    if Y is not None:
        fit |= {
            "shape of y": list(Y.shape),
            "dtype of y": Y.dtype.name,
            "y": as_setting(digest_of_rows(Y)),
        }
    if os.path.isdir(sae.checkpoint) and not isinstance(sae.random_state, Integral):
        # Fits of a folder are told apart by what they depend on.
        if sae.random_state is None:
            raise ValueError(
                f"random_state=None is not possible with the folder "
                f"checkpoint={sae.checkpoint!r}: a second fit could not be told from "
                f"the first one that goes on. Set random_state to an int."
            )
        fit["random_state"] = settings.seed
    with CheckpointFile(sae.checkpoint, type(sae).__name__, fit) as file:
        kept = Kept(settings, untrained, file)
        try:
            yield kept
        except OSError:
            # It may be the checkpoint that cannot be written.
            raise
        except BaseException:
            # A callback that fails or a signal that ends the process loses nothing.
            with suppress(OSError):
                kept.save()
            raise


def _settings_of(sae, X, sample_weight, warm) -> dict[str, Any]:
    """Return what a fit depends on, its parameters by their names."""
    params = {
        name: plain_setting(value)
        for name, value in sae.get_params(deep=False).items()
        if name not in _LEFT_OUT
    }
    # What a generator has drawn is in the checkpoint.
    seed = sae.random_state
    start = digest_of(_plain_state(sae._state)) if warm else "none"
    return {
        **params,
        "random_state": int(seed) if isinstance(seed, Integral) else None,
        "start (warm_start)": as_setting(start),
        "shape of X": list(X.shape),
        "dtype of X": X.dtype.name,
        "X": as_setting(digest_of_rows(X)),
        "sample_weight": as_setting(digest_of(np.asarray(sample_weight))),
    }


def plain_setting(value: Any) -> Any:
    """Return the value of a parameter as JSON has it."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, np.bool_):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    return np.asarray(value).tolist()


def _plain_state(state: dict) -> dict[str, Any]:
    """Return the state of a trainer as a checkpoint can hold it."""
    if not state:  # read from a file of another library; it cannot go on
        return {}
    return {
        **state,
        "moments": {str(i): slots for i, slots in state["moments"].items()},
        **{name: asdict(state[name]) for name in _STANDARDIZERS if name in state},
    }


def _checked(saved: dict, fresh: dict) -> dict[str, Any]:
    """Return a trainer's state, if its arrays are those of a trainer like `fresh`.

    Compiled loops trust their shapes.
    """
    state = {
        **saved,
        "moments": {int(i): slots for i, slots in saved["moments"].items()},
        **{
            name: Standardizer(**saved[name])
            for name in _STANDARDIZERS
            if name in saved
        },
        "bound": tuple(map(float, saved["bound"])),
    }
    params = list(fresh["params"].values())
    moments = {
        i: {"step": np.float32(0), "exp_avg": params[i], "exp_avg_sq": params[i]}
        for i in (range(len(params)) if state["moments"] else ())
    }
    expected = {**fresh, "moments": moments}
    for name in _STANDARDIZERS:
        if name in fresh and state[name].mean.shape != fresh[name].mean.shape:
            raise ValueError("its mean is not as long as the rows of X")
    for name in ("params", "moments", "rows_since_fired", "generator"):
        if _shapes(state[name]) != _shapes(expected[name]):
            raise ValueError(f"its {name} are not those of such an autoencoder")
    if state.keys() != fresh.keys():
        raise ValueError("its state has other parts than that of an autoencoder")
    return state


def _checked_progress(progress: dict, fresh: dict) -> dict[str, Any]:
    position = progress["position"]
    counts = [progress["n_steps"]]
    if position is not None:
        counts += [position["epoch"], position["n_batches"]]
        if _shapes(position["generator"]) != _shapes(fresh["generator"]):
            raise ValueError("its generator has no such state")
    if not all(type(count) is int and count >= 0 for count in counts):
        raise ValueError("it counts what cannot be counted")
    if type(progress["k"]) not in (int, float) or not progress["k"] >= 0:
        raise ValueError("it has no such number of active features")
    return progress


def _shapes(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _shapes(part) for key, part in value.items()}
    return np.shape(value), np.asarray(value).dtype
