"""Whether a data frame has the columns that a network was made for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from skfeat.utils._names import column_names

_SHOWN = 5


def check_columns(fitted: Iterable[str], table: Any) -> None:
    """Refuse a data frame of other columns, in the words of scikit-learn.

    Raises
    ------
    ValueError
        If names are missing, unknown or in another order. Arrays have none.
    """
    check_same_names(fitted, column_names(table))


def check_same_names(fitted: Iterable[str], found: list[Any] | None) -> None:
    """Refuse other names of columns than those that were fitted; None is none."""
    expected = list(fitted)
    if found is None or found == expected:
        return
    unknown, missing = (
        sorted(map(str, set(these) - set(those)))
        for these, those in ((found, expected), (expected, found))
    )
    message = "The feature names should match those that were passed during fit.\n"
    if unknown:
        message += f"Feature names unseen at fit time:\n{_listed(unknown)}"
    if missing:
        message += (
            f"Feature names seen at fit time, yet now missing:\n{_listed(missing)}"
        )
    if not unknown and not missing:
        message += "Feature names must be in the same order as they were in fit.\n"
    raise ValueError(message)


def _listed(names: list[str]) -> str:
    lines = [f"- {name}\n" for name in names[:_SHOWN]]
    return "".join(lines + ["- ...\n"] * (len(names) > _SHOWN))
