"""The autoencoder as one operation against autograd over its definition."""

import numpy as np
import pytest
import torch

from skfeat.activations import TopK
from skfeat.kernels import _threads
from skfeat.kernels._limits import LIMITS
from skfeat.kernels._threads import Team
from skfeat.kernels.sae._differentiable import CoderTensors, encode_and_decode

pytest.importorskip("numba")


def weights_of(m, d, seed, *, tied=False):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        part = torch.randn(*shape, generator=generator)
        return part.requires_grad_()

    decoder = random(m, d)
    encoder = decoder if tied else random(m, d)
    return CoderTensors(encoder, random(m), decoder, random(d))


def results(operation, tensors, rows, weights, pulls):
    codes, error = operation(rows, weights, tensors, None)
    loss = 3 * error + (codes * pulls).sum()
    unique = list({id(part): part for part in tensors}.values())
    return codes, error, torch.autograd.grad(loss, unique)


@pytest.mark.parametrize(
    ("n", "m", "d", "k"),
    [(7, 40, 5, 3), (60, 33, 16, 4), (3, 64, 1, 1), (600, 80, 9, 8)],
)
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("shift", [0.0, -2.0])  # rows with fewer than k positive
def test_loops_compute_what_autograd_does(n, m, d, k, tied, shift):
    tensors = weights_of(m, d, 0, tied=tied)
    tensors.encoder_bias.data += shift * d**0.5
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(n, d, generator=generator)
    weights = torch.rand(n, generator=generator)
    weights /= weights.sum()
    pulls = torch.randn(n, m, generator=generator)
    device = torch.device("cpu")
    compiled = encode_and_decode(TopK(k), m, device, Team())
    # Where all may be active, loops do not pay.
    plain = encode_and_decode(TopK(m), m, device, Team())
    assert compiled.__name__ != plain.__name__

    def reference(rows, weights, tensors, activation):
        pre = torch.addmm(tensors.encoder_bias, rows, tensors.encoder.T)
        codes = TopK(k).forward(pre)
        decoded = codes @ tensors.decoder + tensors.bias
        return codes, weights @ (decoded - rows).square().mean(dim=1)

    ours = results(compiled, tensors, rows, weights, pulls)
    expected = results(reference, tensors, rows, weights, pulls)
    torch.testing.assert_close(ours[0], expected[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(ours[1], expected[1], rtol=1e-5, atol=1e-6)
    for own, other in zip(ours[2], expected[2], strict=True):
        torch.testing.assert_close(own, other, rtol=1e-4, atol=1e-4)


def test_threads_change_nothing(monkeypatch):
    monkeypatch.setattr(_threads, "n_threads", lambda: 3)
    monkeypatch.setattr(LIMITS, "threaded_work", 0)
    tensors = weights_of(60, 9, 4)
    generator = torch.Generator().manual_seed(5)
    rows, pulls = (torch.randn(600, n, generator=generator) for n in (9, 60))
    weights = torch.full((600,), 1 / 600)
    team = Team()
    operation = encode_and_decode(TopK(4), 60, torch.device("cpu"), team)
    alone = results(operation, tensors, rows, weights, pulls)
    with team:
        together = results(operation, tensors, rows, weights, pulls)
    for one, other in zip(
        [*alone[:2], *alone[2]], [*together[:2], *together[2]], strict=True
    ):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_codes_are_those_of_the_fitted_activation():
    tensors = weights_of(50, 6, 2)
    rows = torch.randn(20, 6, generator=torch.Generator().manual_seed(3))
    operation = encode_and_decode(TopK(4), 50, torch.device("cpu"), Team())
    codes, _ = operation(rows, torch.full((20,), 0.05), tensors, None)
    pre = (rows @ tensors.encoder.T + tensors.encoder_bias).detach().numpy()
    np.testing.assert_allclose(codes.detach().numpy(), TopK(4).encode(pre), rtol=1e-5)
