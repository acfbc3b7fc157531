"""All that trains with torch runs on one device alone.

The meta device stands for a GPU where there is none: its tensors have shapes and no
values, and torch refuses an operation on tensors of two devices. On a GPU the same
estimators give what they give on the CPU.
"""

import numpy as np
import pytest
import torch

from skfeat import FeatureConnector, FeatureUnwrapper, SparseAutoencoder, Transcoder
from skfeat.activations import ReLU, TopK
from skfeat.kernels._threads import Team
from skfeat.kernels.sae._activations import make_training_activation
from skfeat.kernels.sae._choose import make_kernel
from skfeat.kernels.sae._dense import DenseKernel
from skfeat.kernels.sae._differentiable import CoderTensors, encode_and_decode
from skfeat.kernels.sae._kernel import KernelSettings
from skfeat.utils._adam import Adam

META = torch.device("meta")
ACTIVATIONS = ("relu", "topk", "batch_topk", "jumprelu", "gated")
N, D, M = 12, 5, 20


def parameters(activation):
    params = {
        "decoder": torch.ones(M, D),
        "encoder": torch.ones(M, D),
        "encoder_bias": torch.ones(M),
        "bias": torch.ones(D),
        **activation.extra_params(M, D),
    }
    return {name: param.to(META) for name, param in params.items()}


@pytest.mark.parametrize("prefixes", [None, (8, M)])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gradients(name, prefixes):
    activation = make_training_activation(name, 3, D)
    params = parameters(activation)
    settings = KernelSettings(activation, prefixes if "topk" in name else None)
    kernel = make_kernel(params, settings, Team())
    assert isinstance(kernel, DenseKernel)
    rows, weights = torch.ones(N, D, device=META), torch.ones(N, device=META)
    result = kernel.gradients(rows, weights, 0.1)
    assert {part.device for part in result} == {META}
    for param in params.values():
        assert param.grad.device == META
        assert param.grad.shape == param.shape


@pytest.mark.parametrize("activation", [TopK(3), ReLU()], ids=["topk", "relu"])
def test_the_operation_of_joint_training(activation):
    encode = encode_and_decode(activation, M, META, Team())
    shapes = [(M, D), (M,), (M, D), (D,)]
    tensors = [torch.ones(s, device=META, requires_grad=True) for s in shapes]
    rows, weights = torch.ones(N, D, device=META), torch.ones(N, device=META)
    codes, error = encode(rows, weights, CoderTensors(*tensors), activation)
    assert codes.device == META
    (error + codes.sum()).backward()
    assert all(tensor.grad.device == META for tensor in tensors)


def test_the_optimizer_keeps_its_state_there():
    param = torch.ones(4, device=META, requires_grad=True)
    optimizer = Adam([param], 1e-2)
    param.grad = torch.ones_like(param)
    optimizer.step()
    assert {value.device for value in optimizer.state[param].values()} == {META}


def model():
    generator = torch.Generator().manual_seed(0)
    layers = [torch.nn.Linear(D, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8)]
    network = torch.nn.Sequential(*layers, torch.nn.ReLU(), torch.nn.Linear(8, 3))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.normal_(generator=generator)
    return network


def autoencoder(name):
    def fit(X, device):
        params = {"activation": name, "precision": "float64", "max_iter": 5}
        sae = SparseAutoencoder(M, device=device, random_state=0, **params)
        return sae.fit(X).transform(X)

    return fit


def transcoder(X, device):
    params = {"precision": "float64", "max_iter": 5, "device": device}
    return Transcoder(M, k=3, random_state=0, **params).fit(X, X**2).predict(X)


def connector(X, device):
    params = {"solver": "minibatch", "max_iter": 5, "device": device}
    fitted = FeatureConnector(1e-3, random_state=0, **params).fit(X, X**2)
    return fitted.predict(X)


def unwrapper(**params):
    def fit(X, device):
        short = {"autoencoder": SparseAutoencoder(8, k=3, max_iter=5), "max_iter": 5}
        fitted = FeatureUnwrapper(
            model(), device=device, random_state=0, **short, **params
        )
        return fitted.fit(X).decision_function(X)

    return fit


FITS = {
    **{name: autoencoder(name) for name in ACTIVATIONS},
    "transcoder": transcoder,
    "connector": connector,
    "joint": unwrapper(),
    "apart": unwrapper(joint=False),
    "with ends": unwrapper(connect_input=True, connect_output=True),
}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FITS)
def test_a_gpu_gives_what_the_cpu_gives(name):
    X = np.random.RandomState(0).rand(120, D)
    found, expected = (FITS[name](X, device) for device in ("cuda", "cpu"))
    # Float32 fits differ by what training makes of other rounding.
    atol = 1e-6 if name in (*ACTIVATIONS, "transcoder") else 0.05 * expected.std()
    np.testing.assert_allclose(found, expected, atol=atol)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", FITS)
def test_fits_begin_and_end_on_the_cpu(name):
    """What the GPU is compared with is no constant, and repeats."""
    X = np.random.RandomState(0).rand(120, D)
    first, second = (FITS[name](X, "cpu") for _ in "ab")
    np.testing.assert_array_equal(first, second)
    assert first.std() > 0
