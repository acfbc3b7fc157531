"""The pictures of the article, from an unwrapped network."""

from __future__ import annotations

import matplotlib

matplotlib.use("Agg")

import numpy as np
import torch
from matplotlib import pyplot as plt

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
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        pass

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        if context.task_name == "epoch":
            self.coefs.append(fitted_estimator.coef_)


def save_figures(model, unwrapper, X_train, X_test, budget, folders):
    """Draw all pictures and save them to each of the folders."""
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    history = connector_history(unwrapper, X_train, budget)
    figures = {
        "activations": activations(unwrapper, X_test),
        "weights": weights(model, unwrapper),
        "connector_epochs": history.plot().figure_,
        "top_images": top_images(unwrapper, X_test),
        "maximised": maximised(unwrapper, X_test),
    }
    for folder in folders:
        for name, figure in figures.items():
            figure.savefig(folder / f"article_{name}.png", dpi=90)
        history.save_animation(folder / "article_connector_epochs.gif", fps=3, dpi=80)
    plt.close("all")


def first_activations(unwrapper, X):
    """Return the activations of the first hidden layer."""
    return unwrapper.network().front.forward(X)


def activations(unwrapper, X):
    """One input: its neurons with their reconstruction, and its features."""
    autoencoder, row = unwrapper.autoencoders_[0], first_activations(unwrapper, X[:1])
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(9, 6.4), layout="constrained")
    ReconstructionDisplay.from_estimator(autoencoder, row, threshold=THRESHOLD, ax=top)
    ActivationDisplay.from_estimator(autoencoder, row, threshold=THRESHOLD, ax=bottom)
    return figure


def weights(model, unwrapper):
    """The weights between neurons of layers 1 and 2, and between their features."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 5.2), layout="constrained")
    neurons = model[2].weight.detach().numpy()
    ConnectorDisplay.from_matrix(neurons, threshold=STRONG, ax=axes[0])
    axes[0].set(xlabel="neuron of layer 1", ylabel="neuron of layer 2")
    coef = unwrapper.connectors_[0].coef_
    # A few weights are far larger than the others, and would bleach them.
    limit = float(np.percentile(abs(coef.data), 90))
    ConnectorDisplay.from_matrix(coef, threshold=STRONG, vmax=limit, ax=axes[1])
    axes[1].set(xlabel="feature of layer 1", ylabel="feature of layer 2")
    for ax in axes:
        ax.set_box_aspect(1)
    return figure


def connector_history(unwrapper, X, budget):
    """Fit a connector in minibatches, and keep its weights after each epoch."""
    rows = first_activations(unwrapper, X)
    first, second = unwrapper.autoencoders_[:2]
    middle = unwrapper._chain.hidden
    codes = second.transform(
        unwrapper._chain.forward(rows, middle[0].stop, middle[1].stop)
    )
    frames = Frames()
    connector = FeatureConnector(
        solver="minibatch", n_nonzero_coefs=budget, random_state=0
    )
    connector.set_callbacks(frames).fit(first.transform(rows), codes)
    return ConnectorHistoryDisplay(frames=[*frames.coefs, connector.coef_])


def chosen_features(unwrapper, X, n_features=8):
    """Pick features of the first layer that fire on a few rows, the strongest first."""
    codes = unwrapper.autoencoders_[0].transform(first_activations(unwrapper, X))
    rate = (codes > 0).mean(axis=0)
    peaks = np.where((rate > 0.005) & (rate < 0.1), codes.max(axis=0), 0)
    return np.argsort(-peaks, kind="stable")[:n_features], codes


def top_images(unwrapper, X):
    """Test images that activate some features most."""
    features, codes = chosen_features(unwrapper, X)
    display = TopExamplesDisplay.from_activations(
        codes,
        X,
        features=features,
        n_examples=10,
        image_shape=IMAGE,
        feature_names=[f"F1_{feature}" for feature in features],
    )
    return display.figure_


def maximised(unwrapper, X):
    """Images made to activate the same features most."""
    features, _ = chosen_features(unwrapper, X)
    autoencoder = unwrapper.autoencoders_[0]
    front = unwrapper.network().front.torch_function(dtype=torch.float32)
    coef, intercept, bias = (
        torch.tensor(array, dtype=torch.float32)
        for array in (
            autoencoder.encoder_coef_,
            autoencoder.encoder_intercept_,
            autoencoder.intercept_,
        )
    )

    def pre_activations(images):
        return torch.addmm(intercept, front(images) - bias, coef.T)

    found = maximize_activation(
        pre_activations,
        X.shape[1],
        feature=features,
        image_shape=IMAGE,
        random_state=0,
    )
    display = ImageGridDisplay.from_rows(
        found, image_shape=IMAGE, titles=[f"F1_{feature}" for feature in features]
    )
    return display.figure_
