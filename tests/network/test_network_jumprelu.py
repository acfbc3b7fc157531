"""Networks over jump-ReLU features, as batch top-k and gated autoencoders give too."""

import numpy as np
import pytest
import torch
from torch import nn

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.activations import JumpReLU
from skfeat.network import SparseFeatureNetwork

pytestmark = pytest.mark.filterwarnings("ignore:.*(max_iter=|features are dead)")


@pytest.fixture(scope="module", params=["batch_topk", "jumprelu", "gated"])
def unwrapper(request):
    rng = np.random.RandomState(0)
    X = rng.randn(300, 5).astype(np.float32)
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(
        *(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    )
    for param in model.parameters():
        param.data.copy_(0.5 * torch.randn(param.shape, generator=generator))
    top_k = {"k": 4} if request.param == "batch_topk" else {}
    sae = SparseAutoencoder(16, activation=request.param, max_iter=20, **top_k)
    fitted = FeatureUnwrapper(
        model, autoencoder=sae, n_nonzero_coefs=40, random_state=0
    ).fit(X)
    return fitted, X


def test_network_computes_what_the_parts_compute(unwrapper):
    fitted, X = unwrapper
    network = fitted.network()
    assert isinstance(network.activation, JumpReLU)
    first = fitted.autoencoders_[0]
    hidden = X @ fitted.model[0].weight.detach().numpy().T
    hidden = np.maximum(hidden + fitted.model[0].bias.detach().numpy(), 0)
    np.testing.assert_allclose(
        network.features(X)[0], first.transform(hidden), rtol=1e-4, atol=1e-5
    )
    assert network.predict_raw(X).shape == (300, 3)


def test_files_and_copies_compute_the_same(unwrapper, tmp_path):
    fitted, X = unwrapper
    network = fitted.network()
    expected = network.predict_raw(X)
    network.save(tmp_path / "network.npz")
    loaded = SparseFeatureNetwork.load(tmp_path / "network.npz")
    np.testing.assert_array_equal(loaded.predict_raw(X), expected)
    np.testing.assert_allclose(
        network.compact().predict_raw(X), expected, rtol=1e-4, atol=1e-4
    )
    module = network.to_torch()
    with torch.no_grad():
        outputs = module(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("threshold", "message"),
    [
        (np.full(16, -1.0), r"finite numbers of at least 0\. Got -1\.0 in it"),
        (np.zeros(3), r"threshold must have the shape \(16\)"),
        (np.full(16, np.nan), "threshold must be .* Got nan in it"),
    ],
)
def test_bad_thresholds(unwrapper, threshold, message):
    network = unwrapper[0].network()
    arguments = {
        "front": network.front,
        "encoder_coef": network.encoder_coef_,
        "encoder_intercept": network.encoder_intercept_,
        "encoder_bias": network.encoder_bias_,
        "coefs": network.coefs_,
        "intercepts": network.intercepts_,
        "links": network.links,
        "decoder_coef": network.decoder_coef_,
        "decoder_intercept": network.decoder_intercept_,
        "back": network.back,
        "layer_names": network.layer_names_,
    }
    with pytest.raises(ValueError, match=message):
        SparseFeatureNetwork(activation=JumpReLU(threshold), **arguments)
