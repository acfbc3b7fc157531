"""All MLPs of a language model replaced at once: what it costs, in both protocols.

Trains the preset "testbed" on the books of ``SKFEAT_DATA`` (the first time; it is kept
in a folder): blocks one after another, attention before the MLP. What each MLP matters
to the loss stands in the record, as "alone" by zero. With one seed after another it
replaces all MLPs by sparse connections between features, at several
budgets of weights an output, shared by the layers, and by transcoders at equal active
features, both trained together on the model's own predictions in equally many updates;
and by connections between random features.
On held-out text it measures the cross-entropy lost, each replaced MLP fed what the
replaced model computes, and what the model itself does; all at once, each alone and up
to each; beside the MLPs' means and zero. It counts the weights that are not zero, and
measures how well the autoencoders reconstruct, beside such as are fitted alone. Of
the first seed it makes the graphs of some prompts and compares the predicted changes
with measured ones, also with all held that the prediction holds.

``python benchmarks/language_model_whole.py`` writes
``records/language_model_whole.json``.
"""

from __future__ import annotations

import argparse
import time
import warnings
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from _common import print_table, write_record
from _language_model_layers import batches, some
from _language_model_text import encode, load_books, split_books, windows
from _language_model_training import PRESETS, cached_model
from _prompt_checks import correlations
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator

from skfeat import SparseAutoencoder, Transcoder
from skfeat.capture import capture
from skfeat.language import ModelUnwrapper


@dataclass(frozen=True)
class Plan:
    """How large the experiment is; rows are tokens."""

    n_rows: int = 30_000  # the parts of a layer are fitted to
    n_trained: int = 100_000  # of training together, a pass
    n_held_out: int = 8_000
    batch_size: int = 4  # windows of an update
    n_features: int = 512
    k: int = 16
    epochs: int = 3  # of autoencoders and transcoders
    passes: int = 1  # of training together
    # Chosen on a model of another seed, where they serve connections and transcoders.
    learning_rate: float = 8e-3
    faithfulness: float = 0.5
    weights: tuple = (3.0, 10.0, 30.0, 100.0, None)  # of an output; None: dense
    random: float = 10.0  # weights of an output between random features
    explained: float = 30.0  # those of the replacement that prompts are explained by
    n_prompts: int = 3
    length: int = 24  # tokens of a prompt


SMOKE = Plan(
    n_rows=4_000,
    n_trained=8_000,
    n_held_out=2_000,
    batch_size=16,
    n_features=64,
    k=6,
    epochs=1,
    weights=(10.0,),
    explained=10.0,
    n_prompts=1,
    length=12,
)


def make_parts(plan):
    """Return an autoencoder and a transcoder of the plan."""
    options = {"k": plan.k, "max_iter": plan.epochs}
    return (
        SparseAutoencoder(plan.n_features, **options),
        Transcoder(plan.n_features, **options),
    )


def unwrap(model, rows, plan, seed, **options):
    """Fit an unwrapper; return it and the processor seconds."""
    start = time.process_time()
    if options.get("joint", True):
        options |= {
            "shared_budget": True,
            "max_iter": plan.passes,
            "learning_rate_init": plan.learning_rate,
            "faithfulness": plan.faithfulness,
        }
    with warnings.catch_warnings():
        # The number of epochs is what the benchmark can afford.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", ".* features are dead")
        unwrapper = ModelUnwrapper(
            model,
            n_rows=plan.n_rows,
            random_state=seed,
            **options,
        ).fit(batches(rows, size=plan.batch_size))
    return unwrapper, time.process_time() - start


