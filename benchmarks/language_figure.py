"""The picture of docs/language_models.md: connections of a small language model.

Fits a LayerPair to one layer of the model that ``language_model.py`` trains (or takes
from its cache), finds the clearest OR and the clearest AND-NOT on held-out text, and
draws both beside their inputs. ``python benchmarks/language_figure.py --cache FOLDER``
writes ``docs/images/language_connections.png`` and, with ``--page``, a page of three
connections of each kind.
"""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from _language_model_connections import codes_of, find_in_layer
from _language_model_layers import batches, capture_layers, layers_of, rows_of, some
from _language_model_text import encode, load_books, split_books, windows
from _language_model_training import PRESETS, cached_model
from matplotlib import pyplot as plt
from sklearn.exceptions import ConvergenceWarning

from skfeat import SparseAutoencoder
from skfeat.language import LayerPair, ablation_effect, connection_page

IMAGE = Path(__file__).parents[1] / "docs" / "images" / "language_connections.png"


def options():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--cache", help="folder in which trained models are kept")
    parser.add_argument("--layer", type=int, default=1)
    parser.add_argument("--rows", type=int, default=150_000)
    parser.add_argument("--held-out", type=int, default=100_000)
    parser.add_argument("--page", help="file of a page of all connections")
    return parser.parse_args()


def fit(captured, layer):
    """Fit the features of a layer and the sparse map between them."""
    parts = [SparseAutoencoder(1024, k=8, max_iter=6) for _ in range(2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", ".* features are dead")
        return LayerPair(*parts, n_nonzero_coefs=10, random_state=0).fit(
            *rows_of(captured, layer)
        )


def make_page(found, pair, layer, seen, rows, model, tokenizer, **sizes):
    """Return the page of some connections, with the effects of all features."""
    sides = {
        "input": (layer.source, pair.input_autoencoder_, pair.live_inputs_),
        "output": (layer.module, pair.output_autoencoder_, pair.live_outputs_),
    }

    def effects(side, feature, sequences):
        module, autoencoder, live = sides[side]
        return ablation_effect(
            model,
            batches(rows),
            module,
            autoencoder,
            int(live[feature]),
            sequences=sequences,
        )

    return connection_page(
        found,
        *codes_of(pair, layer, seen),
        seen,
        tokenizer,
        effects=effects,
        title=f"Connections into the MLP of layer {layer.number}, found by search",
        random_state=0,
        **sizes,
    )


def main():
    given = options()
    model, tokenizer, _ = cached_model("small", given.cache)
    (layer,) = layers_of(model, [given.layer])
    context, first = PRESETS["small"].context, tokenizer.bos_token_id
    training, held_out = (
        windows(encode(tokenizer, texts), context, first)
        for texts in split_books(load_books())
    )
    pair = fit(capture_layers(model, some(training, given.rows, 0), [layer]), layer)
    rows = some(held_out, given.held_out)
    seen = capture_layers(model, rows, [layer])
    found = find_in_layer(pair, layer, seen, 3)
    for one in found:
        print(f"{one.kind}, score {one.score:.3f}, R2 {one.r2:.2f}")
        print(one.logic.text)
    best = [
        next(one for one in found if one.kind == kind) for kind in ("or", "and-not")
    ]
    arguments = (pair, layer, seen, rows, model, tokenizer)
    page = make_page(best, *arguments, n_inputs=3, n_top=2, n_strata=2)
    figure = plt.figure(figsize=(10.5, 7.4), layout="constrained")
    for i, part in enumerate(figure.subfigures(1, 2, wspace=0.03)):
        page.plot(i, figure=part, font_size=8)
    figure.savefig(IMAGE, dpi=100)
    print(IMAGE)
    if given.page:
        make_page(found, *arguments).save(given.page)
        print(given.page)


if __name__ == "__main__":
    main()
