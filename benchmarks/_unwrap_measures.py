"""Figures of unwrapped networks and of their controls, on test rows."""

from __future__ import annotations

import statistics
import time

import numpy as np
import torch
from article_mnist import FittedAutoencoder
from sklearn.metrics import accuracy_score, r2_score

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.controls import pruned_control
from skfeat.metrics import kl_divergence

BATCHES = (1, 256, 10_000)


def measure(how, model, data, autoencoders, **params):
    """Unwrap a model; return the network and a row of figures on test rows."""
    X, X_test, y_test = data
    start = time.perf_counter()
    unwrapper = FeatureUnwrapper(
        model, autoencoder=autoencoders, random_state=0, **params
    ).fit(X)
    seconds = time.perf_counter() - start
    report = unwrapper.report(X_test, y_test)
    network = unwrapper.network()
    n_layers = len(unwrapper.autoencoders_)
    figures = figures_of(network, model_values(model, X_test), data)
    return network, {
        "how": how,
        **figures,
        "R2": list(report.r2_true[:n_layers]),
        "R2 of network": list(report.r2_network[:n_layers]),
        "R2 of autoencoders": [1 - value for value in report.fvu[:n_layers]],
        "live": [
            int(width - dead)
            for width, dead in zip(
                network.n_components_, report.n_dead[:n_layers], strict=True
            )
        ],
        "multiply-adds of the model": report.multiply_adds_model[-1],
        "seconds after the autoencoders": seconds,
    }


def control(how, model, data, n_nonzero_coefs, max_iter):
    """Prune the model's own layers; return a row of figures on test rows."""
    X, X_test, _ = data
    start = time.perf_counter()
    network = pruned_control(
        model, X, n_nonzero_coefs=n_nonzero_coefs, max_iter=max_iter, random_state=0
    )
    seconds = time.perf_counter() - start
    outputs = model_values(model, X_test)
    return {"how": how, **figures_of(network, outputs, data), "seconds": seconds}


def model_values(model, X):
    """Return the logits or values of a torch module or a scikit-learn network."""
    if isinstance(model, torch.nn.Module):
        with torch.inference_mode():
            return model(torch.from_numpy(X)).numpy()
    if hasattr(model, "predict_proba"):
        return np.log(np.maximum(model.predict_proba(X), 1e-300))
    return model.predict(X).reshape(len(X), -1)


def figures_of(network, outputs, data):
    """Return how a network does beside its model, and what it costs."""
    _, X_test, y_test = data
    own = network.predict_raw(X_test)
    if outputs.shape[1] > 1:
        scores = [accuracy_score(y_test, o.argmax(axis=1)) for o in (outputs, own)]
        agreement = accuracy_score(outputs.argmax(axis=1), own.argmax(axis=1))
        more = {"KL": kl_divergence(outputs, own)}
    else:
        scores = [r2_score(y_test, o.ravel()) for o in (outputs, own)]
        agreement, more = r2_score(outputs.ravel(), own.ravel()), {}
    return {
        "score of the model": scores[0],
        "score": scores[1],
        "lost": scores[0] - scores[1],
        "agreement": agreement,
        **more,
        "weights": [network.n_weights_in_, *network.n_weights_, network.n_weights_out_],
        "weights in all": network.n_weights_all_,
        "multiply-adds": network.n_multiply_adds(compact=True),
    }


def fit_autoencoders(model, X, **params):
    """Fit the autoencoders that all unwrappings of a model share."""
    return [
        FittedAutoencoder.of(fitted)
        for fitted in FeatureUnwrapper(
            model,
            autoencoder=SparseAutoencoder(**params) if params else None,
            distill=False,
            n_nonzero_coefs=0,
            random_state=0,
        )
        .fit(X)
        .autoencoders_
    ]


def race(model, network, X, n_rounds):
    """Time both in turns; return medians and their ratio, a batch size each."""
    found = {}
    for batch in BATCHES:
        rows = np.ascontiguousarray(np.resize(X, (batch, X.shape[1])))
        calls = max(1, 2000 // batch)
        dense = torch.from_numpy(rows)
        times = []
        with torch.inference_mode():
            for _ in range(n_rounds):
                start = time.perf_counter()
                for _ in range(calls):
                    model(dense).numpy()
                between = time.perf_counter()
                for _ in range(calls):
                    network.predict_raw(rows)
                times.append((between - start, time.perf_counter() - between))
        theirs, ours = (statistics.median(t) / calls for t in zip(*times, strict=True))
        found[f"batch {batch}"] = {"model": theirs, "network": ours}
        found[f"times faster at {batch}"] = theirs / ours
    return found
