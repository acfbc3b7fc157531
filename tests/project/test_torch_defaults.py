"""Nothing that is fitted depends on torch's default dtype and device, or its modes."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import nn

from skfeat import FeatureConnector, FeatureUnwrapper, SparseAutoencoder
from skfeat.controls import pruned_control
from skfeat.inspection import maximize_activation
from skfeat.language import LayerPair, MLPConnector, ModelUnwrapper
from tests.tiny_causal import batches, tiny_causal

pytestmark = pytest.mark.filterwarnings("ignore")

ROWS = np.random.default_rng(0).standard_normal((120, 6)).astype(np.float32)
CODES = np.maximum(ROWS @ np.random.default_rng(1).standard_normal((6, 4)), 0)


@contextmanager
def dtype(kind):
    before = torch.get_default_dtype()
    torch.set_default_dtype(kind)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def autoencoder(**params):
    params = {"max_iter": 3, "batch_size": 40, "random_state": 0} | params
    fitted = SparseAutoencoder(12, **params).fit(ROWS)
    return *arrays_of(fitted), fitted.transform(ROWS)


def continued():
    fitted = SparseAutoencoder(12, k=3, random_state=0)
    for _ in range(3):
        fitted.partial_fit(ROWS[:40])
    return arrays_of(fitted)


def connector(**params):
    params = {"max_iter": 4, "batch_size": 40, "random_state": 0} | params
    return arrays_of(FeatureConnector(1e-2, **params).fit(ROWS, CODES))


def mlp_connector():
    fitted = MLPConnector(hidden_units=3, max_iter=2, random_state=0)
    fitted.fit(sparse.csr_array(ROWS), sparse.csr_array(CODES))
    return [fitted.predict(sparse.csr_array(ROWS))]


def model_of(*modules):
    model = nn.Sequential(*modules).to_empty(device="cpu").float()
    rng = np.random.default_rng(0)
    for parameter in model.parameters():
        parameter.data[:] = torch.from_numpy(rng.standard_normal(parameter.shape))
    return model


def perceptron():
    norm = nn.LayerNorm(8, elementwise_affine=False)
    ends = [nn.Linear(6, 8), norm, nn.ReLU()], [nn.Linear(8, 8), nn.ReLU()]
    return model_of(*ends[0], *ends[1], nn.Linear(8, 2))


def unwrapper(model=perceptron, X=ROWS, **params):
    part = SparseAutoencoder(9, max_iter=3, k=3)
    params = {"max_iter": 3, "random_state": 0} | params
    fitted = FeatureUnwrapper(model(), autoencoder=part, **params)
    return [fitted.fit(X).network().predict_raw(X)]


def convolutional():
    model = [nn.Conv2d(1, 4, 2, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 2), nn.ReLU()]
    return model_of(*model, nn.Flatten(), nn.Linear(24, 3))


def pruned():
    network = pruned_control(
        perceptron(), ROWS, n_nonzero_coefs=40, max_iter=3, random_state=0
    )
    return [network.predict_raw(ROWS)]


def pair():
    part = SparseAutoencoder(9, max_iter=3, k=3)
    fitted = LayerPair(part, part, n_nonzero_coefs=2, min_events=5, random_state=0)
    return [fitted.fit(ROWS, CODES).coef_.toarray()]


# Made with the defaults of torch, as a user does.
LANGUAGE_MODEL, BATCHES = tiny_causal(), batches(2)


def language_model():
    part = SparseAutoencoder(12, max_iter=1, k=3)
    fitted = ModelUnwrapper(
        LANGUAGE_MODEL,
        input_autoencoder=part,
        output_autoencoder=part,
        n_nonzero_coefs=2,
        max_iter=2,
        random_state=0,
    ).fit(BATCHES)
    return [part.coef_.toarray() for part in fitted.connectors_]


def arrays_of(fitted):
    values = [value for name, value in vars(fitted).items() if name.endswith("_")]
    values = [v.toarray() if sparse.issparse(v) else v for v in values]
    return [value for value in values if isinstance(value, np.ndarray)]


FITS = {
    "topk": lambda: autoencoder(k=1),
    "topk, dense": lambda: autoencoder(k=6),
    "batch_topk": lambda: autoencoder(activation="batch_topk", k=1),
    "relu": lambda: autoencoder(activation="relu", dead_features="resample"),
    "jumprelu": lambda: autoencoder(activation="jumprelu"),
    "gated": lambda: autoencoder(activation="gated"),
    "l0": lambda: autoencoder(activation="relu", l0=2.0),
    "float64": lambda: autoencoder(k=1, precision="float64"),
    "bfloat16": lambda: autoencoder(k=1, precision="bfloat16"),
    "partial_fit": continued,
    "identity": lambda: connector(link="identity"),
    "full_batch": lambda: connector(solver="full_batch"),
    "minibatch": lambda: connector(solver="minibatch"),
    "MLPConnector": mlp_connector,
    "FeatureUnwrapper": unwrapper,
    "FeatureUnwrapper, apart": lambda: unwrapper(joint=False),
    "FeatureUnwrapper of maps": lambda: unwrapper(
        convolutional, ROWS.reshape(-1, 1, 2, 3)
    ),
    "pruned_control": pruned,
    "LayerPair": pair,
    "ModelUnwrapper": language_model,
}


@pytest.fixture(scope="module")
def usual():
    return {}


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize(
    "default",
    [
        lambda: dtype(torch.float64),
        lambda: dtype(torch.bfloat16),
        # Tensors made there hold no numbers.
        lambda: torch.device("meta"),
        # As programs that only read models set for all that they do.
        torch.no_grad,
        torch.inference_mode,
        lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    ],
    ids=["float64", "bfloat16", "meta", "no_grad", "inference_mode", "autocast"],
)
def test_fits_are_the_same(name, default, usual):
    if name not in usual:
        usual[name] = FITS[name]()
    with default():
        found = FITS[name]()
    assert len(found) == len(usual[name]) > 0
    for array, expected in zip(found, usual[name], strict=True):
        np.testing.assert_array_equal(array, expected)


def test_maximisation_starts_from_the_same_input():
    weights = torch.tensor([[1.0, -1.0, 2.0], [-1.0, 1.0, 0.5]])

    def found():
        return maximize_activation(
            lambda x: (x @ weights.to(x).T).square(), 3, feature=1, random_state=0
        )

    usual = found()
    with dtype(torch.float64):
        np.testing.assert_allclose(found(), usual, atol=1e-4)
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            np.testing.assert_array_equal(found(), usual)
    # Computed in the dtype of its tensors.
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_array_equal(found(), usual)
