"""Callbacks of scikit-learn for the fits of this library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from skfeat.utils._sklearn import close_listener, open_listener, send
from skfeat.utils._warnings import Receiver, Waiting, tell_once

if TYPE_CHECKING:
    from sklearn.callback import CallbackContext

__all__ = ["WarningSummary"]

# What a fit sends when it begins.
_FIT = None


class WarningSummary:
    """Tells what the fits of a search warn of once, with counts.

    Set on a ``GridSearchCV``, or another search of scikit-learn that takes callbacks,
    it gathers the warnings that skfeat's estimators give in all fits, those of other
    processes too. At the end of the search there is one warning for each cause: that of
    the worst fit, and the number of fits it happened in. Warnings of other libraries
    are told as ever.

    Attributes
    ----------
    max_propagation_depth : None
        Estimators at any depth are listened to, such as the last step of a pipeline.

    See Also
    --------
    sklearn.callback.ProgressBar : How far the search is.

    Examples
    --------
    >>> import warnings
    >>> from sklearn.model_selection import GridSearchCV
    >>> from skfeat import SparseAutoencoder
    >>> from skfeat.callbacks import WarningSummary
    >>> from skfeat.datasets import make_sparse_features
    >>> X, _, _ = make_sparse_features(300, 8, 16, random_state=0)
    >>> autoencoder = SparseAutoencoder(16, max_iter=2, random_state=0)
    >>> search = GridSearchCV(autoencoder, {"k": [2, 3]}, cv=3)
    >>> search = search.set_callbacks(WarningSummary())
    >>> with warnings.catch_warnings(record=True, action="always") as told:
    ...     search = search.fit(X)
    >>> print(told[0].message)
    SparseAutoencoder used its max_iter=2 epochs while the loss was still falling by
    more than 5% an epoch; a larger max_iter will fit better. It happened in 7 of 7
    fits.
    """

    max_propagation_depth = None

    def __init__(self) -> None:
        # By run: searches may be fitted side by side.
        self._handles: dict[UUID, Any] = {}
        self._sent: dict[UUID, list[Waiting | None]] = {}

    def setup(self, estimator: Any, context: CallbackContext) -> None:
        """Begin to listen.

        Parameters
        ----------
        estimator : estimator
            Whose fit begins.
        context : sklearn.callback.CallbackContext
            The task of the whole fit.
        """
        sent: list[Waiting | None] = []
        self._sent[context.root_uuid] = sent
        self._handles[context.root_uuid] = open_listener(sent.append)

    def teardown(self, estimator: Any, context: CallbackContext) -> None:
        """Tell what has been gathered.

        Parameters
        ----------
        estimator : estimator
            Whose fit is over.
        context : sklearn.callback.CallbackContext
            The task of the whole fit.
        """
        close_listener(self._handles.pop(context.root_uuid))
        sent = self._sent.pop(context.root_uuid)
        waiting = [warning for warning in sent if warning is not None]
        # Workers end in any order.
        waiting.sort(key=lambda warning: warning.text)
        tell_once(waiting, sent.count(_FIT))

    def on_fit_task_begin(self, estimator: Any, context: CallbackContext) -> None:
        """Do nothing: warnings come from within the fits.

        Parameters
        ----------
        estimator : estimator
            That the task is of.
        context : sklearn.callback.CallbackContext
            The task.
        """

    def on_fit_task_end(self, estimator: Any, context: CallbackContext) -> bool:
        """Let the fit go on.

        Parameters
        ----------
        estimator : estimator
            That the task is of.
        context : sklearn.callback.CallbackContext
            The task.

        Returns
        -------
        bool
            False.
        """
        return False

    def receiver_of(self, run: UUID) -> Receiver:
        """Return what takes the warnings of a fit, perhaps in another process.

        Parameters
        ----------
        run : UUID
            The run that the fit is part of.

        Returns
        -------
        Receiver
        """
        return _Sender(self._handles[run])

    def __getstate__(self) -> dict[str, Any]:
        # Workers send to this process and need no copy of what others have sent.
        return {"_handles": dict(self._handles), "_sent": {}}


class _Sender(Receiver):
    """Sends the warnings of one fit to the process that runs the search."""

    def __init__(self, handle: Any):
        self.handle = handle

    def begin_fit(self) -> None:
        self._send(_FIT)

    def receive(self, warning: Waiting) -> bool:
        return self._send(warning)

    def _send(self, message: Waiting | None) -> bool:
        try:
            send(self.handle, message)
        except OSError:
            # Workers on another machine do not reach it: they tell all themselves.
            return False
        return True
