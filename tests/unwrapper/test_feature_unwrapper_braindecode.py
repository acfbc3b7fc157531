"""Decoders of EEG: maps of their convolutions, and the MLP after their attention."""

import numpy as np
import pytest
import torch

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.capture import capture
from skfeat.maps import Patches

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # those of the library that is tested with
    pytest.mark.slow,
]
SIZES = {"n_chans": 4, "n_outputs": 3, "n_times": 400, "sfreq": 100}
SIGNALS = np.random.default_rng(0).normal(size=(40, 4, 400)).astype(np.float32)


@pytest.fixture(scope="module")
def models():
    return pytest.importorskip("braindecode.models")


def test_head_after_convolutions_and_attention(models):
    torch.manual_seed(0)
    model = models.EEGConformer(**SIZES).eval()
    part = SparseAutoencoder(16, k=8, random_state=0)
    fitted = FeatureUnwrapper(
        model, start="fc.fc.0", autoencoder=part, max_iter=20, random_state=0
    ).fit(SIGNALS)
    assert fitted.layer_names_ == ["fc.fc.0", "fc.fc.3"]
    with torch.no_grad():
        logits = model(torch.from_numpy(SIGNALS)).numpy()
    own = fitted._model_values(fitted.network_inputs(SIGNALS))
    np.testing.assert_allclose(own, logits, atol=1e-4)
    report = fitted.report(SIGNALS, logits.argmax(axis=1))
    assert report["score_model"][-1] == 1
    assert fitted.predict(SIGNALS).shape == (40,)


def test_skorch_net(models):
    braindecode = pytest.importorskip("braindecode")
    y = np.arange(40) % 3
    net = braindecode.EEGClassifier(
        models.EEGConformer(**SIZES), max_epochs=1, batch_size=20, verbose=0
    ).fit(SIGNALS, y)
    part = SparseAutoencoder(16, k=8, random_state=0)
    fitted = FeatureUnwrapper(
        net, start="fc.fc.0", autoencoder=part, max_iter=20, random_state=0
    ).fit(SIGNALS, y)
    assert list(fitted.classes_) == [0, 1, 2]
    report = fitted.report(SIGNALS, net.predict(SIGNALS))
    assert report["score_model"][-1] == 1


def test_maps_of_a_convolution(models):
    torch.manual_seed(0)
    model = models.EEGNet(**SIZES).eval()
    before = capture(model, [SIGNALS], "pool_1", dtype="float64")
    after = capture(model, [SIGNALS], "conv_separable_depth", dtype="float64")
    layer = model.conv_separable_depth
    patches = Patches(before.map_shape, layer.kernel_size, padding=layer.padding)
    assert patches.out_shape == after.map_shape
    # Depthwise: a channel has no weight on the others.
    weight = np.zeros((layer.out_channels, layer.in_channels, *layer.kernel_size))
    own = np.arange(layer.out_channels)
    weight[own, own] = layer.weight.detach().numpy()[:, 0]
    coef = np.moveaxis(weight, 1, -1).reshape(len(weight), -1)
    found = patches.convolve(before.activations["pool_1"], coef)
    np.testing.assert_allclose(
        found, after.activations["conv_separable_depth"], atol=1e-5
    )
