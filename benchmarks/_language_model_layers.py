"""Features of a language model's layers, maps between them, and what these keep."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from _language_model_mlp import ResidualMLP
from _language_model_pruning import PrunedConnector
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator
from sklearn.utils import gen_batches

from skfeat import SparseAutoencoder
from skfeat.capture import capture
from skfeat.language import LayerPair, replacement_loss

# Share of an output feature's variance by which the network may beat the linear map
# before the feature counts as nonlinear.
LINEAR_WITHIN = 0.01


@dataclass(frozen=True)
class Plan:
    """How large the experiment is; rows are tokens."""

    n_rows: int = 200_000
    n_held_out: int = 50_000  # to measure features and maps on
    n_predicted: int = 50_000  # to measure the model's loss on
    n_inputs: int = 1024
    n_outputs: int = 1024
    k: int = 6
    epochs: int = 5
    weights: float = 10.0  # of an output, on average
    hidden: int = 256  # units of the nonlinear map
    mlp_epochs: int = 3
    min_events: int = 100
    n_connections: int = 3  # shown, of each kind


SMOKE = Plan(12_000, 6_000, 3_000, 96, 96, 4, 4, 10.0, 16, 2, 50, 1)


@dataclass(frozen=True)
class Layer:
    """An MLP of a model and the residual stream that enters its block."""

    number: int
    source: str  # module whose output the stream is
    module: str  # the MLP


def layers_of(model, numbers=None, source=None, module=None):
    """Return the layers of a model.

    The stream that enters a block is the output of the block before, and what the
    embedding gives for the first. In GPT-NeoX it is what the MLP reads, as attention
    runs beside it.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    numbers : sequence of int, default=None
        ``None`` means all but the first, whose stream is the token alone.
    source, module : str, default=None
        Templates of the names, with ``{before}`` and ``{layer}`` for the numbers of
        the block before and of the block; ``None`` means those of GPT-NeoX.
    """
    if numbers is None:
        numbers = range(1, model.config.num_hidden_layers)
    source = source or "gpt_neox.layers.{before}"
    module = module or "gpt_neox.layers.{layer}.mlp"
    embedding = next(
        name
        for name, part in model.named_modules()
        if part is model.get_input_embeddings()
    )
    return [
        Layer(
            number,
            source.format(before=number - 1, layer=number) if number else embedding,
            module.format(before=number - 1, layer=number),
        )
        for number in numbers
    ]


def batches(rows, *, size=32):
    """Return batches as the model takes them."""
    return [{"input_ids": part} for part in rows.split(size)]


def some(rows, n_tokens, seed=None):
    """Return windows with so many tokens: spread evenly, or drawn with a seed."""
    n = min(len(rows), -(-n_tokens // (rows.shape[1] - 1)))
    if seed is None:
        return rows[np.linspace(0, len(rows) - 1, n).astype(int)]
    order = np.random.RandomState(seed).permutation(len(rows))[:n]
    return rows[torch.from_numpy(np.sort(order))]


def capture_layers(model, rows, layers, out=None):
    """Record the streams and the MLPs of all layers in one run."""
    names = sorted({name for one in layers for name in (one.source, one.module)})
    return capture(model, batches(rows), names, out=out)


def fit_pair(captured, layer, plan, seed):
    """Fit the features of a layer and the maps between them."""
    X, Y = (captured.activations[name] for name in (layer.source, layer.module))
    options = {"k": plan.k, "max_iter": plan.epochs}
    with warnings.catch_warnings():
        # The number of epochs is what the benchmark can afford.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LayerPair(
            SparseAutoencoder(plan.n_inputs, **options),
            SparseAutoencoder(plan.n_outputs, **options),
            connector=PrunedConnector(),
            nonlinear_connector=ResidualMLP(plan.hidden, max_iter=plan.mlp_epochs),
            n_nonzero_coefs=plan.weights,
            min_events=plan.min_events,
            random_state=seed,
        ).fit(X, Y)


def refit_lasso(pair, captured, layer):
    """Fit the library's own connector at the same budget to the same features."""
    X, Y = (captured.activations[name] for name in (layer.source, layer.module))
    return LayerPair(
        FrozenEstimator(pair.input_autoencoder_),
        FrozenEstimator(pair.output_autoencoder_),
        n_nonzero_coefs=pair.n_nonzero_coefs,
        min_events=pair.min_events,
        random_state=pair.random_state,
    ).fit(X, Y)


def measure_layer(model, layer, captured, held_out, predicted, plan, seed):
    """Fit a layer; return the pair and its figures on held-out text."""
    start = time.perf_counter()
    pair = fit_pair(captured, layer, plan, seed)
    seconds = time.perf_counter() - start
    lasso = refit_lasso(pair, captured, layer)
    X, Y = (held_out.activations[name] for name in (layer.source, layer.module))
    weights = np.diff(pair.connector_.coef_.indptr)
    found = {
        "layer": layer.number,
        "source": layer.source,
        "module": layer.module,
        "seed": seed,
        "seconds": seconds,
        "input": quality(pair.input_autoencoder_, pair.input_events_, X),
        "output": quality(pair.output_autoencoder_, pair.output_events_, Y),
        "live inputs": len(pair.live_inputs_),
        "live outputs": len(pair.live_outputs_),
        "weights an output": float(weights.mean()),
        "median weights": float(np.median(weights)),
        "most weights": int(weights.max()),
        **maps(pair, lasso, X, Y),
    }
    table = replacement_loss(
        model, batches(predicted), layer.module, pair, source=layer.source
    )
    found["predictions"] = table.n_predictions[0]
    for name in ("loss", "recovered_zero", "recovered_mean"):
        found[name] = dict(zip(table.replacement, map(float, table[name]), strict=True))
    return pair, found


def quality(autoencoder, events, rows):
    """Return how good an autoencoder is on held-out rows."""
    n_active = sum(
        np.count_nonzero(autoencoder.transform(rows[part]))
        for part in gen_batches(len(rows), 4096)
    )
    return {
        "explained": float(autoencoder.score(rows)),
        "L0": n_active / len(rows),
        "dead %": 100 * float(np.mean(events == 0)),
    }


def maps(pair, lasso, X, Y):
    """Return the R2 of all maps on held-out rows, and the share of linear features.

    "R2" is that of all live output features together, one minus their squared error
    over their squared deviation; "median R2" is that of the features one by one.
    """
    spread, errors = errors_of(pair, lasso, X, Y)
    known = spread > 0
    each = {name: 1 - error[known] / spread[known] for name, error in errors.items()}
    gain = each["nonlinear"] - each["dense"]
    return {
        "R2": {name: 1 - e.sum() / spread.sum() for name, e in errors.items()},
        "median R2": {name: float(np.median(r2)) for name, r2 in each.items()},
        "linear %": 100 * float(np.mean(gain <= LINEAR_WITHIN)),
    }


def errors_of(pair, lasso, X, Y):
    """Return squared deviations and squared errors of every live output feature."""
    total = square = 0.0
    errors = dict.fromkeys(("dense", "sparse", "lasso", "nonlinear"), 0.0)
    for part in gen_batches(len(X), 4096):
        codes = pair.output_features(Y[part]).toarray().astype(np.float64)
        total, square = total + codes.sum(axis=0), square + (codes**2).sum(axis=0)
        for name in errors:
            model, key = (lasso, "sparse") if name == "lasso" else (pair, name)
            error = codes - model.predict_features(X[part], key)
            errors[name] = errors[name] + (error**2).sum(axis=0)
    return square - total**2 / len(X), errors