def random_like(unwrapper, seed):
    """Return frozen autoencoders whose directions are random, as active as those.

    Encoders keep their biases and, like decoders, the norms of their rows; what is left
    to training are the weights between features.
    """
    random = np.random.RandomState(seed)

    def shuffled(part):
        own = SparseAutoencoder(**part.get_params())
        vars(own).update(vars(part))
        for name in ("encoder_coef_", "components_"):
            array = getattr(part, name)
            rows = random.standard_normal(array.shape)
            rows *= np.linalg.norm(array, axis=1, keepdims=True) / np.linalg.norm(
                rows, axis=1, keepdims=True
            )
            setattr(own, name, rows.astype(array.dtype))
        return FrozenEstimator(own)

    return {
        "input_autoencoder": [shuffled(p) for p in unwrapper.input_autoencoders_],
        "output_autoencoder": [shuffled(p) for p in unwrapper.output_autoencoders_],
    }


def name_of(weights):
    """Return the name of a budget."""
    return "dense" if weights is None else f"{weights:g} weights"


def fit_all(model, rows, plan, seed):
    """Return the unwrappers of a seed by name, and the seconds of each."""
    autoencoder, transcoder = make_parts(plan)
    pair = {"input_autoencoder": autoencoder, "output_autoencoder": autoencoder}
    found, seconds = {}, {}

    def add(name, **options):
        found[name], seconds[name] = unwrap(model, rows, plan, seed, **options)
        print(f"seed {seed}, {name}: {seconds[name]:.0f} s", flush=True)

    for weights in plan.weights:
        # Dense: as many weights as there are pairs of features.
        budget = float(plan.n_features) if weights is None else weights
        add(name_of(weights), n_nonzero_coefs=budget, **pair)
    add("transcoders", transcoder=transcoder)
    add("transcoders, apart", transcoder=transcoder, joint=False)
    first = found[name_of(plan.weights[0])]
    add("random features", n_nonzero_coefs=plan.random, **random_like(first, seed))
    return found, seconds


def count_nonzero(layer):
    """Return how many weights of a layer are not zero, with those of its ends."""
    ends = np.count_nonzero(layer.encoder) + np.count_nonzero(layer.decoder)
    return int(ends + (0 if layer.coef is None else layer.coef.nnz))


def figures_of(found, held_out):
    """Return the rows of the report of all unwrappers."""
    names = list(found)
    report = found[names[0]].report(
        batches(held_out), beside={name: found[name] for name in names[1:]}
    )
    called = {"features": names[0]}
    rows = [
        {
            "replaced": replaced,
            "by": called.get(by, by),
            "own": own,
            "own noise": own_noise,
            "true": true,
            "true noise": true_noise,
        }
        for replaced, by, own, own_noise, true, true_noise in zip(
            *(report[name] for name in report), strict=True
        )
    ]
    layers = [
        dict(zip(report.layers, values, strict=True))
        for values in zip(*report.layers.values(), strict=True)
    ]
    nonzero = {
        (name, module): count_nonzero(layer)
        for name, unwrapper in found.items()
        for module, layer in zip(
            unwrapper.module_names_, unwrapper.layers(), strict=True
        )
    }
    for layer in layers:
        layer["by"] = called.get(layer["by"], layer["by"])
        layer["nonzero"] = nonzero[layer["by"], layer["module"]]
    return {
        "loss": report.loss,
        "predictions": report.n_predictions,
        "rows": rows,
        "layers": layers,
    }


