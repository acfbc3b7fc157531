"""A fitted estimator as plain values and arrays, which a file can hold safely."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from skfeat import _version
from skfeat.network._file import _read_arrays

CONFIG, ARRAYS, CARD = "config.json", "arrays.npz", "README.md"
FORMAT, VERSION = "skfeat.sharing", 1

_LARGEST_JSON = 2**26
# Of one machine or one run: they would tell strangers more than the estimator.
_LOCAL = {"device", "checkpoint", "verbose", "n_jobs"}


@dataclass
class State:
    """What a file keeps of an estimator.

    Attributes
    ----------
    kind : str
        The name of its class.
    params : dict
        Its parameters, but for those that no JSON can hold or that are of one machine.
    values : dict
        Its fitted values, as JSON has them.
    arrays : dict of str to ndarray
    parts : dict of str to State
        Fitted estimators within it.
    """

    kind: str
    params: dict[str, Any] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    parts: dict[str, State] = field(default_factory=dict)


def write_state(state: State, folder: Path) -> None:
    """Write the two files."""
    np.savez(folder / ARRAYS, **_flat(state))
    write_config(folder, _described(state))


def write_config(folder: Path, described: dict[str, Any]) -> None:
    """Write the configuration."""
    head = {"format": FORMAT, "version": VERSION, "skfeat": _version.__version__}
    text = json.dumps({**head, **described}, indent=1, allow_nan=False) + "\n"
    (folder / CONFIG).write_bytes(text.encode())


def read_config(folder: Path) -> dict[str, Any]:
    """Read the configuration, and check that it is one."""
    path = folder / CONFIG
    if path.stat().st_size > _LARGEST_JSON:
        raise ValueError(f"{CONFIG} is too large for a configuration")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ValueError(f"{CONFIG} is not JSON") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ValueError(f"{CONFIG} does not name the format {FORMAT!r}")
    if config.get("version") != VERSION:
        raise ValueError(
            f"it has the format version {config.get('version')!r} and was written by "
            f"skfeat {config.get('skfeat')}; this skfeat {_version.__version__} reads "
            f"the format version {VERSION}"
        )
    return config


def read_state(folder: Path, config: Mapping[str, Any]) -> State:
    """Read what :func:`write_state` wrote."""
    path = folder / ARRAYS
    with open(path, "rb") as file:
        arrays = _read_arrays(file)
    state = _restored(config, arrays, "")
    if arrays:
        raise ValueError(f"{ARRAYS} also has {min(arrays)!r}")
    return state


def plain_params(estimator: Any) -> dict[str, Any]:
    """Return the parameters that JSON can hold; all others are left out."""
    found = {}
    for name, value in estimator.get_params(deep=False).items():
        if name not in _LOCAL:
            try:
                found[name] = plain(value)
            except TypeError:
                continue
    return found


def plain(value: Any) -> Any:
    """Return a number, text, or a list of them as JSON has it.

    Infinite numbers and nan, which JSON has not, become text.

    Raises
    ------
    TypeError
        If it is anything else.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not np.isfinite(value):
        return repr(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{type(value).__name__} is no plain value")


def from_params(cls: type, params: Mapping[str, Any]) -> Any:
    """Make an estimator of parameters that a file holds, after checking them."""
    known = cls._get_param_names()  # type: ignore[attr-defined]
    if unknown := sorted(set(params) - set(known)):
        raise ValueError(f"{cls.__name__} has no parameter {unknown[0]!r}")
    estimator = cls(**params)
    estimator._validate_params()
    return estimator


def _described(state: State) -> dict[str, Any]:
    own: dict[str, Any] = {"class": state.kind}
    own |= {"params": state.params, "fitted": state.values}
    if state.parts:
        own["parts"] = {name: _described(part) for name, part in state.parts.items()}
    return own


def _flat(state: State, start: str = "") -> dict[str, Any]:
    arrays: dict[str, Any] = {
        f"{start}{name}": array for name, array in state.arrays.items()
    }
    for name, part in state.parts.items():
        arrays |= _flat(part, f"{start}{name}.")
    return arrays


def _restored(
    described: Mapping[str, Any], arrays: dict[str, np.ndarray], start: str
) -> State:
    """Take a part's arrays out of all; what is left belongs to nothing."""
    entries = {key: described.get(key, {}) for key in ("params", "fitted", "parts")}
    for key, entry in entries.items():
        if not isinstance(entry, dict):
            raise ValueError(f"{CONFIG} has no object {key!r}")
    parts = {}
    for name, part in entries["parts"].items():
        if not isinstance(part, dict):
            raise ValueError(f"{CONFIG} has no object {name!r}")
        parts[name] = _restored(part, arrays, f"{start}{name}.")
    own = list(_own_names(arrays, start))
    return State(
        kind=str(described.get("class")),
        params=entries["params"],
        values=entries["fitted"],
        arrays={name.removeprefix(start): arrays.pop(name) for name in own},
        parts=parts,
    )


def _own_names(arrays: Mapping[str, np.ndarray], start: str) -> Iterator[str]:
    return (name for name in list(arrays) if name.startswith(start))
