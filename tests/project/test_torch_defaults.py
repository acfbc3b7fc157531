"""Nothing that is fitted depends on torch's default dtype or default device."""

from contextlib import contextmanager

import numpy as np
import pytest
import torch
from scipy import sparse
from torch import nn

from skfeat import FeatureConnector, FeatureUnwrapper, SparseAutoencoder
from skfeat.inspection import maximize_activation
from skfeat.language import MLPConnector

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


def unwrapper():
    modules = [nn.Linear(6, 8), nn.LayerNorm(8, elementwise_affine=False), nn.ReLU()]
    model = nn.Sequential(*modules, nn.Linear(8, 2)).to_empty(device="cpu").float()
    rng = np.random.default_rng(0)
    for parameter in model.parameters():
        parameter.data[:] = torch.from_numpy(rng.standard_normal(parameter.shape))
    params = {"max_iter": 3, "k": 3}
    fitted = FeatureUnwrapper(
        model, autoencoder=SparseAutoencoder(9, **params), random_state=0
    )
    return [fitted.fit(ROWS).network().predict_raw(ROWS)]


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
    ],
    ids=["float64", "bfloat16", "meta"],
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