def explained_of(found, model, rows, held_out, plan, seed):
    """Return the held-out R2 of autoencoders, beside those that are fitted alone.

    Rows are those that the MLPs of the model itself read and compute.
    """
    names = next(iter(found.values())).module_names_
    sides = ("input", "output")
    fitted_to, held = (
        {
            side: capture(model, batches(part), names, what=side).activations
            for side in sides
        }
        for part in (some(rows, plan.n_rows), held_out)
    )

    def fit_alone(array):
        autoencoder = make_parts(plan)[0].set_params(random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("ignore", ".* features are dead")
            return autoencoder.fit(array)

    alone = [[fit_alone(fitted_to[side][name]) for name in names] for side in sides]
    coders = {
        by: [one.input_autoencoders_, one.output_autoencoders_]
        for by, one in found.items()
        if one.transcoders_[0] is None
    }
    return [
        {
            "by": by,
            **{
                side: [
                    part.score(held[side][name])
                    for part, name in zip(of_side, names, strict=True)
                ]
                for side, of_side in zip(sides, parts, strict=True)
            },
        }
        for by, parts in {"fitted alone": alone, **coders}.items()
    ]


def graphs_of(unwrapper, held_out, tokenizer, plan, folder):
    """Save the graphs of some prompts; return what they say of themselves."""
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number, row in enumerate(some(held_out, plan.n_prompts * held_out.shape[1])):
        if number == plan.n_prompts:
            break
        ids = row[: plan.length]
        graph = unwrapper.prompt_graph(ids, decode=tokenizer)
        graph.save(folder / f"prompt_{number}.html")
        figure = graph.to_display().plot().figure_
        figure.savefig(folder / f"prompt_{number}.png", dpi=80)
        errors = np.array(graph.kind) == "error"
        sizes = np.abs(graph.contribution)
        token = int(graph.feature[-1])
        found.append(
            {
                "prompt": "".join(graph.tokens),
                "token": graph.token,
                "probability": graph.probability,
                "nodes": len(graph.name),
                "kept": graph.kept,
                "errors' share": float(sizes[errors].sum() / sizes[:-1].sum()),
                "checked": int(np.isfinite(graph.change).sum()),
                "correlation": graph.correlation,
                "held": correlations(unwrapper, ids, graph, token),
            }
        )
    return found


def print_seed(figures):
    """Print the tables of a seed."""
    for choice in dict.fromkeys(row["replaced"] for row in figures["rows"]):
        print(f"\n{choice}: nats a token lost\n")
        print_table(
            [
                {
                    key: value if isinstance(value, str) else f"{value:.4f}"
                    for key, value in row.items()
                    if key != "replaced"
                }
                for row in figures["rows"]
                if row["replaced"] == choice
            ],
            ["by", "own", "own noise", "true", "true noise"],
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", choices=PRESETS, default=None)
    parser.add_argument("--cache", help="folder in which trained models are kept")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--features", type=int)
    parser.add_argument("--k", type=int)
    parser.add_argument("--tokens", type=int, help="of training together")
    parser.add_argument("--pictures", default="language_model_figures", help="a folder")
    parser.add_argument("--smoke", action="store_true", help="tiny, without a record")
    given = parser.parse_args()
    changes = {"n_features": given.features, "k": given.k, "n_trained": given.tokens}
    changes = {name: value for name, value in changes.items() if value is not None}
    plan = replace(SMOKE if given.smoke else Plan(), **changes)
    preset = given.preset or ("tiny" if given.smoke else "testbed")
    model, tokenizer, about = cached_model(preset, given.cache)
    training, held_out = (
        windows(encode(tokenizer, texts), PRESETS[preset].context, first)
        for texts, first in zip(
            split_books(load_books()), [tokenizer.bos_token_id] * 2, strict=True
        )
    )
    held_out = some(held_out, plan.n_held_out)
    record = {"model": {"model": preset, **about}, "run": asdict(plan), "seeds": []}
    for seed in range(given.seeds):
        rows = some(training, plan.n_trained, seed)
        found, seconds = fit_all(model, rows, plan, seed)
        figures = {
            "seed": seed,
            "seconds": seconds,
            **figures_of(found, held_out),
            "explained": explained_of(found, model, rows, held_out, plan, seed),
        }
        if seed == 0:
            record["prompts"] = graphs_of(
                found[name_of(plan.explained)],
                held_out,
                tokenizer,
                plan,
                Path(given.pictures),
            )
        record["seeds"].append(figures)
        print_seed(figures)
        if not given.smoke:
            write_record("language_model_whole", record)
    for prompt in record["prompts"]:
        print(prompt)


if __name__ == "__main__":
    main()
