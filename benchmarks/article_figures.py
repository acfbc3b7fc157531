"""The pictures of the article, from an unwrapped network."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import nn

from skfeat import FeatureConnector
from skfeat.inspection import (
    ActivationDisplay,
    ConnectorDisplay,
    ConnectorHistoryDisplay,
    ImageGridDisplay,
    ReconstructionDisplay,
    TopExamplesDisplay,
    maximize_activation,
)

THRESHOLD, STRONG = 0.3, 0.1
IMAGE = (28, 28)


class Frames:
    """A scikit-learn callback that keeps a connector's weights after each epoch."""

    def __init__(self):
        self.coefs = []

    def setup(self, estimator, context):
        """Do nothing."""

    def teardown(self, estimator, context):
        """Do nothing."""

    def on_fit_task_begin(self, estimator, context):
        """Do nothing."""

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        """Keep the weights."""
        if context.task_name == "epoch":
            self.coefs.append(fitted_estimator.coef_)


def hidden_activations(model, X):
    """Return the activations of the hidden layers."""
    rows, found = torch.from_numpy(X), []
    with torch.no_grad():
        for layer in model:
            rows = layer(rows)
            if isinstance(layer, nn.ReLU):
                found.append(rows.numpy())
    return found


def save_figures(model, unwrapper, X_train, X_test, budget, folders):
    """Draw all pictures, of layers 2 and 3, and save them to each of the folders."""
    autoencoder = unwrapper.autoencoders_[1]
    rows = hidden_activations(model, X_test)[1]
    codes = autoencoder.transform(rows)
    features = chosen_features(codes)
    names = [f"F2_{feature}" for feature in features]
    history = connector_history(model, unwrapper, X_train, budget)
    # All as images, also those so sparse that points were clearer: frames must compare.
    matrices = {"kind": "image", "vmax": 0.5}
    figures = {
        "activations": draw_activations(autoencoder, rows[:1]),
        "weights": draw_weights(model[4], unwrapper.connectors_[1]),
        "connector_epochs": history.plot(**matrices).figure_,
        "top_images": TopExamplesDisplay.from_activations(
            codes,
            X_test,
            features=features,
            image_shape=IMAGE,
            feature_names=names,
        ).figure_,
        "maximised": ImageGridDisplay.from_rows(
            maximised(model, autoencoder, features), image_shape=IMAGE, titles=names
        ).figure_,
    }
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        for name, figure in figures.items():
            figure.savefig(folder / f"article_{name}.png", dpi=80)
        history.save_animation(
            folder / "article_connector_epochs.gif", fps=3, dpi=80, **matrices
        )
    plt.close("all")


def chosen_features(codes, n_features=6):
    """Pick features that fire on few rows, those that reach highest first."""
    rate = (codes > 0).mean(axis=0)
    peaks = np.where((rate > 0.005) & (rate < 0.1), codes.max(axis=0), 0)
    return np.argsort(-peaks, kind="stable")[:n_features]


def draw_activations(autoencoder, row):
    """Draw one input's neurons with their reconstruction, and its features."""
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(9, 6.4), layout="constrained")
    ReconstructionDisplay.from_estimator(autoencoder, row, threshold=THRESHOLD, ax=top)
    ActivationDisplay.from_estimator(autoencoder, row, threshold=THRESHOLD, ax=bottom)
    for ax, what in ((top, "Neurons"), (bottom, "Features")):
        ax.set_title(f"{what} of layer 2: {ax.get_title()}")
    return figure


def draw_weights(layer, connector):
    """Draw the weights between the neurons of two layers, and between features."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 5.2), layout="constrained")
    # A few weights are far larger than the others, and would bleach them.
    limit = float(np.percentile(abs(connector.coef_.data), 90))
    for ax, weights, what, vmax in (
        (axes[0], layer.weight.detach().numpy(), "neuron", None),
        (axes[1], connector.coef_, "feature", limit),
    ):
        ConnectorDisplay.from_matrix(weights, threshold=STRONG, vmax=vmax, ax=ax)
        ax.set(xlabel=f"{what} of layer 2", ylabel=f"{what} of layer 3")
        ax.set_box_aspect(1)
    return figure


def connector_history(model, unwrapper, X, budget):
    """Fit a connector in minibatches, and keep its weights after each epoch."""
    codes = [
        autoencoder.transform(rows)
        for autoencoder, rows in zip(
            unwrapper.autoencoders_, hidden_activations(model, X), strict=True
        )
    ]
    frames = Frames()
    connector = FeatureConnector(
        solver="minibatch", n_nonzero_coefs=budget, max_iter=14, random_state=0
    )
    connector.set_callbacks(frames).fit(codes[1], codes[2])
    return ConnectorHistoryDisplay(frames=frames.coefs)


def maximised(model, autoencoder, features):
    """Make the images that activate features most."""
    coef, intercept, bias = (
        torch.from_numpy(array).float()
        for array in (
            autoencoder.encoder_coef_,
            autoencoder.encoder_intercept_,
            autoencoder.intercept_,
        )
    )
    return maximize_activation(
        # Before the activation, where silent features have a gradient too.
        lambda images: torch.addmm(intercept, model[:4](images) - bias, coef.T),
        model[0].in_features,
        feature=features,
        regularization=0.05,
        image_shape=IMAGE,
        random_state=0,
    )
