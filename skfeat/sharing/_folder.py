"""Writing fitted estimators to folders and repositories, and reading them back."""

from __future__ import annotations

import os
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from skfeat.network._network import SparseFeatureNetwork
from skfeat.sharing import _hub
from skfeat.sharing._card import HERE, write_card
from skfeat.sharing._kinds import NETWORK_KIND, kinds, to_share
from skfeat.sharing._state import (
    ARRAYS,
    CARD,
    CONFIG,
    read_config,
    read_state,
    write_config,
    write_state,
)
from skfeat.utils._checks import check_flag, check_path, listed, type_error
from skfeat.utils._files import replacing_folder

NETWORK = "network.npz"

# A repository of the hub, as opposed to a path.
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def save_pretrained(
    estimator: Any,
    folder: str | os.PathLike[str],
    *,
    license: str = "unknown",
    description: str | None = None,
    measures: Any = None,
) -> None:
    """Write a fitted estimator to a folder that can be shared.

    The folder gets ``config.json`` (the class, its parameters, fitted numbers and
    names), a ``.npz`` file of plain arrays, and a model card, ``README.md``. Reading
    them executes nothing, so that who trusts no stranger's pickle can load them.

    What is of one machine or one run is left out: `device`, `checkpoint`, `n_jobs`,
    `verbose`, the state of training, and parameters that are neither numbers, text nor
    lists of them, such as a RandomState; these are at their defaults in what is loaded.

    Parameters
    ----------
    estimator : estimator or SparseFeatureNetwork
        A fitted `SparseAutoencoder`, `Transcoder`, `FeatureEnsemble`,
        `FeatureConnector`, `FeatureConnectorCV`, `FeatureUnwrapper`, `LayerPair`,
        `MLPConnector`, `ModelUnwrapper` or a `SparseFeatureNetwork`. Of a
        `FeatureUnwrapper`, which holds the user's own model, the network is written; of
        a `ModelUnwrapper` all but the model, which ``set_params(model=...)`` gives to
        what is loaded. The nonlinear connector of a `LayerPair` is written if it is one
        of these classes, else left out with a warning.
    folder : str or path
        Made if it does not exist. Files of these names in it are replaced.
    license : str, default="unknown"
        The licence's identifier, such as "bsd-3-clause", for the header of the card.
    description : str, default=None
        What the card says first: of which model and data the estimator is. Markdown.
    measures : Report, PairReport, other result with a table, or dict, default=None
        Measures for the card, such as ``unwrapper.report(X_test, y_test)`` or
        ``{"R2 on held-out rows": 0.93}``.

    Raises
    ------
    TypeError
        If the estimator is of another class.
    NotFittedError
        If it is not fitted.
    ValueError
        If another argument is not valid.
    OSError
        If a file cannot be written.

    See Also
    --------
    from_pretrained : Reads the folder.
    push_to_hub : Writes to the Hugging Face Hub.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sklearn.datasets import load_digits
    >>> from skfeat import SparseAutoencoder
    >>> from skfeat.sharing import from_pretrained, save_pretrained
    >>> X, _ = load_digits(return_X_y=True)
    >>> sae = SparseAutoencoder(32, k=4, max_iter=20, random_state=0).fit(X)
    >>> with TemporaryDirectory() as folder:
    ...     save_pretrained(sae, folder, license="cc0-1.0")
    ...     again = from_pretrained(folder)
    >>> bool((again.transform(X) == sae.transform(X)).all())
    True
    """
    path = check_path("folder", folder)
    shared = to_share(estimator)
    card = write_card(*shared, license, description, measures, HERE)
    _write(*shared, path, card)


