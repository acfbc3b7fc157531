"""Connections between features that read as logic: found, printed and drawn."""

from __future__ import annotations

from pathlib import Path

from _language_model_layers import batches, rows_of

from skfeat.language import (
    ablation_effect,
    connection_page,
    feature_tokens,
    find_connections,
)

KINDS = ("or", "and-not")


def find_in_layer(pair, layer, seen, n):
    """Return the clearest connections of a layer on held-out text, best first.

    Nothing is chosen by hand: `skfeat.language.find_connections` reads all outputs and
    ranks those of each kind.
    """
    X, Y = codes_of(pair, layer, seen)
    found = find_connections(
        pair.connector_,
        X,
        Y,
        kind=KINDS,
        n=n,
        feature_names=[f"IF{layer.number}_{i}" for i in pair.live_inputs_],
        output_names=[f"OF{layer.number}_{i}" for i in pair.live_outputs_],
    )
    for connection in found:
        connection.layer = layer
    return found


def codes_of(pair, layer, seen):
    """Return the input and the output features of captured rows."""
    X, Y = rows_of(seen, layer)
    return pair.input_features(X), pair.output_features(Y)


def describe(connection, pair, layer, seen, tokenizer):
    """Return a connection as a dict: what it says, how well, and on which tokens.

    By chance is what 19 in 20 shuffles of its output stay below.
    """
    X, Y = codes_of(pair, layer, seen)
    logic = connection.logic
    inputs = [one["index"] for one in logic.inputs]
    of_inputs = feature_tokens(X, seen.token_ids, tokenizer, features=inputs)
    of_output = feature_tokens(
        Y, seen.token_ids, tokenizer, features=[connection.output]
    )
    return {
        "kind": connection.kind,
        "layer": layer.number,
        "output": connection.name,
        "tokens": of_output.labels[0],
        "logic": logic.formula,
        "formula": connection.formula,
        "score": connection.score,
        "score by chance": connection.score_shuffled,
        "F1": connection.f1,
        "F1 by chance": connection.f1_shuffled,
        "R2": connection.r2,
        "precision": float(logic.precision),
        "recall": float(logic.recall),
        "inputs": [
            {
                "name": one["name"],
                "tokens": label,
                "weight": one["weight"],
                "role": one["role"],
            }
            for one, label in zip(logic.inputs, of_inputs.labels, strict=True)
        ],
    }


def print_connection(found):
    """Print what `describe` returned."""
    print(
        f"{found['kind'].upper()}  layer {found['layer']}  {found['logic']}\n"
        f"    {found['output']} fires on {found['tokens']!r}: precision "
        f"{found['precision']:.2f}, recall {found['recall']:.2f}, R2 {found['R2']:.2f}"
        f"\n    F1 {found['F1']:.2f}, by chance {found['F1 by chance']:.2f}; score "
        f"{found['score']:.4f}, by chance {found['score by chance']:.4f}"
    )
    for one in found["inputs"]:
        weight = f"{one['weight']:+.2f} {one['name']}"
        print(f"    {weight} on {one['tokens']!r}, {one['role']}")


def save_pictures(connections, pairs, seen, rows, model, tokenizer, folder):
    """Write a page and a picture of every feature of it for each connection.

    Parameters
    ----------
    connections : list of Bunch
        Of `find_in_layer`.
    pairs : dict of int to LayerPair
        By the number of the layer.
    seen : Capture
    rows : torch.Tensor
        The windows that were captured.
    model, tokenizer : of transformers
    folder : path

    Returns
    -------
    list of Path
    """
    from matplotlib import pyplot as plt

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, connection in enumerate(connections):
        layer = connection.layer
        pair = pairs[layer.number]

        def effects(side, feature, sequences, pair=pair, layer=layer):
            first = side == "input"
            live = pair.live_inputs_ if first else pair.live_outputs_
            return ablation_effect(
                model,
                batches(rows),
                layer.source if first else layer.module,
                pair.input_autoencoder_ if first else pair.output_autoencoder_,
                int(live[feature]),
                sequences=sequences,
            )

        page = connection_page(
            connection,
            *codes_of(pair, layer, seen),
            seen,
            tokenizer,
            effects=effects,
            title=f"{connection.kind} in layer {layer.number}: {connection.name}",
            random_state=0,
        )
        stem = f"{connection.kind}_{number}_layer{layer.number}"
        paths.append(folder / f"{stem}.html")
        page.save(paths[-1])
        section = page.sections[0]
        for name, display in zip(section.names, section.displays, strict=False):
            paths.append(folder / f"{stem}_{name}.png")
            figure = display.plot().figure_
            figure.savefig(paths[-1], dpi=110)
            plt.close(figure)
    return paths
