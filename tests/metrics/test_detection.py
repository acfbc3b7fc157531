"""Metrics against known features, against sums written out in full."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from skfeat.datasets import make_feature_world
from skfeat.metrics import (
    absorption,
    feature_detection,
    match_components,
    mean_correlation_coefficient,
    nearest_components,
    shrinkage,
    uniqueness,
)

SEEDS = st.integers(0, 2**32 - 1)
FORMATS = [np.asarray, sparse.csr_array, sparse.csc_matrix, torch.from_numpy]


def drawn(seed, n=40, m=7, f=9):
    """Return known features with parents, codes, and matchings both ways."""
    rng = np.random.default_rng(seed)
    parents = np.array([-1, 0, 0, 1, -1, 4, -1])[:m]
    features = np.maximum(rng.normal(size=(n, m)) + 0.3, 0)
    for child in np.flatnonzero(parents >= 0):
        features[:, child] *= features[:, parents[child]] > 0
    codes = np.maximum(rng.normal(size=(n, f)), 0)
    codes[:, 0] = 0
    known_of = rng.integers(-1, m, f)
    found_of = rng.permutation(f)[:m]
    found_of[rng.integers(m)] = -1
    return features, codes, known_of, found_of, parents


def detection_of_one(known, found):
    right = wrong = missed = 0
    for should, does in zip(known != 0, found != 0, strict=True):
        right += should and does
        wrong += does and not should
        missed += should and not does
    precision = right / (right + wrong) if right + wrong else 0
    recall = right / (right + missed) if right + missed else 0
    f1 = 2 * right / (2 * right + wrong + missed) if right else 0
    return precision, recall, f1


@given(seed=SEEDS)
def test_detection_as_written_out(seed):
    features, codes, known_of, _, _ = drawn(seed)
    found = feature_detection(features, codes, known_of)
    for j, i in enumerate(known_of):
        known = features[:, i] if i >= 0 else np.zeros(len(features))
        expected = detection_of_one(known, codes[:, j])
        assert [one[j] for one in found] == pytest.approx(expected)


def missed_share(rows, fires):
    return 1 - fires[rows].mean() if rows.any() else np.nan


@given(seed=SEEDS)
def test_absorption_as_written_out(seed):
    features, codes, _, found_of, parents = drawn(seed)
    found = absorption(features, codes, found_of, parents)
    on = features != 0
    for j, parent in enumerate(parents):
        if parent < 0 or found_of[parent] < 0:
            assert np.isnan([found.with_child[j], found.alone[j]]).all()
            continue
        fires = codes[:, found_of[parent]] != 0
        alone = on[:, parent] & ~on[:, parents == parent].any(axis=1)
        expected = (
            missed_share(on[:, j] & on[:, parent], fires),
            missed_share(alone, fires),
        )
        assert (found.with_child[j], found.alone[j]) == pytest.approx(
            expected, nan_ok=True
        )
    excess = [a - b for a, b in zip(*found[:2], strict=True) if not np.isnan(a - b)]
    expected = np.mean(excess) if excess else np.nan
    assert found.rate == pytest.approx(expected, nan_ok=True)


@given(seed=SEEDS, made=st.sampled_from(FORMATS))
def test_no_order_unit_or_format_matters(seed, made):
    features, codes, known_of, found_of, parents = drawn(seed)
    rng = np.random.default_rng(seed)
    (n, m), f = features.shape, codes.shape[1]
    rows, first, second = rng.permutation(n), rng.permutation(m), rng.permutation(f)
    # Where each feature has gone, and -1 stays -1.
    new_first = np.append(np.argsort(first), -1)
    new_second = np.append(np.argsort(second), -1)
    units = 2.0 ** rng.integers(-300, 300, m), 2.0 ** rng.integers(-300, 300, f)
    moved = (
        made((features * units[0])[rows][:, first]),
        made((codes * units[1])[rows][:, second]),
    )
    before = feature_detection(features, codes, known_of)
    after = feature_detection(*moved, new_first[known_of][second])
    for a, b in zip(before, after, strict=True):
        np.testing.assert_allclose(a[second], b)
    before = absorption(features, codes, found_of, parents)
    after = absorption(*moved, new_second[found_of][first], new_first[parents][first])
    for a, b in zip(before[:2], after[:2], strict=True):
        np.testing.assert_allclose(a[first], b)
    assert after.rate == pytest.approx(before.rate, nan_ok=True)


def test_perfect_codes_and_silent_ones():
    features, _, _, _, parents = drawn(0)
    same = np.arange(features.shape[1])
    perfect = feature_detection(features, features, same)
    assert all((one == 1).all() for one in perfect)
    assert absorption(features, features, same, parents).rate == 0
    silent = feature_detection(features, np.zeros_like(features), same)
    assert all((one == 0).all() for one in silent)
    none = np.full_like(same, -1)
    assert not feature_detection(features, features, none).f1.any()
    assert np.isnan(absorption(features, features, none, parents).rate)


def test_a_parent_that_its_children_have_taken_over_is_absorbed():
    world = make_feature_world(60, 8, n_trees=5, depth=2, random_state=0)
    features = world.sample(4000, random_state=0)[1].toarray()
    same = np.arange(60)
    absorbed, codes = features > 0, features.copy()
    for child in np.flatnonzero(world.parents >= 0):
        codes[absorbed[:, child], world.parents[child]] = 0
    found = absorption(features, codes, same, world.parents)
    assert found.rate == 1
    # Parents are still told where they are alone, so their precision is 1.
    detection = feature_detection(features, codes, same)
    assert (detection.precision[detection.precision > 0] == 1).all()
    children = np.flatnonzero((world.parents >= 0) & absorbed.any(axis=0))
    assert len(children) > 10
    assert detection.recall[world.parents[children]].max() < 1
    # Codes that fire at random miss as much with a child as alone.
    rng = np.random.default_rng(0)
    chance = (rng.random(features.shape) < 0.5) * 1.0
    found = absorption(features, chance, same, world.parents)
    often = (features > 0).sum(axis=0) > 100
    excess = (found.with_child - found.alone)[often & (world.parents >= 0)]
    assert np.abs(excess).max() < 0.3
    assert abs(excess.mean()) < 0.05


# Directions


def directions(seed, m=5, f=8, d=4):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(m, d)), rng.normal(size=(f, d))


def cosine(a, b):
    return abs(a @ b) / np.linalg.norm(a) / np.linalg.norm(b)


@given(seed=SEEDS)
def test_nearest_components_as_written_out(seed):
    known, learnt = directions(seed)
    indices, cosines = nearest_components(known, learnt)
    for j, row in enumerate(learnt):
        each = [cosine(row, other) for other in known]
        assert indices[j] == int(np.argmax(each))
        assert cosines[j] == pytest.approx(max(each))
    assert uniqueness(known, learnt) == len(set(indices)) / len(learnt)


@given(seed=SEEDS, m=st.integers(1, 4), f=st.integers(1, 4))
def test_mean_correlation_is_the_best_pairing(seed, m, f):
    known, learnt = directions(seed, m, f)
    few, many = sorted((known, learnt), key=len)
    best = max(
        np.mean([cosine(a, many[j]) for a, j in zip(few, order, strict=True)])
        for order in permutations(range(len(many)), len(few))
    )
    assert mean_correlation_coefficient(known, learnt) == pytest.approx(best)


@given(seed=SEEDS)
def test_directions_know_no_order_sign_length_or_rotation(seed):
    known, learnt = directions(seed)
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    moved = [
        (rows * rng.choice([-1, 1], (len(rows), 1)) * 2.0 ** rng.integers(-400, 400))
        for rows in (known, learnt)
    ]
    orders = [rng.permutation(len(rows)) for rows in moved]
    moved = [rows[order] @ turn for rows, order in zip(moved, orders, strict=True)]
    for measure in (uniqueness, mean_correlation_coefficient):
        assert measure(*moved) == pytest.approx(measure(known, learnt))
    mcc = mean_correlation_coefficient
    assert mcc(learnt, known) == pytest.approx(mcc(known, learnt))
    # Of as many positive cosines as there are, it is the matching coefficient.
    up = np.abs(known), np.abs(learnt)
    cosines = match_components(*up)[1]
    assert mcc(*up) == pytest.approx(cosines.mean())


# Lengths


@given(seed=SEEDS)
def test_shrinkage_as_written_out(seed):
    rng = np.random.default_rng(seed)
    X, stand = rng.normal(size=(2, 30, 4))
    X[3] = 0
    ratios = [
        np.linalg.norm(b) / np.linalg.norm(a)
        for a, b in zip(X, stand, strict=True)
        if a.any()
    ]
    expected = np.mean(ratios)
    assert shrinkage(X, stand) == pytest.approx(expected)
    turn = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    unit = 2.0 ** rng.integers(-700, 700)
    order = rng.permutation(30)
    moved = [(unit * rows @ turn)[order] for rows in (X, stand)]
    assert shrinkage(*moved) == pytest.approx(expected)
    assert shrinkage(X, 0.3 * X) == pytest.approx(0.3)
    assert np.isnan(shrinkage(0 * X, stand))


# The same as those of SAELens


def test_agrees_with_saelens():
    evals = pytest.importorskip("sae_lens.synthetic.evals")
    rng = np.random.default_rng(0)
    known, learnt = (rng.normal(size=(m, 6)).astype(np.float32) for m in (20, 12))
    a, b = torch.from_numpy(known), torch.from_numpy(learnt)
    assert mean_correlation_coefficient(known, learnt) == pytest.approx(
        evals.mean_correlation_coefficient(b, a), rel=1e-5
    )
    assert uniqueness(known, learnt) == pytest.approx(evals.feature_uniqueness(b, a))
    features, codes = (
        np.maximum(rng.normal(size=(50, m)), 0).astype(np.float32) for m in (20, 12)
    )
    matches, _ = nearest_components(known, learnt)
    ours = feature_detection(features, codes, matches)
    theirs = evals.compute_classification_metrics(
        torch.from_numpy(codes), torch.from_numpy(features), b, a
    )
    expected = theirs.precision, theirs.recall, theirs.f1_score
    assert [one.mean() for one in ours] == pytest.approx(expected, rel=1e-5)
    calculator = evals.ShrinkageCalculator()
    X, stand = rng.normal(size=(2, 30, 4)).astype(np.float32)
    calculator.add_batch(torch.from_numpy(stand), torch.from_numpy(X))
    assert shrinkage(X, stand) == pytest.approx(calculator.compute(), rel=1e-5)


# Bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: feature_detection(np.eye(3), np.eye(2), [0, 1]),
            "features and codes must have the same number of rows. Got 3 and 2",
        ),
        (
            lambda: feature_detection(np.eye(3), np.eye(3), [0, 1]),
            "matches must be 3 integers from -1 to 2. Got [0, 1] instead.",
        ),
        (
            lambda: feature_detection(np.eye(3), np.eye(3), [0.0, 1.0, 2.0]),
            "matches must be 3 integers from -1 to 2.",
        ),
        (
            lambda: absorption(np.eye(3), np.eye(3), [0, 1, 3], [-1, 0, 0]),
            "matches must be 3 integers from -1 to 2.",
        ),
        (
            lambda: absorption(np.eye(3), np.eye(3), [0, 1, 2], [-2, 0, 0]),
            "parents must be 3 integers from -1 to 2.",
        ),
        (
            lambda: uniqueness(np.eye(3), np.eye(2)),
            "must have the same number of columns. Got 3 and 2",
        ),
        (lambda: shrinkage(np.eye(3), np.eye(2)), "shape"),
    ],
)
def test_clear_errors(call, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        call()
    assert message in str(error.value)
