"""Which parameter matters when: one table, which estimators and a page read.

An estimator whose parameters include some that change nothing says so once a fit. The
text has names and no values, so that all fits of a search say the same and the usual
filter shows it once.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch

from skfeat.utils._checks import listed
from skfeat.utils._rules import Fact, Is, IsNumber, IsSet, Matters, Rule, same, when
from skfeat.utils._warnings import warn

# Whether a meta-estimator that runs this fit has told it already.
_TOLD: ContextVar[bool] = ContextVar("skfeat_ignored_told", default=False)


_ALWAYS = when()
_HABIT = when(told=False)
_TOP_K, _PENALISED = ("topk", "batch_topk"), ("relu", "jumprelu", "gated")
_IN_FIT = Fact("`fit`, not `partial_fit`")
_CPU = ("cpu", torch.device("cpu"))
_CONNECTORS = Fact(
    "a connector, which a single unwrapped layer has only with connect_input or "
    "connect_output"
)
_UNFROZEN = Fact("a connector that is not frozen")
_PAIRS = Fact("a layer without a transcoder")
_TRAINS = Fact("an autoencoder that is not in a FrozenEstimator")
_DISTILLS = Fact("distill=True with a connector or a decoder to train")

# Class, parameter, and when the parameter matters. Where a rule names no parameter of
# the class, the class says in its fit whether it holds. `partial_fit` does not tell of
# what is `planned`: one estimator serves both methods.
TABLE: dict[str, dict[str, Matters]] = {
    "SparseAutoencoder": {
        "n_components": _ALWAYS,
        "activation": _ALWAYS,
        "k": when(activation=Is(_TOP_K)),
        "k_start": when(
            activation=Is(_TOP_K), refused=True, note="`partial_fit` keeps to k"
        ),
        "alpha": when(activation=Is(_PENALISED)),
        "l0": when(activation=Is(_PENALISED), refused=True),
        "prefixes": when(activation=Is(_TOP_K), refused=True),
        "dead_features": when(
            note="'auxk' is for activation='topk' or 'batch_topk', and is 'ignore' "
            "with the others; 'resample' happens in `fit`, not in `partial_fit`"
        ),
        "tied": when(activation=Is((*_TOP_K, "relu", "jumprelu")), refused=True),
        "center": _ALWAYS,
        "scale": _ALWAYS,
        "learning_rate_init": _ALWAYS,
        "batch_size": _ALWAYS,
        "max_iter": when(planned=_IN_FIT),
        "tol": when(planned=_IN_FIT, l0=Is((None,))),
        "n_iter_no_change": when(planned=_IN_FIT, l0=Is((None,))),
        "early_stopping": when(
            in_fit=_IN_FIT, note="an error with l0, which is reached at the end only"
        ),
        "validation_fraction": when(in_fit=_IN_FIT, early_stopping=Is((True,))),
        "warm_start": when(planned=_IN_FIT),
        "sparse_output": _ALWAYS,
        "precision": when(note="'int8' is for activation='topk' or 'batch_topk'"),
        "device": _ALWAYS,
        "random_state": _HABIT,
        "distribute": when(group=Fact("a process group of torch")),
        "checkpoint": when(in_fit=_IN_FIT, refused=True),
        "verbose": _HABIT,
    },
    "FeatureConnector": {
        "alpha": when(n_nonzero_coefs=Is((None,))),
        "link": _ALWAYS,
        "n_nonzero_coefs": _ALWAYS,
        "candidates": when(
            link=Is(("identity",)),
            n_nonzero_coefs=IsSet(),
            refit=Is((True,)),
            moments=Fact("layers that are not too wide for their second moments"),
        ),
        "refit": when(note="`partial_fit` with link='relu' has no refit"),
        "fit_intercept": _ALWAYS,
        "init": when(
            start=Fact("n_nonzero_coefs=None or link='relu' with refit=True"),
            note="with solver='gram' it changes the time and not the result",
        ),
        "solver": _ALWAYS,
        "learning_rate_init": when(solver=Is(("minibatch",))),
        "batch_size": when(solver=Is(("minibatch",))),
        "max_iter": when(planned=Fact("`fit`, or link='identity'")),
        "tol": when(solver=Is(("gram", "full_batch"))),
        "warm_start": when(
            planned=_IN_FIT,
            start=Fact("n_nonzero_coefs=None or link='relu' with refit=True"),
        ),
        "device": when(solver=Is(("minibatch",)), plain=_CPU),
        "random_state": when(solver=Is(("minibatch",)), told=False),
        "verbose": _HABIT,
    },
    "FeatureConnectorCV": {
        "alphas": when(n_nonzero_coefs=Is((None,))),
        "eps": when(n_nonzero_coefs=Is((None,)), alphas=IsNumber()),
        "n_nonzero_coefs": _ALWAYS,
        "link": _ALWAYS,
        "refit": _ALWAYS,
        "fit_intercept": _ALWAYS,
        "cv": _ALWAYS,
        "max_iter": _ALWAYS,
        "tol": _ALWAYS,
        "n_jobs": _HABIT,
        "verbose": _HABIT,
    },
    "FeatureUnwrapper": {
        "model": _ALWAYS,
        "autoencoder": _ALWAYS,
        "connector": when(connectors=_CONNECTORS),
        "layers": _ALWAYS,
        "n_nonzero_coefs": when(
            connectors=_CONNECTORS,
            budgets=_UNFROZEN,
            plain=([], ()),
        ),
        "shared_budget": when(
            connectors=_CONNECTORS,
            shares=Fact("two connectors or more with a budget"),
            note="an error with distill=False",
        ),
        "connect_input": _ALWAYS,
        "connect_output": _ALWAYS,
        "distill": when(
            connectors=_CONNECTORS,
            told=False,
        ),
        "joint": when(distills=_DISTILLS, told=False),
        "faithfulness": when(
            distills=_DISTILLS,
            held=Fact("features or a decoder between the ends"),
        ),
        "mixup": when(distills=_DISTILLS, joint=Is((True,))),
        "train_encoder": when(
            distills=_DISTILLS,
            joint=Is((True,)),
            encodes=Fact("connect_input=False"),
        ),
        "start": _ALWAYS,
        "input_shape": _ALWAYS,
        "task": _ALWAYS,
        "n_jobs": _HABIT,
        "batch_size": when(distills=_DISTILLS),
        "max_iter": when(distills=_DISTILLS),
        "tol": when(distills=_DISTILLS),
        "device": when(distills=_DISTILLS, plain=_CPU),
        "random_state": _HABIT,
        "checkpoint": _ALWAYS,
        "verbose": _HABIT,
    },
    "LayerPair": {
        "input_autoencoder": _ALWAYS,
        "output_autoencoder": _ALWAYS,
        "connector": _ALWAYS,
        "nonlinear_connector": _ALWAYS,
        "n_nonzero_coefs": when(budgets=_UNFROZEN, plain=(None,)),
        "joint": when(told=False, trains=_TRAINS),
        "faithfulness": when(joint=Is((True,)), trains=_TRAINS),
        "min_events": _ALWAYS,
        "ridge": _ALWAYS,
        "n_jobs": _HABIT,
        "random_state": _HABIT,
        "verbose": _HABIT,
    },
    "ModelUnwrapper": {
        "model": _ALWAYS,
        "modules": _ALWAYS,
        "input_autoencoder": when(pairs=_PAIRS),
        "output_autoencoder": when(pairs=_PAIRS),
        "connector": when(pairs=_PAIRS),
        "transcoder": _ALWAYS,
        "n_nonzero_coefs": when(pairs=_PAIRS, budgets=_UNFROZEN, plain=(None,)),
        "shared_budget": when(
            joint=Is((True,)),
            pairs=_PAIRS,
            shares=Fact("two connectors or more with a budget"),
        ),
        "joint": _ALWAYS,
        "faithfulness": when(joint=Is((True,))),
        "n_rows": _ALWAYS,
        "max_iter": when(joint=Is((True,))),
        "learning_rate_init": when(joint=Is((True,))),
        "device": _ALWAYS,
        "random_state": _HABIT,
        "verbose": _HABIT,
    },
    "MLPConnector": dict.fromkeys(
        (
            "hidden_units",
            "learning_rate_init",
            "batch_size",
            "max_iter",
            "validation_fraction",
            "ridge",
            "device",
        ),
        _ALWAYS,
    )
    | {"random_state": _HABIT, "verbose": _HABIT},
}

TABLE["FeatureEnsemble"] = {
    **dict.fromkeys(("autoencoder", "n_fits", "min_support", "threshold"), _ALWAYS),
    **dict.fromkeys(("n_jobs", "random_state"), _HABIT),
}

# A transcoder's encoder is never its decoder; it may have a skip instead.
TABLE["Transcoder"] = {
    "skip" if name == "tied" else name: _ALWAYS if name == "tied" else row
    for name, row in TABLE["SparseAutoencoder"].items()
}


@dataclass(frozen=True)
class OfEach:
    """Whether a fact is true of each layer, for parameters that may be lists of them.

    Of a parameter that is none it is true if it is of one layer at least.
    """

    known: Sequence[bool]

    def __bool__(self) -> bool:
        return any(self.known)


def ignored_params(estimator: Any, **facts: Any) -> dict[str, str]:
    """Return the parameters that were set and change nothing, and what each needs.

    Of a list, one value for each layer, the entries that change nothing.

    Parameters
    ----------
    estimator : estimator
        Of a class in `TABLE`, or derived from one.
    **facts
        What the fit knows, by the names in `TABLE`. A fact takes the place of a
        parameter of its name. One that is missing or None is not known, and taken to
        let the parameter matter.
    """
    names = [kind.__name__ for kind in type(estimator).__mro__]
    rows: dict[str, Matters] = next((TABLE[n] for n in names if n in TABLE), {})
    defaults = inspect.signature(type(estimator)).parameters
    found = {}
    for name, row in rows.items():
        if name not in defaults or not row.told or row.refused:
            continue
        value = getattr(estimator, name)
        plain = (defaults[name].default, *row.plain)
        if any(same(value, other) for other in plain):
            continue
        if text := _broken(row, estimator, facts):
            found[name] = text
        elif isinstance(value, list | tuple):
            for i, known in enumerate(_of_entries(row, facts, len(value))):
                if value[i] is not None and (text := _broken(row, estimator, known)):
                    found[f"{name}[{i}]"] = text
    return found


def _of_entries(
    row: Matters, facts: Mapping[str, Any], n: int
) -> Iterator[dict[str, Any]]:
    """Yield the facts for each entry of a list, where they may differ."""
    own = {key: facts[key] for key in row.rules if isinstance(facts.get(key), OfEach)}
    for i in range(n if own else 0):
        yield {**facts, **{key: fact.known[i] for key, fact in own.items()}}


def _broken(row: Matters, estimator: Any, facts: Mapping[str, Any]) -> str:
    """Return the rules of a row that do not hold as text, "" if all do."""
    return ", and ".join(
        rule.text(key)
        for key, rule in row.rules.items()
        if not _may_hold(rule, key, estimator, facts)
    )


def _may_hold(rule: Rule, key: str, estimator: Any, facts: Mapping[str, Any]) -> bool:
    if key in facts:
        return facts[key] is None or rule.holds(facts[key])
    return isinstance(rule, Fact) or rule.holds(getattr(estimator, key))


def warn_of_ignored(estimator: Any, ignored: Mapping[str, str]) -> None:
    """Say once which parameters of an estimator change nothing in this fit."""
    if not ignored or _TOLD.get():
        return
    several = len(ignored) > 1
    parts = [f"{name} (which needs {text})" for name, text in ignored.items()]
    warn(
        f"{type(estimator).__name__}: {listed(parts)} "
        f"{'change' if several else 'changes'} nothing in this fit. Leave "
        f"{'them' if several else 'it'} out, or set what "
        f"{'they need' if several else 'it needs'}.",
    )


@contextmanager
def ignored_are_told() -> Iterator[None]:
    """Let parts say nothing of their parameters: who fits them has told all."""
    token = _TOLD.set(True)
    try:
        yield
    finally:
        _TOLD.reset(token)
