"""One row of an unwrapped model explained, beside what the model itself gives."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from skfeat.network import Explanation


class ExplainedRows:
    """Mixin of FeatureUnwrapper: the explanation of one row."""

    network: Any
    network_inputs: Any
    _single: Any
    _decide: Any
    _model_values: Any

    def explain(self, x: Any, output: int | str | None = None) -> Explanation:
        """Explain one output of one row by its inputs and features.

        Parameters
        ----------
        x : array-like of shape (n_features,) or (1, n_features)
            The row, an input of the model; with `start` one sample, as an image
            (channels, height, width).
        output : int or str, default=None
            Which output: a column of the raw outputs, the logits of a classifier, or
            its name. ``None``: the class that the network predicts, or the only output;
            of several values, the largest.

        Returns
        -------
        explanation : Explanation
            A small table of names, values and contributions, beside the output of the
            model itself and the gap to it. After the steps of a Pipeline, inputs are
            what these steps make of the row.

        Raises
        ------
        ValueError
            If x is not one row, if there is no such output, or if the model is curved
            between its last features and the outputs.
        """
        network = self.network()
        rows = self.network_inputs(self._single(x))
        explanation = network.explain(rows, output)
        own = self._model_values(rows)
        prediction = None
        if explanation.prediction is not None:
            prediction = self._decide(own)[0]
        return replace(
            explanation,
            model_value=float(own[0, explanation.attribution.output[0]]),
            model_prediction=prediction,
        )
