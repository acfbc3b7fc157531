"""What a fit of an unwrapper refuses, and which parameters it says change nothing."""

from __future__ import annotations

from skfeat._fitting import check_ends, check_width, ignored_in_parts
from skfeat.autoencoder._setup import ignored_by_autoencoder
from skfeat.connector._setup import ignored_in_part
from skfeat.unwrapper._plan import Unwrapping
from skfeat.utils._ignored import ignored_params


def ignored_by_unwrapper(job: Unwrapping) -> dict[str, str]:
    """Return the parameters, nested ones too, that change nothing in a fit."""
    params, connectors = job.params, job.connectors
    own = [
        None if is_kept else connector.n_nonzero_coefs if given is None else given
        for connector, is_kept, given in zip(*connectors, job.budgets, strict=True)
    ]
    # Default connectors have a budget each.
    by_default = params.connector is None
    n_budgets = sum(budget is not None or by_default for budget in own)
    has_connectors = bool(own)
    found = ignored_params(
        params,
        connectors=has_connectors,
        budgets=not has_connectors or not all(connectors.frozen),
        shares=not has_connectors or n_budgets > 1,
        distills=bool(params.distill) and job.can_move,
        held=not job.ends.output or len(own) != 1,
        encodes=has_connectors and not job.ends.input,
    )
    found |= ignored_in_parts(
        params.autoencoder,
        "autoencoder",
        job.autoencoders,
        lambda index: ignored_by_autoencoder(job.autoencoders.estimators[index]),
    )
    if not has_connectors:
        return found
    given = params.connector

    def ignored_of(index):
        part = given[index] if isinstance(given, list | tuple) else given
        owner = type(params).__name__
        connector = connectors.estimators[index]
        return ignored_in_part(connector, part, job.budgets[index], owner)

    return found | ignored_in_parts(given, "connector", connectors, ignored_of)


def check_kept(job: Unwrapping) -> None:
    """Refuse frozen parts of other layers than those they are to stand for."""
    params = job.params
    is_list = isinstance(params.autoencoder, list | tuple)
    for index, (part, is_kept, layer) in enumerate(
        zip(*job.autoencoders, job.layers, strict=True)
    ):
        if is_kept:
            label = f"autoencoder[{index}]" if is_list else "autoencoder"
            check_width(part, label, layer.n_units, f"layer {layer.name!r} has")
    widths = [
        len(part.components_) if is_kept else part._width(layer.n_units)
        for part, is_kept, layer in zip(*job.autoencoders, job.layers, strict=True)
    ]
    widths = job.end_widths(widths)
    n_read = job.n_read(widths)
    is_list = isinstance(params.connector, list | tuple)
    for index, (part, is_kept) in enumerate(zip(*job.connectors, strict=True)):
        if is_kept:
            label = f"connector[{index}]" if is_list else "connector"
            check_ends(part, label, n_read[index], widths[index + 1])
