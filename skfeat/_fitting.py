"""The parts an unwrapper is made of: layers, budgets, autoencoders and connectors."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from copy import copy
from math import prod
from typing import Any, NamedTuple

import torch
from joblib import effective_n_jobs
from scipy import sparse
from sklearn.base import clone
from sklearn.utils.parallel import Parallel, delayed

from skfeat.chain import WHY_NOT_INNER
from skfeat.initialization import product_init
from skfeat.kernels._threads import n_threads, one_thread
from skfeat.kernels.sae._choose import runs_compiled
from skfeat.utils import _distributed as distributed
from skfeat.utils._checks import is_int
from skfeat.utils._frozen import frozen_part, is_frozen
from skfeat.utils._ignored import ignored_are_told
from skfeat.utils._interrupts import EndTogether
from skfeat.utils._progress import SILENT, Share, progress_of
from skfeat.utils._sklearn import _align_api_if_sparse
from skfeat.utils._warnings import Waiting, gathered, tell_once, warnings_of
from skfeat.utils._workers import received_rows, rows_to_send

# Weights an output that the default connector keeps on average: between features, and
# where it reads the inputs or gives the outputs, which are no sparse features.
_WEIGHTS_PER_FEATURE, _WEIGHTS_AT_ENDS = 4, 20


# Multiply-adds of an update's largest product up to which an autoencoder gains nothing
# from a second thread: two of them, side by side, do, if their loops are compiled.
# Others would wait for one another, as Python runs one thread at a time.
_SMALL = 2**24


class Ends(NamedTuple):
    """Whether connectors lead from the inputs, and to the outputs."""

    input: bool
    output: bool

    def between(self, connectors: list) -> list:
        """Return the connectors between features."""
        return connectors[self.input : len(connectors) - self.output]

    def mark(self, n_connectors: int) -> list[bool]:
        """Tell of each connector whether it is at an end."""
        between = [False] * (n_connectors - self.input - self.output)
        return [True] * self.input + between + [True] * self.output

    def prepare(self, connectors: list, frozen: list[bool]) -> None:
        """Let connectors at the ends do what only they have to.

        Raises
        ------
        ValueError
            If a frozen one would have to change for it.
        """
        if self.output and frozen[-1]:
            if connectors[-1]._fitted_link != "identity":
                raise ValueError(
                    f"connect_output=True needs a last connector of link='identity', "
                    f"as outputs have any sign. Got a frozen one of link="
                    f"{connectors[-1]._fitted_link!r} instead."
                )
        elif self.output:
            # Outputs are values of any sign; not every solver takes that link.
            connectors[-1].set_params(link="identity", solver="auto")
        for connector, at_end, is_kept in zip(
            connectors, self.mark(len(connectors)), frozen, strict=True
        ):
            if at_end and not is_kept and isinstance(connector.init, str):
                connector.set_params(init="random")  # no product leads there


def default_budget(n_outputs: int, at_end: bool) -> int:
    """Return the weights that a default connector of so many outputs keeps."""
    return (_WEIGHTS_AT_ENDS if at_end else _WEIGHTS_PER_FEATURE) * n_outputs


def pick_layers(chain, names, lists=()) -> list:
    """Return the hidden layers of a chain that are named, first to last; all for None.

    Raises
    ------
    ValueError
        If there is no layer of a name, or if names are not in the order of the model,
        or one twice, beside one of the `lists`: parameters with an entry a layer.
    """
    if names is None:
        return list(chain.hidden)
    named = {layer.name: layer for layer in chain.hidden}
    for layer in chain.hidden:
        named.update(dict.fromkeys(layer.aliases, layer))
    unknown = [name for name in names if name not in named]
    if unknown or len(names) == 0:
        inner = [name for name in unknown if name in chain.inner_names]
        why = f" {inner[0]!r} lies inside a block: {WHY_NOT_INNER}." if inner else ""
        raise ValueError(
            f"The 'layers' parameter must name hidden layers of the model: "
            f"{[layer.name for layer in chain.hidden]}. Got {list(names)} instead.{why}"
        )
    asked = [named[name] for name in names]
    chosen = [layer for layer in chain.hidden if layer in asked]
    if len(set(names)) < len(names):
        raise ValueError(
            f"The 'layers' parameter must name each layer once. Got {list(names)} "
            "instead."
        )
    if lists and asked != chosen:
        raise ValueError(
            f"The 'layers' parameter must name each layer once, in the order of the "
            f"model, where {lists[0]!r} is a list that goes with them: "
            f"{[layer.name for layer in chosen]}. Got {list(names)} instead."
        )
    return chosen


def one_budget_each(budget, n_connectors: int) -> list[int | None]:
    """Return the budget of each connector.

    Raises
    ------
    ValueError
        If a list has another length, or an item that is no int of at least 0.
    """
    if budget is None or is_int(budget):
        return [None if budget is None else int(budget)] * n_connectors
    valid = not isinstance(budget, bool) and all(
        part is None or (is_int(part) and part >= 0) for part in budget
    )
    if not valid or len(budget) != n_connectors:
        raise ValueError(
            f"The 'n_nonzero_coefs' parameter must be an int of at least 0 or a list "
            f"of one for each of the {n_connectors} connectors. Got {budget!r} instead."
        )
    return [None if part is None else int(part) for part in budget]


def check_shared_budget(params) -> None:
    """Raise ValueError if a budget is to be shared without distillation."""
    if params.shared_budget and not params.distill:
        raise ValueError(
            "shared_budget=True needs distill=True: it is distillation that shares the "
            "budget among the connectors."
        )


class Parts(NamedTuple):
    """Estimators of one kind, and which of them are fitted and stay as they are."""

    estimators: list
    frozen: list[bool]


def clone_per_layer(
    parts, seeds, name: str, kind: type, frozen_kind: type | None = None
) -> Parts:
    """Clone an estimator once for each seed, or each estimator of a list.

    A fitted estimator in a FrozenEstimator is taken out of it, and neither copied nor
    changed. It is of `frozen_kind`, if given, else of `kind`.

    Raises
    ------
    ValueError
        If a list has another length, or an item is no `kind`.
    """
    is_one = isinstance(parts, kind) or is_frozen(parts)
    if is_one:
        parts = [parts] * len(seeds)
    elif (
        not isinstance(parts, (list, tuple))
        or len(parts) != len(seeds)
        or not all(isinstance(part, kind) or is_frozen(part) for part in parts)
    ):
        raise ValueError(
            f"The {name!r} parameter must be a {kind.__name__} or a list of "
            f"{len(seeds)} of them, of which fitted ones may be in a FrozenEstimator. "
            f"Got {parts!r} instead."
        )
    frozen = [is_frozen(part) for part in parts]
    estimators = []
    for index, (part, seed) in enumerate(zip(parts, seeds, strict=True)):
        if frozen[index]:
            label = name if is_one else f"{name}[{index}]"
            fitted = frozen_part(part, label, frozen_kind or kind, kind.__name__)
            estimators.append(fitted)
            continue
        part = clone(part)
        if part.random_state is None:
            part.random_state = seed
        estimators.append(part)
    return Parts(estimators, frozen)


def ignored_in_parts(
    value: Any, name: str, parts: Parts, ignored_of: Callable[[int], dict[str, str]]
) -> dict[str, str]:
    """Return parameters of parts that change nothing, by their nested names.

    Parameters
    ----------
    value : estimator, list of estimators or None
        The parameter that gives the parts; what None stands for is our own choice.
    name : str
        Its name.
    parts : Parts
    ignored_of : callable
        Maps the index of a part to its parameters that change nothing.
    """
    if value is None or is_frozen(value):
        return {}
    found = [
        {} if is_kept else ignored_of(index)
        for index, is_kept in enumerate(parts.frozen)
    ]
    if isinstance(value, list | tuple):
        return {
            f"{name}[{index}]__{key}": text
            for index, ignored in enumerate(found)
            for key, text in ignored.items()
        }
    # What matters to one of the clones matters.
    return {
        f"{name}__{key}": text
        for key, text in (found[0] if found else {}).items()
        if all(key in ignored for ignored in found)
    }


def check_width(autoencoder, label: str, n_columns: int, rows: str) -> None:
    """Raise ValueError if a fitted autoencoder is of rows of another width."""
    if autoencoder.n_features_in_ != n_columns:
        raise ValueError(
            f"The {label!r} parameter was fitted to rows of "
            f"{autoencoder.n_features_in_} columns, but {rows} {n_columns}."
        )


def check_ends(connector, label: str, n_inputs: int, n_outputs: int) -> None:
    """Raise ValueError if a fitted connector connects other numbers of features."""
    if connector.coef_.shape != (n_outputs, n_inputs):
        own_outputs, own_inputs = connector.coef_.shape
        raise ValueError(
            f"The {label!r} parameter was fitted to compute {own_outputs} features "
            f"from {own_inputs}, but here {n_outputs} are computed from {n_inputs}."
        )


def refuse_lost_checkpoints(random_state, autoencoders) -> None:
    """Raise ValueError where no later call could find the checkpoints of this one."""
    if random_state is not None:
        return
    several = isinstance(autoencoders, list | tuple)
    for part in autoencoders if several else [autoencoders]:
        checkpoint = None if is_frozen(part) else getattr(part, "checkpoint", None)
        if checkpoint is not None and part.random_state is None:
            raise ValueError(
                f"random_state=None is not possible with an autoencoder of "
                f"checkpoint={checkpoint!r}: each call draws other seeds, so that none "
                f"goes on where the last one was stopped. Set random_state to an int."
            )


def fit_autoencoders(
    parts: Parts, rows, contexts, n_jobs, names, share: Share = SILENT
) -> list:
    """Fit each autoencoder to its rows, under its context, by joblib's workers.

    Frozen ones are returned as they are. Warnings, one for each cause, and lines of
    progress begin with the `names` of the autoencoders. Without joblib workers, small
    ones share the threads that torch may use.
    """
    to_fit = [index for index, is_kept in enumerate(parts.frozen) if not is_kept]
    fitted = list(parts.estimators)
    if not to_fit:
        return fitted
    tasks = [(fitted[i], rows[i], contexts[i]) for i in to_fit]
    n_jobs = distributed.n_workers(n_jobs)
    # No more workers than tasks.
    n_jobs = n_jobs if n_jobs is None else min(n_jobs, len(tasks))
    fit, options = _fit_autoencoder, {"n_jobs": n_jobs}
    together = EndTogether()
    if n_jobs is None and effective_n_jobs(None) == 1:
        n_workers = min(n_threads(), len(tasks))
        if n_workers > 1 and all(_gains_beside_others(part, X) for part, X, _ in tasks):
            fit = together.part(one_thread(fit))
            options = {"n_jobs": n_workers, "backend": "threading"}
    # Each worker sets warning filters and puts back those it found: threads that end in
    # another order than they began would leave those of one another.
    with warnings.catch_warnings(), together.joined():
        results = Parallel(**options)(
            delayed(fit)(part, rows_to_send(X), context, names[index], share)
            for (part, X, context), index in zip(tasks, to_fit, strict=True)
        )
    for index, (part, _) in zip(to_fit, results, strict=True):
        fitted[index] = part
    waiting = [warning for _, of_part in results for warning in of_part]
    tell_once(waiting, len(to_fit), "autoencoders")
    return fitted


def _fit_autoencoder(part, X, context, name, share) -> tuple[Any, list[Waiting]]:
    """Fit an autoencoder; return it with its warnings, for the caller to tell."""
    with gathered() as waiting:
        part = fit_part(part, X, context, name=name, share=share)
    return part, waiting


def _gains_beside_others(autoencoder, X) -> bool:
    """Tell whether an autoencoder of such rows trains fastest in one thread of several.

    It is small, and what it runs is compiled.
    """
    shape: tuple = getattr(X, "shape", ())
    if len(shape) != 2:
        # Lists of rows, and what `fit` refuses.
        return False
    n_rows, n_features = shape
    sizes = (autoencoder.batch_size, autoencoder._width(n_features), n_features)
    # `fit` refuses parameters that are no numbers.
    if not all(is_int(size) and size >= 1 for size in sizes):
        return False
    if not (autoencoder.max_iter == "auto" or is_int(autoencoder.max_iter)):
        return False
    work = float(autoencoder._planned_epochs(n_rows)) * n_rows * prod(sizes[1:])
    return prod(sizes) <= _SMALL and runs_compiled(torch.device("cpu"), work)


def fit_part(part, X, context, y=None, name="", share: Share = SILENT):
    """Fit an estimator under a context of the unwrapper's callbacks.

    Its warnings begin with the `name` of the part, and so do the lines of progress that
    are its `share`. A part that is interrupted keeps its weights; the interruption then
    stops the whole fit.
    """
    X = received_rows(X)
    # Of their ignored parameters the unwrapper has told, once for all parts.
    with (
        context.propagate_callback_context(part),
        warnings_of(name),
        progress_of(share, name),
        ignored_are_told(),
    ):
        part = part.fit(X) if y is None else part.fit(X, y)
    if part._interrupted:
        raise KeyboardInterrupt
    return part


def give_product_starts(connectors, frozen, autoencoders, chain, layers) -> None:
    """Compute the initial weights of connectors with ``init="product"``.

    Those that are `frozen` need none.

    Raises
    ------
    ValueError
        If more than one linear layer lies between two layers.
    """
    for index, connector in enumerate(connectors):
        init = "random" if frozen[index] else connector.init
        if not (isinstance(init, str) and init == "product"):
            continue
        first, second = layers[index], layers[index + 1]
        between = chain.affine_between(
            chain.hidden.index(first), chain.hidden.index(second)
        )
        if between is None:
            raise ValueError(
                f"init='product' needs a single linear layer between the layers it "
                f"connects; between {first.name!r} and {second.name!r} there is more. "
                f"Use init='random'."
            )
        coef, intercept = between
        connector.init = product_init(
            autoencoders[index], coef, intercept, autoencoders[index + 1]
        )


def with_weights(parts: Parts, settings, learnt) -> list:
    """Copy fitted connectors, with the weights and the budgets of a distillation.

    Frozen ones are returned as they are.
    """
    copies = []
    for connector, is_kept, budget, coef, intercept in zip(
        *parts, settings.budgets, learnt.coefs, learnt.intercepts, strict=True
    ):
        if is_kept:
            copies.append(connector)
            continue
        connector = copy(connector)
        dtype = connector.coef_.dtype
        connector.coef_ = _align_api_if_sparse(sparse.csr_array(coef.astype(dtype)))
        connector.intercept_ = intercept.astype(dtype)
        shares = settings.share_budgets and budget is not None
        connector.n_nonzero_coefs = int(connector.coef_.nnz) if shares else budget
        copies.append(connector)
    return copies


def with_decoder(parts: Parts, decoder) -> list:
    """Copy the last of fitted autoencoders with another decoder and the same codes.

    A frozen one is returned as it is.
    """
    autoencoders = parts.estimators
    if parts.frozen[-1]:
        return list(autoencoders)
    last = copy(autoencoders[-1])
    if decoder is None:
        return [*autoencoders[:-1], last]
    components, intercept = (part.astype(last.components_.dtype) for part in decoder)
    # The encoder subtracts the decoder's bias: its own bias cancels the change.
    moved = last.encoder_coef_ @ (intercept - last.intercept_)
    last.encoder_intercept_ = last.encoder_intercept_ + moved
    last.components_, last.intercept_ = components, intercept
    return [*autoencoders[:-1], last]
