"""Unwrap a small network on scikit-learn's digits: what `make demo` runs.

Prints the report and saves pictures to ``demo_figures/`` in the current folder. With
``--readme`` it also writes the pictures of the docs, ``docs/images/readme.png`` and
``feature_graph.png``.
"""

from __future__ import annotations

import argparse
import time
from collections import OrderedDict
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

import numpy as np
import torch
from _common import train_mlp
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.inspection import (
    ActivationDisplay,
    ConnectorDisplay,
    FeatureGraphDisplay,
    ReconstructionDisplay,
    TopExamplesDisplay,
)
from skfeat.unwrapper._report import Report
from skfeat.utils._torch import torch_alone

FIGURES = Path("demo_figures")
IMAGES = Path(__file__).parents[1] / "docs" / "images"

N_NEURONS, N_FEATURES, N_ACTIVE = 48, 96, 8
# Activations above it are counted in the pictures.
THRESHOLD = 0.3


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--readme", action="store_true", help=f"write to {IMAGES} too")
    readme = parser.parse_args().readme

    X, y = load_digits(return_X_y=True)
    X = (X / 16).astype(np.float32)
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.25, stratify=y, random_state=0
    )
    print(
        f"Training a network of 64-{N_NEURONS}-{N_NEURONS}-10 units on "
        f"{len(X_train):,} handwritten digits of 8 x 8 pixels."
    )
    model = train_network(X_train, y_train)

    print(
        f"\nUnwrapping it: {N_NEURONS} neurons a layer into {N_FEATURES} features, "
        f"{N_ACTIVE} of them active at a time."
    )
    start = time.perf_counter()
    unwrapper = unwrap(model, X_train)
    seconds = time.perf_counter() - start
    print(
        f"Done in {seconds:.0f} seconds: {unwrapper.network().n_weights_[0]} weights "
        f"between features stand for {N_NEURONS**2:,} between neurons."
    )

    print_report(unwrapper.report(X_test, y_test), len(X_test))
    shown = strongest_features(unwrapper, X_test, y_test)
    print_formulas(unwrapper, X_test, y_test, shown[:3])

    paths = save_figures(model, unwrapper, X_test, shown)
    if readme:
        paths.append(save_readme_picture(model, unwrapper, X_test, shown))
        paths.append(IMAGES / "feature_graph.png")
        draw_graph(unwrapper, X_test).savefig(paths[-1], dpi=100)
    print("\nPictures:")
    for path in paths:
        print(f"  {path}")


def train_network(X, y):
    """Train the network, with names for its layers that a report can show."""
    hidden = (N_NEURONS, N_NEURONS)
    # Batches are so small that a second thread would take time, where others work too.
    with torch_alone():
        layers = train_mlp(X, y, hidden=hidden, epochs=60, batch_size=64, seed=0)
    names = ["hidden1", "relu1", "hidden2", "relu2", "output"]
    return nn.Sequential(OrderedDict(zip(names, layers, strict=True)))


def unwrap(model, X):
    """Unwrap both hidden layers."""
    return FeatureUnwrapper(
        model,
        autoencoder=SparseAutoencoder(N_FEATURES, k=N_ACTIVE),
        random_state=0,
    ).fit(X)


def print_report(report, n_rows):
    """Print the layers as a table, and what is known of the whole as a sentence."""
    print(f"\nEach layer, on {n_rows} digits that were never trained on:\n")
    print(Report(**{name: column[:-1] for name, column in report.items()}))
    whole = {name: column[-1] for name, column in report.items()}
    print(
        f"\n{whole['n_weights_all']:,} nonzero weights run in all, as the first layer, "
        f"the encoder and the decoder stay dense;\nthe model has "
        f"{whole['n_weights_model']:,}. The whole network of features names "
        f"{whole['score']:.1%} of the digits right,\nthe model "
        f"{whole['score_model']:.1%}; they give the same answer on "
        f"{whole['agreement']:.1%}."
    )


def print_formulas(unwrapper, X, y, features):
    """Print how features are computed, and which digits excite them most."""
    codes, connector = unwrapper.transform(X), unwrapper.connectors_[0]
    print(
        "\nThree features of the second layer, as sums of those of the first, and the "
        "eight digits\nthat excite each most:\n"
    )
    for feature in features:
        labels = y[np.argsort(-codes[:, feature], kind="stable")[:8]]
        print(f"  {connector.formula(feature, max_terms=4)}")
        print(f"      {' '.join(map(str, labels))}")


