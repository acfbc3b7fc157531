"""The parts an unwrapper is made of: layers, budgets, autoencoders and connectors."""

from __future__ import annotations

from copy import copy
from math import prod
from numbers import Integral
from typing import NamedTuple

import numpy as np
from joblib import effective_n_jobs
from scipy import sparse
from sklearn.base import clone
from sklearn.utils.parallel import Parallel, delayed

from skfeat.chain import WHY_NOT_INNER
from skfeat.initialization import product_init
from skfeat.kernels._threads import n_threads, one_thread
from skfeat.utils import _distributed as distributed
from skfeat.utils._checks import is_int
from skfeat.utils._sklearn import _align_api_if_sparse
from skfeat.utils._warnings import warn, warnings_of
from skfeat.utils._workers import received_rows, rows_to_send

# Weights an output that the default connector keeps on average: between features, and
# where it reads the inputs or gives the outputs, which are no sparse features.
_WEIGHTS_PER_FEATURE, _WEIGHTS_AT_ENDS = 4, 20


# Multiply-adds of an update's largest product up to which an autoencoder gains nothing
# from a second thread: two of them, side by side, do.
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

    def prepare(self, connectors: list) -> None:
        """Let connectors at the ends do what only they have to."""
        if self.output:
            # Outputs are values of any sign; not every solver takes that link.
            connectors[-1].set_params(link="identity", solver="auto")
        for connector, at_end in zip(
            connectors, self.mark(len(connectors)), strict=True
        ):
            if at_end and isinstance(connector.init, str):
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


def check_budget_is_used(params, n_connectors: int) -> None:
    """Refuse a shared budget that nothing shares; warn of one without a connector.

    Raises
    ------
    ValueError
        If a budget is to be shared without distillation.
    """
    if params.shared_budget and not params.distill:
        raise ValueError(
            "shared_budget=True needs distill=True: it is distillation that shares the "
            "budget among the connectors."
        )
    if n_connectors:
        return
    given = params.n_nonzero_coefs is not None and np.size(params.n_nonzero_coefs) > 0
    asked = [f"n_nonzero_coefs={params.n_nonzero_coefs!r}"] * given
    asked += ["shared_budget=True"] * bool(params.shared_budget)
    if asked:
        warn(
            f"{' and '.join(asked)} changes nothing: a single unwrapped layer has no "
            f"connector, unless connect_input or connect_output adds one.",
        )


def clone_per_layer(parts, seeds, name: str, kind: type) -> list:
    """Clone an estimator once for each seed, or each estimator of a list.

    Raises
    ------
    ValueError
        If a list has another length, or an item is no `kind`.
    """
    if isinstance(parts, kind):
        parts = [parts] * len(seeds)
    elif (
        not isinstance(parts, (list, tuple))
        or len(parts) != len(seeds)
        or not all(isinstance(part, kind) for part in parts)
    ):
        raise ValueError(
            f"The {name!r} parameter must be a {kind.__name__} or a list of "
            f"{len(seeds)} of them. Got {parts!r} instead."
        )
    clones = [clone(part) for part in parts]
    for part, seed in zip(clones, seeds, strict=True):
        if part.random_state is None:
            part.random_state = seed
    return clones


def refuse_lost_checkpoints(random_state, autoencoders) -> None:
    """Raise ValueError where no later call could find the checkpoints of this one."""
    if random_state is not None:
        return
    for part in autoencoders if isinstance(autoencoders, list) else [autoencoders]:
        checkpoint = getattr(part, "checkpoint", None)
        if checkpoint is not None and part.random_state is None:
            raise ValueError(
                f"random_state=None is not possible with an autoencoder of "
                f"checkpoint={checkpoint!r}: each call draws other seeds, so that none "
                f"goes on where the last one was stopped. Set random_state to an int."
            )


def fit_autoencoders(autoencoders, rows, contexts, n_jobs, names=None) -> list:
    """Fit each autoencoder to its rows, under its context, by joblib's workers.

    Warnings begin with the `names` of the autoencoders, if given. Without joblib
    workers, small ones share the threads that torch may use.
    """
    tasks = list(zip(autoencoders, rows, contexts, strict=True))
    n_jobs = distributed.n_workers(n_jobs)
    # No more workers than tasks.
    n_jobs = n_jobs if n_jobs is None else min(n_jobs, len(tasks))
    fit, options = fit_part, {"n_jobs": n_jobs}
    if n_jobs is None and effective_n_jobs(None) == 1:
        n_workers = min(n_threads(), len(tasks))
        if n_workers > 1 and all(_is_small(part, X.shape[1]) for part, X, _ in tasks):
            fit, options = (
                one_thread(fit),
                {"n_jobs": n_workers, "backend": "threading"},
            )
    names = names or [""] * len(tasks)
    return Parallel(**options)(
        delayed(fit)(part, rows_to_send(X), context, name=name)
        for (part, X, context), name in zip(tasks, names, strict=True)
    )


def _is_small(autoencoder, n_features: int) -> bool:
    """Tell whether an autoencoder of such rows trains fastest in one thread."""
    sizes = (autoencoder.batch_size, autoencoder._width(n_features), n_features)
    # `fit` refuses parameters that are no numbers.
    return all(isinstance(size, Integral) for size in sizes) and prod(sizes) <= _SMALL


def fit_part(part, X, context, y=None, name=""):
    """Fit an estimator under a context of the unwrapper's callbacks.

    Its warnings begin with the `name` of the part. A part that is
    interrupted keeps its weights; the interruption then stops the whole fit.
    """
    X = received_rows(X)
    with context.propagate_callback_context(part), warnings_of(name):
        part = part.fit(X) if y is None else part.fit(X, y)
    if part._interrupted:
        raise KeyboardInterrupt
    return part


def give_product_starts(connectors, autoencoders, chain, layers) -> None:
    """Compute the initial weights of connectors with ``init="product"``.

    Raises
    ------
    ValueError
        If more than one linear layer lies between two layers.
    """
    for index, connector in enumerate(connectors):
        if not (isinstance(connector.init, str) and connector.init == "product"):
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


def with_weights(connectors, settings, learnt) -> list:
    """Copy fitted connectors, with the weights and the budgets of a distillation."""
    copies = []
    for connector, budget, coef, intercept in zip(
        connectors, settings.budgets, learnt.coefs, learnt.intercepts, strict=True
    ):
        connector = copy(connector)
        dtype = connector.coef_.dtype
        connector.coef_ = _align_api_if_sparse(sparse.csr_array(coef.astype(dtype)))
        connector.intercept_ = intercept.astype(dtype)
        shares = settings.share_budgets and budget is not None
        connector.n_nonzero_coefs = int(connector.coef_.nnz) if shares else budget
        copies.append(connector)
    return copies


def with_decoder(autoencoders, decoder) -> list:
    """Copy the last of fitted autoencoders with another decoder and the same codes."""
    last = copy(autoencoders[-1])
    if decoder is None:
        return [*autoencoders[:-1], last]
    components, intercept = (part.astype(last.components_.dtype) for part in decoder)
    # The encoder subtracts the decoder's bias: its own bias cancels the change.
    moved = last.encoder_coef_ @ (intercept - last.intercept_)
    last.encoder_intercept_ = last.encoder_intercept_ + moved
    last.components_, last.intercept_ = components, intercept
    return [*autoencoders[:-1], last]
