"""Adam: that of torch, to the bit, without its compiler."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from skfeat.utils._adam import Adam

RATES = {"own": 3e-3, "common": 1e-2}


def tensors(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(shape, generator=generator, requires_grad=True)
        for shape in [(5, 3), (4,), (2, 2)]
    ]


def groups_of(params):
    return [{"params": params[:1], "lr": RATES["own"]}, {"params": params[1:]}]


def train(optimizer, params, n_steps, *, first=0):
    """Minimise a sum of squares, in which the last tensor takes part at times."""
    for step in range(first, first + n_steps):
        optimizer.zero_grad()
        used = params if step % 3 else params[:-1]
        sum((param - 1).square().sum() for param in used).backward()
        optimizer.step()


def test_it_updates_as_torch_does_to_the_bit():
    ours, theirs = tensors(), tensors()
    betas = (0.95, 0.97)
    mine = Adam(groups_of(ours), RATES["common"], betas)
    reference = torch.optim.Adam(
        groups_of(theirs), lr=RATES["common"], betas=betas, fused=True
    )
    for first in (0, 7):
        train(mine, ours, 7, first=first)
        train(reference, theirs, 7, first=first)
        for optimizer in (mine, reference):
            optimizer.param_groups[0]["lr"] = 5e-3
    for param, other in zip(ours, theirs, strict=True):
        assert torch.equal(param, other)
        for name, value in mine.state[param].items():
            assert torch.equal(value, reference.state[other][name]), name


def test_it_goes_on_from_its_moments_to_the_bit():
    whole, halves = tensors(), tensors()
    train(Adam(whole, 1e-2), whole, 6)
    first = Adam(halves, 1e-2)
    train(first, halves, 3)
    moments = first.moments()
    assert all(isinstance(m, np.ndarray) for s in moments.values() for m in s.values())
    second = Adam(halves, 1e-2)
    second.load_moments(moments)
    train(second, halves, 3, first=3)
    assert all(map(torch.equal, whole, halves))


def test_parts_of_moments_are_joined_and_taken_apart():
    params = tensors()
    optimizer = Adam(params, 1e-2)
    train(optimizer, params, 2)
    twice = optimizer.moments(lambda index, value: torch.cat([value, value]))
    assert twice[0]["exp_avg"].shape == (10, 3)
    assert twice[0]["step"].shape == ()
    other = Adam(params, 1e-2)
    other.load_moments(twice, lambda index, value: value[: len(value) // 2])
    for param in params:
        for name, value in optimizer.state[param].items():
            assert torch.equal(value, other.state[param][name])


@pytest.mark.slow
def test_fits_do_not_import_the_compiler_of_torch():
    code = (
        "import sys, numpy as np\n"
        "from skfeat import FeatureConnector, SparseAutoencoder\n"
        "X = np.random.RandomState(0).rand(60, 6)\n"
        "codes = SparseAutoencoder(8, k=2, max_iter=5).fit_transform(X)\n"
        "FeatureConnector(max_iter=5, solver='minibatch').fit(codes, codes)\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=False)
    assert run.returncode == 0
