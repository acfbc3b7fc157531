"""The explorer's page of an unwrapped model."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from skfeat.network._explore import Options, explore


class Explored:
    """Mixin of FeatureUnwrapper: a page to look around in."""

    model: Any
    connectors_: list[Any]
    network: Any
    network_inputs: Any
    _model_values: Any

    def explore(
        self,
        X: Any,
        y: Any = None,
        path: str | os.PathLike[str] = "explorer.html",
        *,
        output: int | str | None = None,
        image_shape: tuple[int, int] | None = None,
        n_rows: int = 24,
        n_examples: int = 6,
        random_state: Any = 0,
    ) -> Path:
        """Write one HTML file to look around in the features with a browser.

        It shows the graph of the network and of single rows, and a page for each
        feature: the rows on which it fires, how often and how strongly, its formula
        and its logic, the weights that lead to it and from it, and what changes
        without it. The file holds all that it needs, and loads nothing.

        Parameters
        ----------
        X : array-like of shape (n, n_features)
            Inputs of the model to show features by, some thousand at best. All are
            encoded; contributions, ablations and logic are over 500 of them at most.
        y : array-like of shape (n,), default=None
            Labels of the rows, to be shown beside them.
        path : str or path-like, default="explorer.html"
            The file, overwritten if it exists.
        output : int or str, default=None
            The output that contributions are to: a column or its name. ``None``: the
            class that is predicted for each row, or the largest output.
        image_shape : tuple of int (height, width), default=None
            Shape of a row as a grey image; ``None``: rows are rows of a table.
        n_rows : int, default=24
            Rows drawn at random that have a graph of their own.
        n_examples : int, default=6
            Rows by which each feature is shown: so many of the strongest, and one from
            each of so many levels of its activation. Fewer where the file would become
            large.
        random_state : int, RandomState instance or None, default=0
            Determines the rows that are drawn.

        Returns
        -------
        path : pathlib.Path
            The file.

        Raises
        ------
        ValueError
            If a parameter is not valid, or the folder of the file does not exist.

        Examples
        --------
        >>> import tempfile
        >>> from sklearn.datasets import load_iris
        >>> from sklearn.neural_network import MLPClassifier
        >>> from skfeat import FeatureUnwrapper, SparseAutoencoder
        >>> X, y = load_iris(return_X_y=True, as_frame=True)
        >>> X = (X - X.mean()) / X.std()
        >>> mlp = MLPClassifier((8, 8), solver="lbfgs", tol=0.01, random_state=0)
        >>> part = SparseAutoencoder(8, k=4, max_iter=200, random_state=0)
        >>> unwrapper = FeatureUnwrapper(mlp.fit(X, y), autoencoder=part).fit(X)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = unwrapper.explore(X, y, f"{folder}/iris.html")
        ...     path.name, "<title>Features of MLPClassifier" in path.read_text()
        ('iris.html', True)
        """
        model = self.model
        while hasattr(model, "named_steps"):  # the last step is what is shown
            model = model[-1]
        options = Options(
            title=f"Features of {type(model).__name__}",
            output=output,
            image_shape=image_shape,
            n_rows=n_rows,
            n_examples=n_examples,
            random_state=random_state,
            model=self._model_values,
            # Logic is of rows; connectors of maps read patches.
            logic=None if hasattr(self.network(), "map_shapes") else self._logics,
        )
        return explore(self.network(), self.network_inputs(X), y, path, options)

    def _logics(self, features: list[np.ndarray]) -> list[list[str] | None]:
        """Write the logic of the features of each layer, of the values on some rows."""
        found: list[list[str] | None] = [None]
        for connector, (before, after) in zip(
            self.connectors_, pairwise(features), strict=True
        ):
            logics = [
                connector.logic(j, before, after[:, j]) for j in range(after.shape[1])
            ]
            found.append(
                [f"{one.kind}: {one.formula}" if one.inputs else "" for one in logics]
            )
        return found
