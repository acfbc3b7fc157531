"""What training of maps computes and prunes, against plain definitions."""

import numpy as np
import pytest
import torch

from skfeat.activations import ReLU
from skfeat.kernels._threads import Team
from skfeat.kernels.connector._removal import plain
from skfeat.maps import Patches
from skfeat.maps._reads import Reads
from skfeat.solvers.joint._problem import Coder, Connection, JointSettings
from skfeat.solvers.maps._learner import MapLearner, convolved, patches_of
from skfeat.solvers.maps._problem import MapLayers, MapProblem
from skfeat.utils._rows import Batch

RNG = np.random.RandomState(0)
READS = {
    "patches": Reads(Patches((4, 3), (3, 2), padding=(1, 0))),
    "strides": Reads(Patches((4, 4), 2, stride=2, padding=1, dilation=2)),
    "all": Reads(Patches((2, 2), 2)),
    "means": Reads(Patches((2, 3), 1, stride=(2, 3)), is_mean=True),
}


def drawn(*shape):
    return torch.from_numpy(RNG.standard_normal(shape)).float()


@pytest.mark.parametrize("which", READS)
def test_patches_are_what_a_convolution_reads(which):
    reads = READS[which]
    features = drawn(5 * reads.n_positions_in, 3)
    coef, intercept = drawn(4, 3 * reads.n_places), drawn(4)
    patches = patches_of(features, reads)
    np.testing.assert_allclose(patches, reads.rows(features.numpy()), rtol=1e-6)
    found = convolved(features, coef, intercept, reads)
    expected = patches @ coef.T + intercept
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("rectified", [True, False])
def test_a_removal_changes_all_positions_of_a_sample_at_once(rectified):
    n, n_positions = 7, 6
    read, coef = drawn(3, n * n_positions), drawn(2, 3)
    gradient = drawn(2, n * n_positions)

    def computed(coef):
        return (coef @ read).relu() if rectified else coef @ read

    costs = plain(
        read,
        coef @ read,
        coef,
        coef != 0,
        gradient,
        rectified=rectified,
        n_positions=n_positions,
    )
    expected = []
    for output, column in (coef != 0).nonzero():
        without = coef.clone()
        without[output, column] = 0
        change = gradient * (computed(coef) - computed(without))
        of_samples = change.reshape(2, n, n_positions).sum(dim=(0, 2))
        expected.append(float(of_samples.square().sum()))
    np.testing.assert_allclose(costs.ravel(), expected, rtol=1e-4)


def learner(classify, faithfulness):
    """A learner of two layers, whose features are their channels, and the outputs."""
    m, n, n_outputs = 3, 400, 2
    X = np.abs(RNG.standard_normal((n, m * 4))).astype(np.float32)
    second, last = drawn(m * 4, m * 2), drawn(m * 2, n_outputs)
    functions = [lambda x: x, lambda x: (x @ second).relu(), lambda x: x @ last]
    zeros = np.zeros(m)
    coder = Coder(np.eye(m), zeros, np.eye(m), zeros, ReLU(), frozen=True)
    reads = [Reads(Patches((2, 2), (2, 1))), Reads(Patches((1, 2), (1, 2)))]
    starts = [
        (RNG.standard_normal((m, m * 2)), RNG.standard_normal(m)),
        (RNG.standard_normal((n_outputs, m * 2)) / 20, RNG.standard_normal(n_outputs)),
    ]
    connections = [
        Connection(link, None, start)
        for link, start in zip(("relu", "identity"), starts, strict=True)
    ]
    layers = MapLayers(X, functions, [4, 2], torch.device("cpu"))
    problem = MapProblem(layers, [coder, coder], connections, reads, False, None)
    settings = JointSettings(
        share_budgets=False,
        classify=classify,
        faithfulness=faithfulness,
        train_encoder=False,
        n_epochs=2,
        tol=1e-3,
        batch_size=20,
        device=torch.device("cpu"),
        seed=0,
    )
    rows, _ = layers.sampled(n * 4, np.random.default_rng(0))
    return MapLearner(problem, rows, settings, Team())


@pytest.mark.parametrize("faithfulness", [0.0, 3.0])
@pytest.mark.parametrize("classify", [True, False])
def test_estimates_agree_with_what_a_removal_changes(classify, faithfulness):
    ours = learner(classify, faithfulness)
    n = len(ours.problem.layers.X)
    ours.pruning.n_samples = lambda: n
    for _ in range(60):
        ours._estimate_costs(Batch(np.arange(n), ours.problem.layers.X, np.arange(n)))
    share = 1 - (1 - 0.05) ** 60
    found = [costs / share for costs in ours.pruning.saliencies()]

    _, hidden, _ = ours.problem.layers.run(np.arange(n))
    codes = ours.coders[0].codes(ours._in_unit(hidden[0], 0))

    @torch.no_grad()
    def run():
        _, (features, outputs) = ours._compute(codes)
        return features, ours._outputs(outputs)

    features, outputs = run()
    for index, coef in enumerate(ours.coefs):
        expected = torch.zeros_like(coef)
        for at in coef.detach().nonzero():
            weight = coef.detach()[tuple(at)].clone()
            with torch.no_grad():
                coef[tuple(at)] = 0
                other, without = run()
                coef[tuple(at)] = weight
            cost = (features - other).square().sum(dim=1).mean()
            cost *= faithfulness / ours.code_variances[1]
            if classify:
                log_p, log_q = outputs.log_softmax(1), without.log_softmax(1)
                cost += (log_p.exp() * (log_p - log_q)).sum(dim=1).mean()
            else:
                scale = torch.as_tensor(ours.output_unit.scale).float()
                cost += ((outputs - without) / scale).square().mean()
            expected[tuple(at)] = cost
        np.testing.assert_allclose(found[index], expected, rtol=0.15, atol=1e-5)


def test_what_a_weight_adds_on_average_stays_where_it_is_dropped():
    ours = learner(classify=True, faithfulness=0.0)
    _, hidden, _ = ours.problem.layers.run(np.arange(len(ours.problem.layers.X)))
    codes = ours.coders[0].codes(ours._in_unit(hidden[0], 0))
    with torch.no_grad():
        (before, _), _ = ours._compute(codes)
        ours.coefs[0][1, 2] = 0
        (after, _), _ = ours._compute(codes)
    np.testing.assert_allclose(after.mean(dim=0), before.mean(dim=0), rtol=1e-2)
    assert not torch.allclose(after, before)
    # What is learnt acts on codes as they are.
    learnt = ours.learnt()
    scale = ours.coders[1].unit.scale
    patches = patches_of(codes, ours.problem.reads[0]).numpy() * ours.units[0].scale
    found = patches @ learnt.coefs[0].T + learnt.intercepts[0]
    np.testing.assert_allclose(found, after * scale, rtol=1e-4, atol=1e-4)
