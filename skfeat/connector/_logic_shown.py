"""The logic of an output as it is shown: a few lines, and a table of its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import Bunch

from skfeat.utils._shown import Column, Part, Shown, data_frame

if TYPE_CHECKING:
    import pandas as pd

# A rate of fewer rows is not judged: of 10, its standard error is up to 0.16.
MIN_ROWS = 10

_TITLES = {
    "weight": "",
    "fires": "share of the rows in which the input fires",
    "adds": "mean of weight times activation where it fires",
    "output": "share of the rows with the input in which the output fires",
    "alone": "the same where no other listed input fires (~: where it outweighs them)",
    "rows": "number of rows that this is of",
    "with": "of the rows that tell of an inhibitor: with it, the output fires in",
    "without": "without it, the output fires in",
    "role": "what the input does to the output",
    "input": "",
}


class Logic(Shown, Bunch):
    """How the inputs of one output combine, as ``FeatureConnector.logic`` reads it.

    Printing it, or ending a notebook cell with it, shows the reading and its evidence.
    """

    def to_frame(self) -> pd.DataFrame:
        """Make a data frame of `inputs`, the evidence for each listed input.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        ImportError
            If pandas is not installed.
        """
        keys = self["inputs"][0] if self["inputs"] else ["index", "name", "weight"]
        return data_frame({key: [one[key] for one in self["inputs"]] for key in keys})

    def _parts(self) -> list[Part]:
        summary = (
            f"fires in {self.output_rate:.3f} of {self.n_rows} rows, in "
            f"{_rate(self.rate_without_inputs) or 'none'} of the "
            f"{self.n_without_inputs} where no listed input does; coverage "
            f"{_rate(self.coverage) or 'unknown'}"
        )
        return [
            f"{self.name}: {self.kind}: {self.formula}",
            summary,
            self.columns_of_inputs(),
        ]

    def columns_of_inputs(self, label_of: Mapping[str, str] | None = None) -> list:
        """Return the columns of the table of inputs, without those that are empty.

        Parameters
        ----------
        label_of : dict of str to str, default=None
            What to write after the name of an input.
        """
        labels = label_of or {}
        rows = [_cells(entry, labels) for entry in self["inputs"]]
        columns = [
            Column(title, [row[i] for row in rows], meaning, title in ("role", "input"))
            for i, (title, meaning) in enumerate(_TITLES.items())
        ]
        return [column for column in columns if any(column.cells)]


def _cells(entry: Mapping[str, Any], label_of: Mapping[str, str]) -> list[str]:
    """Write one input's row; ~ marks what rests on rows where it outweighs the rest."""
    alone, n = entry["output_rate_alone"], entry["n_alone"]
    mark = ""
    if n < MIN_ROWS <= entry["n_dominant"]:
        alone, n, mark = entry["output_rate_dominant"], entry["n_dominant"], "~"
    rates = [entry["output_rate_with"], entry["output_rate_without"]]
    cells = [f"{entry['weight']:.3g}", _rate(entry["firing_rate"])]
    cells += ["" if np.isnan(x := entry["mean_contribution"]) else f"{x:.3g}"]
    cells += [_rate(entry["output_rate_firing"]), mark + _rate(alone), f"{mark}{n}"]
    name = f"{entry['name']} {label_of.get(entry['name'], '')}".strip()
    return [*cells, *map(_rate, rates), entry["role"], name]


def _rate(value: float) -> str:
    return "" if np.isnan(value) else f"{value:.3f}"
