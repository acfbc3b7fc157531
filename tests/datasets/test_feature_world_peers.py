"""The world is that of SAELens: the same construction, and draws that look alike."""

import numpy as np
import pytest
import torch
from _lens_world import lens_world
from scipy import sparse

from skfeat.datasets import make_feature_world

synthetic = pytest.importorskip("sae_lens.synthetic")

# A mean further than this many standard errors from what is expected is no chance.
SURE = 6
SMALL = {"n_trees": 6, "n_children": 3, "depth": 2, "rates": (0.5, 0.02)}


def lens_config(m, d, **changed):
    """Return the configuration of SAELens that the defaults stand for."""
    given = {
        "n_trees": 32,
        "n_children": 3,
        "depth": 3,
        "rates": (0.4, 5e-4),
        "exclusive": 1.0,
        **changed,
    }
    return synthetic.SyntheticModelConfig(
        num_features=m,
        hidden_dim=d,
        firing_probability=synthetic.ZipfianFiringProbabilityConfig(
            exponent=0.5, max_prob=given["rates"][0], min_prob=given["rates"][1]
        ),
        hierarchy=synthetic.HierarchyConfig(
            total_root_nodes=given["n_trees"],
            branching_factor=given["n_children"],
            max_depth=given["depth"],
            mutually_exclusive_portion=given["exclusive"],
            compensate_probabilities=True,
            scale_children_by_parent=True,
        ),
        correlation=synthetic.LowRankCorrelationConfig(rank=25, correlation_scale=0.1),
        orthogonalization=synthetic.OrthogonalizationConfig(num_steps=100, lr=3e-4),
        mean_firing_magnitudes=synthetic.LinearMagnitudeConfig(start=5.0, end=4.0),
        std_firing_magnitudes=synthetic.FoldedNormalMagnitudeConfig(mean=0.5, std=0.5),
        bias=0.5,
        seed=0,
    )


@pytest.fixture(scope="module")
def both():
    """Return our world and the model of SAELens of the same configuration."""
    shape = {"n_trees": 8, "n_children": 3, "depth": 2}
    world = make_feature_world(300, 64, random_state=0, **shape)
    return world, synthetic.SyntheticModel(lens_config(300, 64, **shape))


def test_trees_rates_and_mean_magnitudes_are_the_same(both):
    world, model = both
    parents = np.full(300, -1)

    def walk(node):
        for child in node.children:
            parents[child.feature_index] = node.feature_index
            walk(child)

    for root in model.hierarchy.roots:
        walk(root)
    np.testing.assert_array_equal(world.parents, parents)
    generator = model.activation_generator
    np.testing.assert_allclose(
        world.probabilities, generator.firing_probabilities.numpy(), rtol=1e-4
    )
    np.testing.assert_allclose(
        world.means, generator.mean_firing_magnitudes.numpy(), rtol=1e-6
    )


def test_what_is_drawn_at_random_is_drawn_alike(both):
    world, model = both
    ours = world.deviations, world.factors
    theirs = (
        model.activation_generator.std_firing_magnitudes.numpy(),
        model.correlation_matrix.correlation_factor.numpy(),
    )
    for a, b in zip(ours, theirs, strict=True):
        margin = SURE * np.sqrt((a.var() + b.var()) / a.size)
        assert abs(a.mean() - b.mean()) < margin
        assert a.std() == pytest.approx(b.std(), rel=0.2)
    assert np.linalg.norm(world.bias) == pytest.approx(0.5)
    assert model.feature_dict.bias.norm().item() == pytest.approx(0.5)


def test_directions_become_as_orthogonal(both):
    world, model = both
    vectors = model.feature_dict.feature_vectors.detach().numpy()
    random = make_feature_world(300, 64, n_orthogonal_steps=0, random_state=1)
    largest, squared = [], []
    for rows in (world.dictionary, vectors, random.dictionary):
        cosines = rows @ rows.T
        np.fill_diagonal(cosines, 0)
        largest.append(np.abs(cosines).max(axis=1).mean())
        squared.append(np.square(cosines).mean())
    assert largest[0] == pytest.approx(largest[1], rel=0.03)
    assert squared[0] == pytest.approx(squared[1], rel=0.03)
    assert squared[2] > 1.1 * squared[0]


def moments(codes):
    """Return means of what the codes do, and the standard errors of these means."""
    codes = sparse.csr_array(codes, dtype=float)
    fires = (codes > 0).astype(float)
    n = codes.shape[0]
    together = (fires.T @ fires).toarray() / n
    counts = np.maximum(fires.sum(axis=0), 1)
    mean = codes.sum(axis=0) / counts
    square = codes.multiply(codes).sum(axis=0) / counts
    variance = np.maximum(square - mean**2, 0)
    return (
        (together, np.sqrt(together * (1 - together) / n) + 1 / n),
        (mean, np.sqrt(variance / counts)),
    )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"exclusive": 0.0},
        {"exclusive": 0.5, "scaled": False, "n_children": (1, 4)},
        {"correlation_rank": 0},
        {"correlation_scale": 0.3},
        {"n_trees": 0},
        {"compensate": False},
        {"deviations": (3.0, 1.0)},
    ],
    ids=str,
)
def test_rows_are_drawn_alike(options):
    n = 30_000
    world = make_feature_world(80, 12, random_state=1, **{**SMALL, **options})
    X, ours = world.sample(n, random_state=2)
    directions, generator = lens_world(world)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        features = generator.sample(n)
    rows = directions(features).numpy()
    theirs = sparse.csr_array(features.numpy())
    for (a, error_a), (b, error_b) in zip(moments(ours), moments(theirs), strict=True):
        assert (np.abs(a - b) < SURE * np.hypot(error_a, error_b) + 1e-6).all()
    scale = np.sqrt((X.var(axis=0) + rows.var(axis=0)) / n)
    assert (np.abs(X.mean(axis=0) - rows.mean(axis=0)) < SURE * scale).all()
    spread = np.abs(np.cov(X.T) - np.cov(rows.T)) / X.var(axis=0).mean()
    assert spread.max() < SURE * np.sqrt(4 / n)
