"""Columns of text side by side."""

from __future__ import annotations


def write_columns(columns: dict[str, list[str]], left: str) -> list[str]:
    """Align columns to the right, one of them to the left, below their titles.

    Parameters
    ----------
    columns : dict of str to list of str
        The cells of each column by its title.
    left : str
        Title of the column that is aligned to the left.

    Returns
    -------
    list of str
        Lines, the first with the titles.
    """
    aligned = []
    for title, cells in columns.items():
        width = max(map(len, [title, *cells]))
        pad = str.ljust if title == left else str.rjust
        aligned.append([pad(cell, width) for cell in [title, *cells]])
    return ["  ".join(row).rstrip() for row in zip(*aligned, strict=True)]
