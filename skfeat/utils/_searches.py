"""Fits that scikit-learn runs as candidates of a search.

scikit-learn sets the warning filters anew in each of them, so that Python forgets what
it has told: the same warning would be told once a fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from skfeat.utils._sklearn import callbacks_of, parent_context_of
from skfeat.utils._warnings import Receiver, Waiting, show

# Causes that candidates of the latest searches have told in this process. Several
# searches may run at a time, in threads.
_TOLD: dict[UUID, set[str]] = {}
_MOST_SEARCHES = 16

_NOT_AGAIN = (
    "Other fits of this search that do the same are not warned of; to count them, set "
    "skfeat.callbacks.WarningSummary() on the search by set_callbacks."
)


class SearchReceiver(Receiver):
    """Tells of each cause once a search, as far as this process knows.

    Parameters
    ----------
    search : UUID
        Of all fits of the search.
    """

    def __init__(self, search: UUID):
        self.search = search

    def begin_fit(self) -> None:
        """Count nothing."""

    def receive(self, warning: Waiting) -> bool:
        """Tell the first warning of a cause, and that it is the first."""
        while len(_TOLD) >= _MOST_SEARCHES and self.search not in _TOLD:
            _TOLD.pop(next(iter(_TOLD)), None)
        told = _TOLD.setdefault(self.search, set())
        if warning.cause not in told:
            show(replace(warning, message=f"{warning.message} {_NOT_AGAIN}"))
            # Not where a filter makes an error of it: each fit is to fail alike.
            told.add(warning.cause)
        return True


def receivers_of(estimator: Any) -> Sequence[Receiver]:
    """Return what takes the warnings of a fit that is one of many."""
    context = parent_context_of(estimator)
    if context is None:
        return []
    run = context.root_uuid
    receivers = [
        callback.receiver_of(run)
        for callback in callbacks_of(estimator)
        if hasattr(callback, "receiver_of")
    ]
    if receivers:
        return receivers
    while context is not None:
        # Candidates are independent of one another, steps of a pipeline are not.
        if not context.sequential_subtasks:
            return [SearchReceiver(run)]
        context = context.parent
    return []
