"""Features of a language model's layers, maps between them, and what these keep."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator

from skfeat import FeatureConnector, SparseAutoencoder
from skfeat.capture import capture
from skfeat.language import LayerPair, MLPConnector, replacement_loss

MAPS = ("dense", "sparse", "nonlinear")

# Share of an output feature's variance by which the network may beat the linear map
# before the feature counts as nonlinear; the article's bound is on the squared error.
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
    hidden_units: int = 256  # of the nonlinear map
    mlp_epochs: int = 3
    min_events: int = 100
    n_connections: int = 3  # shown, of each kind


SMOKE = Plan(12_000, 6_000, 3_000, 96, 96, 4, 4, 10.0, 16, 2, 50, 1)


@dataclass(frozen=True)
class Layer:
    """An MLP of a model and the residual stream that enters it or its block."""

    number: int
    source: str  # module whose output the stream is
    module: str  # the MLP


def layers_of(model, numbers=None, source=None, module=None):
    """Return the layers of a model.

    The stream that enters an MLP is, in GPT-NeoX with parallel blocks, the output of
    the block before, as attention runs beside the MLP (what the embedding gives for the
    first); with sequential ones, the normalised stream after attention.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    numbers : sequence of int, default=None
        ``None`` means all, but for the first of parallel blocks, whose stream is the
        token alone.
    source, module : str, default=None
        Templates of the names, with ``{before}`` and ``{layer}`` for the numbers of
        the block before and of the block; ``None`` means those of GPT-NeoX.
    """
    is_sequential = not getattr(model.config, "use_parallel_residual", True)
    if numbers is None:
        numbers = range(not is_sequential, model.config.num_hidden_layers)
    if source is None:
        source = "gpt_neox.layers.{before}"
        if is_sequential:
            source = "gpt_neox.layers.{layer}.post_attention_layernorm"
    module = module or "gpt_neox.layers.{layer}.mlp"
    embedding = next(
        name
        for name, part in model.named_modules()
        if part is model.get_input_embeddings()
    )
    return [
        Layer(
            number,
            embedding
            if not number and "{before}" in source
            else source.format(before=number - 1, layer=number),
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
    parts = [
        SparseAutoencoder(n, k=plan.k, max_iter=plan.epochs)
        for n in (plan.n_inputs, plan.n_outputs)
    ]
    nonlinear = MLPConnector(plan.hidden_units, max_iter=plan.mlp_epochs)
    with warnings.catch_warnings():
        # The number of epochs is what the benchmark can afford; dead features are
        # counted on held-out text.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", ".* features are dead")
        return LayerPair(
            *parts,
            nonlinear_connector=nonlinear,
            n_nonzero_coefs=plan.weights,
            min_events=plan.min_events,
            random_state=seed,
        ).fit(*rows_of(captured, layer))


def refit_lasso(pair, captured, layer):
    """Fit a connector whose budget is met by the penalty alone to the same features."""
    return LayerPair(
        FrozenEstimator(pair.input_autoencoder_),
        FrozenEstimator(pair.output_autoencoder_),
        connector=FeatureConnector(link="identity", fit_intercept=False),
        n_nonzero_coefs=pair.n_nonzero_coefs,
        min_events=pair.min_events,
        random_state=pair.random_state,
    ).fit(*rows_of(captured, layer))


def rows_of(captured, layer):
    """Return the rows of a layer's stream and of its MLP."""
    return captured.activations[layer.source], captured.activations[layer.module]


def measure_layer(model, layer, captured, held_out, predicted, plan, seed):
    """Fit a layer; return the pair and its figures on held-out text."""
    start = time.perf_counter()
    pair = fit_pair(captured, layer, plan, seed)
    seconds = time.perf_counter() - start
    report = pair.report(*rows_of(held_out, layer))
    lasso = refit_lasso(pair, captured, layer).report(*rows_of(held_out, layer))
    table = replacement_loss(
        model, batches(predicted), layer.module, pair, source=layer.source
    )
    columns = [
        dict(zip(table.replacement, map(float, table[name]), strict=True))
        for name in ("loss", "recovered_mean", "recovered_zero")
    ]
    return pair, {
        "layer": layer.number,
        "source": layer.source,
        "module": layer.module,
        "seed": seed,
        "seconds": seconds,
        "tokens": {"fitted": len(captured.sequence), "held out": report.totals.n_rows}
        | {"predicted": table.n_predictions[0]},
        "features": features_of(report.totals),
        "maps": maps_of(report, lasso),
        **dict(zip(("loss", "of the mean", "of zero"), columns, strict=True)),
    }


def features_of(totals):
    """Return how good the autoencoders are."""
    found = {}
    for side in ("input", "output"):
        found |= {
            f"{side} variance explained": totals[f"explained_variance_{side}s"],
            f"{side} L0": totals[f"l0_{side}s"],
            f"{side} dead %": 100 * totals[f"dead_{side}s"],
            f"{side} live": totals[f"n_live_{side}s"],
        }
    return found


def maps_of(report, lasso):
    """Return how well the maps predict the features.

    "R2" is that of all live output features together, one minus their squared error
    over their squared deviation; "median" that of the features one by one.
    """
    totals, weights = report.totals, report.n_weights
    gain = report.r2_nonlinear - report.r2_dense
    found = {
        "weights": totals.weights_per_output,
        "median weights": float(np.median(weights)),
        "most weights": int(weights.max()),
        **{f"R2 {name}": totals[f"r2_{name}"] for name in MAPS},
        "R2 Lasso": lasso.totals.r2_sparse,
        "dense - sparse": totals.r2_dense - totals.r2_sparse,
    }
    for name in MAPS:
        found[f"median {name}"] = float(np.nanmedian(report[f"r2_{name}"]))
    found["linear % (article)"] = 100 * totals.linear_share
    found["linear % (R2)"] = 100 * float(
        np.mean(gain[~np.isnan(gain)] <= LINEAR_WITHIN)
    )
    return found