def from_pretrained(
    source: str | os.PathLike[str], *, revision: str | None = None
) -> Any:
    """Load what :func:`save_pretrained` or :func:`push_to_hub` wrote.

    Nothing in the files is executed. A `SparseFeatureNetwork` is loaded without torch.

    Parameters
    ----------
    source : str or path
        A folder; or, where there is none of that name, a repository of the Hugging Face
        Hub as ``"owner/name"``, which needs the extra ``hub``.
    revision : str, default=None
        Branch, tag or commit of a repository; ``None``: its newest.

    Returns
    -------
    estimator or SparseFeatureNetwork
        Fitted. Training does not go on from it with `warm_start` or `partial_fit`
        where that needs the state of training.

    Raises
    ------
    FileNotFoundError
        If there is neither a folder nor a repository, or if a file is missing.
    ValueError
        If a file is damaged, of another kind or of another format version.
    ImportError
        If it is a repository and huggingface_hub is not installed.

    See Also
    --------
    save_pretrained : Writes such a folder, with an example of both.
    """
    path = check_path("source", source)
    if revision is not None and not isinstance(revision, str):
        raise type_error("revision", "a str or None", revision)
    if path.is_dir():
        if revision is not None:
            raise ValueError(
                f"revision must be None where source is a folder, which has one state. "
                f"Got {revision!r} instead."
            )
    elif isinstance(source, str) and _REPOSITORY.fullmatch(source):
        path = _hub.download(source, revision)
    else:
        raise FileNotFoundError(
            f"source must be a folder that save_pretrained wrote, or a repository as "
            f"'owner/name'. There is no {os.fspath(path)!r}."
        )
    start = f"Cannot load an estimator from {os.fspath(path)!r}:"
    try:
        return _read(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{start} there is no {error.filename!r}.") from None
    except ImportError:
        raise
    except Exception as error:  # a damaged file may raise any error
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{start} {reason[0].rstrip('.')}.") from error


def push_to_hub(
    estimator: Any,
    repository: str,
    *,
    license: str = "unknown",
    description: str | None = None,
    measures: Any = None,
    private: bool = False,
) -> str:
    """Write a fitted estimator to a repository of the Hugging Face Hub.

    The files are those of :func:`save_pretrained`. The user's own token is used, as
    ``huggingface_hub`` finds it.

    Parameters
    ----------
    estimator : estimator or SparseFeatureNetwork
        As of :func:`save_pretrained`.
    repository : str
        As ``"owner/name"``; made if it does not exist.
    license, description, measures
        As of :func:`save_pretrained`.
    private : bool, default=False
        Whether a repository that is made is private.

    Returns
    -------
    str
        The address of the commit.

    Raises
    ------
    ImportError
        If huggingface_hub is not installed: extra ``hub``.
    TypeError, NotFittedError, ValueError
        As of :func:`save_pretrained`.
    """
    if not isinstance(repository, str) or not _REPOSITORY.fullmatch(repository):
        raise ValueError(
            f"repository must be a str of the form 'owner/name'. Got {repository!r} "
            f"instead."
        )
    check_flag("private", private)
    shared = to_share(estimator)
    card = write_card(*shared, license, description, measures, repository)
    with TemporaryDirectory() as folder:
        _write(*shared, Path(folder), card)
        return _hub.upload(Path(folder), repository, private=bool(private))


def _write(kind: str, thing: Any, folder: Path, card: str) -> None:
    with replacing_folder(folder, (CONFIG, ARRAYS, NETWORK, CARD)) as made:
        (made / CARD).write_bytes(card.encode())
        if kind == NETWORK_KIND:
            thing.save(made / NETWORK)
            write_config(made, {"class": kind})
        else:
            write_state(kinds()[kind].state(thing), made)


def _read(folder: Path) -> Any:
    config = read_config(folder)
    kind = config.get("class")
    if kind == NETWORK_KIND:
        return SparseFeatureNetwork.load(folder / NETWORK)
    # Estimators train with torch, which a saved network does without.
    known = kinds()
    if kind not in list(known):
        allowed = listed([NETWORK_KIND, *known], "or")
        raise ValueError(f"{CONFIG} names the class {kind!r}, which is not {allowed}")
    return known[kind].restore(read_state(folder, config))