def strongest_features(unwrapper, X, y):
    """Return, for each digit, the last layer's feature that it excites most.

    Those that reach highest come first.
    """
    codes = unwrapper.transform(X)
    chosen = {}
    for feature in np.argsort(-codes.max(axis=0), kind="stable"):
        chosen.setdefault(y[codes[:, feature].argmax()], feature)
    return list(chosen.values())


def hidden_activations(model, X):
    """Return the activations of the first hidden layer."""
    with torch.no_grad():
        return model[:2](torch.from_numpy(X)).numpy()


def save_figures(model, unwrapper, X, features):
    """Save the five pictures and return their paths."""
    FIGURES.mkdir(exist_ok=True)
    autoencoder, row = unwrapper.autoencoders_[0], hidden_activations(model, X[:1])
    figures = {}
    display = ReconstructionDisplay.from_estimator(
        autoencoder, row, threshold=THRESHOLD
    )
    figures["neurons"] = display.figure_
    figure, ax = plt.subplots(figsize=(7.5, 3.6), layout="constrained")
    ActivationDisplay.from_estimator(autoencoder, row, threshold=THRESHOLD, ax=ax)
    figures["features"] = figure
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    draw_matrices(model, unwrapper, axes, colorbar=True)
    figures["weights"] = figure
    display = TopExamplesDisplay.from_activations(
        unwrapper.transform(X),
        X,
        features=features,
        image_shape=(8, 8),
        feature_names=[f"F2_{feature}" for feature in features],
    )
    figures["digits"] = display.figure_
    figures["circuit"] = draw_graph(unwrapper, X)
    paths = []
    for name, figure in figures.items():
        paths.append(FIGURES / f"{name}.png")
        figure.savefig(paths[-1], dpi=100)
        plt.close(figure)
    return paths


def draw_graph(unwrapper, X):
    """Draw how the features compute the answer for one digit, from its pixels."""
    pixels = [f"row {row}, column {column}" for row, column in np.ndindex(8, 8)]
    display = FeatureGraphDisplay.from_estimator(
        unwrapper, X[0], inputs=True, input_names=pixels, n_edges=24
    )
    return display.figure_


def draw_matrices(model, unwrapper, axes, *, colorbar):
    """Draw the weights between neurons, and those between features."""
    ConnectorDisplay.from_matrix(
        model.hidden2.weight.detach().numpy(), ax=axes[0], colorbar=colorbar
    )
    axes[0].set(
        title=f"Neurons: all {N_NEURONS**2:,} weights",
        xlabel="neuron of layer 1",
        ylabel="neuron of layer 2",
    )
    coef = unwrapper.connectors_[0].coef_
    ConnectorDisplay.from_matrix(
        coef,
        kind="points",
        # A few weights are far larger than the others, and would bleach them.
        vmax=float(np.percentile(abs(coef.data), 80)),
        ax=axes[1],
        colorbar=colorbar,
    )
    axes[1].set(
        title=f"Features: {coef.nnz:,} of {N_FEATURES**2:,} weights",
        xlabel="feature of layer 1",
        ylabel="feature of layer 2",
    )
    for ax in axes:
        ax.set_box_aspect(1)


def save_readme_picture(model, unwrapper, X, features):
    """Save weights between neurons, weights between features, and what they mean."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    figure = plt.figure(figsize=(14, 5.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(2, 1), wspace=0.02)
    axes = left.subplots(1, 2)
    draw_matrices(model, unwrapper, axes, colorbar=False)
    for ax in axes:
        ax.set_title(ax.get_title(), fontsize="x-large")
    right.suptitle("What features respond to most", fontsize="x-large")
    TopExamplesDisplay.from_activations(
        unwrapper.transform(X),
        X,
        features=features[:6],
        n_examples=6,
        image_shape=(8, 8),
        feature_names=[f"F2_{feature}" for feature in features[:6]],
        ax=right.subplots(),
    )
    figure.savefig(IMAGES / "readme.png", dpi=100)
    plt.close(figure)
    return IMAGES / "readme.png"


if __name__ == "__main__":
    main()
