"""What fitted connectors share: predicting with sparse weights, and reading them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import sparse
from sklearn.utils import Bunch
from sklearn.utils.validation import check_is_fitted, validate_data

from skfeat._base import SkfeatEstimator
from skfeat.connector._graph import connector_graph
from skfeat.connector._logic import connector_logic
from skfeat.metrics._reconstruction import r2_of_predictions
from skfeat.utils._arrays import accept_tensor
from skfeat.utils._bases import MultiOutputMixin, RegressorMixin
from skfeat.utils._checks import check_flag, check_names
from skfeat.utils._finite import check_finite_result
from skfeat.utils._formula import write_formula
from skfeat.utils._names import connector_names
from skfeat.utils._sklearn import _align_api_if_sparse

if TYPE_CHECKING:
    import networkx as nx


class BaseConnector(MultiOutputMixin, RegressorMixin, SkfeatEstimator):
    """A regressor with sparse weights ``coef_``, an ``intercept_`` and a ``link``."""

    link: str
    coef_: sparse.csr_array
    intercept_: np.ndarray
    alpha_: float
    n_iter_: int
    dual_gap_: float
    _y_is_1d: bool
    _state: Any
    _interrupted: bool
    _link: str

    def predict(self, X) -> np.ndarray:
        """Compute the features of the second layer from those of the first.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_inputs)
            Features of the first layer.

        Returns
        -------
        ndarray of shape (n,) or (n, n_outputs)
            Dense predictions, in the shape of the y that was fitted.

        Raises
        ------
        ValueError
            If X is not valid, or so large that predictions are beyond the range of its
            dtype.
        """
        check_is_fitted(self)
        X = validate_data(
            self,
            accept_tensor(X),
            accept_sparse=("csr", "csc"),
            dtype=[np.float64, np.float32],
            reset=False,
        )
        # The sparse weights stand on the left, where scipy multiplies them into dense
        # rows without ever making them dense.
        with np.errstate(over="ignore", invalid="ignore"):
            predicted = self.coef_.astype(X.dtype, copy=False) @ X.T
            if sparse.issparse(predicted):
                predicted = predicted.toarray()
            predicted = predicted.T + self.intercept_.astype(X.dtype)
        check_finite_result("The predictions", predicted, X)
        if self._fitted_link == "relu":
            np.maximum(predicted, 0, out=predicted)
        return predicted.ravel() if self._y_is_1d else np.ascontiguousarray(predicted)

    def score(self, X, y, sample_weight=None) -> float:
        """Return the R2 of the predictions, averaged over the outputs.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n, n_inputs)
            Features of the first layer.
        y : array-like or sparse matrix of shape (n,) or (n, n_outputs)
            Features of the second layer.
        sample_weight : array-like of shape (n,), default=None
            Weight of each row.

        Returns
        -------
        float
        """
        return r2_of_predictions(self, X, y, sample_weight)

    def formula(
        self, output, *, max_terms=None, feature_names=None, output_names=None
    ) -> str:
        """Write one output as a weighted sum of its inputs, strongest first.

        The intercept and the link are left out.

        Parameters
        ----------
        output : int or str
            Index of the output, or its name.
        max_terms : int, default=None
            Number of inputs written; ``None`` means all with a nonzero weight.
        feature_names : sequence of str, default=None
            Names of the inputs; ``None`` means what the unwrapper that it is of calls
            them, else the columns it was fitted with, else "F1_0", "F1_1" and so on.
        output_names : sequence of str, default=None
            Names of the outputs; ``None`` likewise, else "F2_0", "F2_1" and so on.

        Returns
        -------
        str
            For example ``"F2_30 = 0.26*F1_2797 + 0.23*F1_259 + 0.10*F1_946"``.

        Raises
        ------
        ValueError
            If `output` is not one of the outputs, or the names are too few.
        """
        names = self._names(feature_names, output_names)
        return write_formula(self.coef_, output, max_terms, *names)

    def logic(
        self,
        output,
        X,
        y=None,
        *,
        max_inputs=8,
        threshold=0.0,
        feature_names=None,
        output_names=None,
    ) -> Bunch:
        """Read how the strongest inputs of one output combine on data.

        Weights alone do not tell an OR from an AND: what counts is which inputs fire
        together, and whether one of them is enough.

        Parameters
        ----------
        output : int or str
            Index of the output, or its name.
        X : array-like or sparse matrix of shape (n, n_inputs)
            Features of the first layer.
        y : array-like or sparse matrix of shape (n,) or (n, n_outputs), default=None
            Measured features of the second layer; one column is that of `output`.
            ``None`` means the connector's own prediction, which may fire everywhere
            by a small intercept: give y, or a threshold above zero.
        max_inputs : int or None, default=8
            How many inputs are looked at, strongest first by the size of their weight
            times their root mean square.
        threshold : float, default=0.0
            A feature fires where it is larger than this.
        feature_names : sequence of str, default=None
            Names of the inputs; ``None`` means what the unwrapper that it is of calls
            them, else the columns it was fitted with, else "F1_0", "F1_1" and so on.
        output_names : sequence of str, default=None
            Names of the outputs; ``None`` likewise, else "F2_0", "F2_1" and so on.

        Returns
        -------
        logic : Bunch
            Printed, or at the end of a notebook cell, it shows as a table;
            ``logic.to_frame()`` has the evidence for each input. ``kind``: "or"
            (several inputs are each enough), "and-not" (enough unless another one
            fires), "and" (only together), "single", "mixed" or "none". ``formula``:
            the reading with its weights. ``inputs``: a list of dicts
            with the evidence for each input, its firing rate, mean contribution and
            the output's firing rate given that it fires, that it fires alone, and
            with and without it. ``coverage``: the share of the output's firings that
            the reading explains. ``text``: all of it as a table.

        Raises
        ------
        ValueError
            If an argument is not valid.

        Examples
        --------
        >>> import numpy as np
        >>> from skfeat import FeatureConnector
        >>> X = np.random.RandomState(0).binomial(1, 0.2, (1000, 4)) * 1.0
        >>> y = np.maximum(X[:, 0] + X[:, 1] - 2 * X[:, 3], 0)
        >>> connector = FeatureConnector(n_nonzero_coefs=3).fit(X, y)
        >>> connector.logic(0, X, y).kind
        'and-not'
        """
        names = self._names(feature_names, output_names)
        X = validate_data(
            self,
            accept_tensor(X),
            accept_sparse="csr",
            dtype=[np.float64, np.float32],
            reset=False,
        )
        return connector_logic(
            self.coef_,
            self.intercept_,
            self._fitted_link,
            output,
            X,
            y,
            max_inputs=max_inputs,
            threshold=threshold,
            names=names,
        )

    def to_networkx(
        self, *, feature_names=None, output_names=None, all_features=False
    ) -> nx.DiGraph:
        """Return the weights as a graph from the inputs to the outputs.

        Parameters
        ----------
        feature_names : sequence of str, default=None
            Names of the inputs; ``None`` means what the unwrapper that it is of calls
            them, else the columns it was fitted with, else "F1_0", "F1_1" and so on.
        output_names : sequence of str, default=None
            Names of the outputs; ``None`` likewise, else "F2_0", "F2_1" and so on.
        all_features : bool, default=False
            Keep features without an edge.

        Returns
        -------
        networkx.DiGraph
            Nodes have ``layer`` and ``index``, outputs ``bias``, edges ``weight``.

        Raises
        ------
        ImportError
            If networkx is not installed.
        ValueError
            If names are too few or not unique.
        """
        check_flag("all_features", all_features)
        names = self._names(feature_names, output_names)
        return connector_graph(
            self.coef_, self.intercept_, *names, all_features=all_features
        )

    def _names(
        self, feature_names=None, output_names=None
    ) -> tuple[Sequence[str], Sequence[str]]:
        """Return what inputs and outputs are called, where no names were given."""
        check_is_fitted(self)
        n_outputs, n_inputs = self.coef_.shape
        check_names("feature_names", feature_names, n_inputs)
        check_names("output_names", output_names, n_outputs, "outputs")
        own = vars(self)
        inputs, outputs = connector_names(
            own.get("_input_names", own.get("feature_names_in_")),
            own.get("_output_names", own.get("output_names_")),
            (n_outputs, n_inputs),
        )
        return (
            inputs if feature_names is None else list(feature_names),
            outputs if output_names is None else list(output_names),
        )

    def _take_back(self, coef: sparse.csr_array, intercept: np.ndarray) -> None:
        """Take the weights that a fit with these parameters has left in a file.

        What that fit would go on from is not kept with them.
        """
        self._state, self._interrupted, self._link = None, False, self.link
        self.coef_ = _align_api_if_sparse(coef)
        self.intercept_ = intercept  # the last, as it means "fitted"

    @property
    def _fitted_link(self) -> str:
        """The link of the fitted weights: `link` may be meant for the next fit."""
        return vars(self).get("_link", self.link)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "intercept_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        # What is rectified cannot follow targets below zero.
        tags.regressor_tags.poor_score = self.link == "relu"
        return tags
