"""What a fit of FeatureUnwrapper keeps in a folder, and finds there.

Each autoencoder has a file of its own in it, which its own fit writes. One more file
has the rest: what is known of a mapped file's layers, the connectors that are fitted on
their own, and the training of all parts together.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse

from skfeat.autoencoder._checkpoint import plain_setting
from skfeat.unwrapper._computed import digest_of_chain
from skfeat.unwrapper._plan import Unwrapping
from skfeat.utils import _distributed as distributed
from skfeat.utils._checkpoint import (
    CheckpointFile,
    as_setting,
    digest_of,
    digest_of_rows,
)
from skfeat.utils._frozen import unnamed
from skfeat.utils._stages import RunningMoments, Stages

# Parameters that do not change what is fitted, or of which more is to say.
_LEFT_OUT = {
    *("model", "autoencoder", "connector", "random_state"),
    *("checkpoint", "verbose", "n_jobs", "device"),
}
# Those of a part.
_LEFT_OUT_OF_PART = {"checkpoint", "verbose", "device", "sparse_output"}

# What fits leave in a connector.
_CONNECTOR = ("alpha_", "n_iter_", "dual_gap_", "loss_curve_", "n_features_in_")


class NothingKept:
    """Stands for the file of a fit that keeps none."""

    is_due = False

    def take(self) -> dict | None:
        """Return None: no training is kept."""
        return None

    def save(self, run: dict) -> None:
        """Keep nothing."""

    def measure(self, stages: Stages) -> None:
        """Find the moments of a mapped file's layers."""
        stages.measure()

    def find_connector(self, index: int, connector: Any) -> bool:
        """Give a connector what its fit has left; tell whether that is kept."""
        return False

    def keep_connector(self, index: int, connector: Any) -> None:
        """Keep nothing."""


class KeptFit(NothingKept):
    """The file of one fit; see the module.

    Parameters
    ----------
    file : CheckpointFile
    """

    def __init__(self, file: CheckpointFile):
        self.file = file
        self.content = file.load() or {"moments": None, "connectors": {}, "run": None}
        self.file.save(self.content)  # a full disk fails early

    def take(self) -> dict | None:
        """Return the training of all parts as it was kept last, and let go of it."""
        run, self.content["run"] = self.content["run"], None
        return run

    @property
    def is_due(self) -> bool:  # type: ignore[override]
        """Whether it is time to keep the training again."""
        return self.file.is_due

    def save(self, run: dict) -> None:
        """Keep the training of all parts."""
        self.file.save({**self.content, "run": run})

    def measure(self, stages: Stages) -> None:
        """Find the moments of a mapped file's layers, and keep them on the way."""
        running, kept = RunningMoments(), self.content["moments"]
        if kept is not None:
            with self.file.reading():
                running = RunningMoments(kept["n"], kept["found"])
                stages.moments = running.moments()
                stages.check_moments()

        def keep(running: RunningMoments) -> None:
            self.content["moments"] = {"n": running.n, "found": running.found}
            if self.file.is_due or running.n == len(stages.X):
                self.file.save(self.content)

        stages.measure(running, keep)

    def find_connector(self, index: int, connector: Any) -> bool:
        """Give a connector what its fit has left; tell whether that is kept."""
        kept = self.content["connectors"].get(str(index))
        if kept is None:
            return False
        with self.file.reading():
            data, columns, starts = kept["coef"]
            coef = sparse.csr_array((data, columns, starts), shape=kept["shape"])
            coef.check_format()
            for name in _CONNECTOR:
                setattr(connector, name, kept[name])
            if kept["pruning_epochs"] is not None:
                connector.pruning_epochs_ = tuple(kept["pruning_epochs"])
            connector._y_is_1d = kept["y_is_1d"]
            connector._take_back(coef, kept["intercept"])
        return True

    def keep_connector(self, index: int, connector: Any) -> None:
        """Keep a fitted connector.

        One with the state of an optimiser, from which `partial_fit` would go on, is
        left out: it is fitted anew.
        """
        if connector._state is not None:
            return
        coef = sparse.csr_array(connector.coef_)
        self.content["connectors"][str(index)] = {
            "coef": [coef.data, coef.indices, coef.indptr],
            "shape": list(coef.shape),
            "intercept": connector.intercept_,
            "y_is_1d": bool(connector._y_is_1d),
            "pruning_epochs": getattr(connector, "pruning_epochs_", None),
            **{name: getattr(connector, name) for name in _CONNECTOR},
        }
        self.file.save(self.content)


@contextmanager
def keep(job: Unwrapping, X: np.ndarray) -> Iterator[NothingKept]:
    """Open the folder of a fit, if its estimator names one.

    Raises
    ------
    ValueError
        If it is no folder, or the fit could not be found there again.
    """
    checkpoint = job.params.checkpoint
    if checkpoint is None:
        yield NothingKept()
        return
    if distributed.is_active():
        raise ValueError(
            f"checkpoint={checkpoint!r} is not possible in a process group: every rank "
            f"would write it. Set checkpoint=None."
        )
    folder = _folder(checkpoint)
    settings = _settings_of(job, X)
    for index, (part, is_kept) in enumerate(zip(*job.autoencoders, strict=True)):
        if not is_kept and part.checkpoint is None:
            part.checkpoint = os.path.abspath(folder)
            job.kept_in_folder.append(index)
    with CheckpointFile(folder, "FeatureUnwrapper", settings) as file:
        yield KeptFit(file)


def _folder(checkpoint: Any) -> Path:
    folder = Path(os.fsdecode(checkpoint))
    if not os.fsdecode(checkpoint) or (folder.exists() and not folder.is_dir()):
        raise ValueError(
            f"checkpoint={os.fsdecode(checkpoint)!r} must be a folder: each "
            f"autoencoder has a file of its own there."
        )
    if not folder.parent.is_dir():
        raise ValueError(
            f"checkpoint={os.fsdecode(checkpoint)!r} lies in a folder that does not "
            f"exist."
        )
    folder.mkdir(exist_ok=True)
    return folder


def _settings_of(job: Unwrapping, X: np.ndarray) -> dict[str, Any]:
    """Return what a fit depends on."""
    params = job.params.get_params(deep=False)
    return {
        **{
            name: plain_setting(value)
            for name, value in params.items()
            if name not in _LEFT_OUT
        },
        "seed": job.seed,
        "model": as_setting(digest_of_chain(job.chain)),
        "autoencoder": [_part(*own) for own in zip(*job.autoencoders, strict=True)],
        "connector": [_part(*own) for own in zip(*job.connectors, strict=True)],
        "shape of X": list(X.shape),
        "dtype of X": X.dtype.name,
        "X": as_setting(digest_of_rows(X)),
    }


def _part(part: Any, is_kept: bool) -> str:
    """Digest a part: its parameters, or of a frozen one what it has learnt."""
    part = unnamed(part)
    if is_kept:
        return digest_of({name: _arrays(own) for name, own in vars(part).items()})
    params = part.get_params(deep=False)
    given = {
        name: plain_setting(value)
        for name, value in params.items()
        if name not in _LEFT_OUT_OF_PART
    }
    return digest_of({"kind": type(part).__name__, **given})


def _arrays(value: Any) -> Any:
    if sparse.issparse(value):
        value = value.tocsr()
        return [value.data, value.indices, value.indptr]
    is_numeric = isinstance(value, np.ndarray) and value.dtype.kind in "biuf"
    return value if is_numeric else None
