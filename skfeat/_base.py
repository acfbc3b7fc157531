"""What the estimators share."""

from __future__ import annotations

from skfeat import _version
from skfeat.solvers._loop import EpochHooks
from skfeat.utils._bases import BaseEstimator, CallbackSupportMixin
from skfeat.utils._site import SITE
from skfeat.utils._sklearn import refuse_flag
from skfeat.utils._warnings import warn


class SkfeatEstimator(CallbackSupportMixin, BaseEstimator):
    """Callbacks, versioned pickles and documentation links."""

    _doc_link_module = "skfeat"
    _doc_link_template = SITE + "api/{estimator_name}.html"

    def _validate_params(self):
        """Refuse True and False, too, where they would count as the numbers 1 and 0."""
        super()._validate_params()
        for name, value in self.get_params(deep=False).items():
            if isinstance(value, bool):
                refuse_flag(self, name, value)

    def __getstate__(self):
        return {**super().__getstate__(), "_skfeat_version": _version.__version__}

    def __setstate__(self, state):
        written_by = state.pop("_skfeat_version", "an unknown version")
        if written_by != _version.__version__:
            warn(
                f"This {type(self).__name__} was pickled by skfeat {written_by} and is "
                f"loaded by skfeat {_version.__version__}; its predictions may differ.",
            )
        super().__setstate__(state)


class CallbackEpochs(EpochHooks):
    """Shows every epoch of a fit to the estimator's scikit-learn callbacks.

    Parameters
    ----------
    estimator : SkfeatEstimator
    context : sklearn.callback.CallbackContext
        The context of the whole fit.
    data : dict
        ``X``, ``y`` and ``metadata`` as the callbacks shall see them.
    attributes : callable
        Maps the state that a solver reports to copies of the fitted attributes.
    """

    def __init__(self, estimator, context, data, attributes):
        self.estimator = estimator
        self.context = context
        self.data = data
        self.attributes = attributes

    def begin(self):
        """Open the subtask of an epoch."""
        self.subcontext = self.context.subcontext(task_name="epoch")
        self.subcontext.call_on_fit_task_begin(estimator=self.estimator, **self.data)

    def end(self, state):
        """Close the subtask; True if a callback requests a stop."""
        return self.subcontext.call_on_fit_task_end(
            estimator=self.estimator,
            **self.data,
            reconstruction_attributes=lambda: self.attributes(state()),
        )
