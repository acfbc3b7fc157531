import os
import pickle
import tracemalloc
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer, StandardScaler

from skfeat import SparseAutoencoder, metrics
from skfeat.datasets import make_sparse_features
from skfeat.metrics import _dictionary

RNG = np.random.default_rng(0)
X = RNG.normal(2, 3, size=(50, 4))
Z = X + RNG.normal(size=(50, 4))
CODES = np.maximum(RNG.normal(-0.5, 1, size=(50, 12)), 0)
CODES[:, [2, 7]] = 0
SEEDS = st.integers(0, 2**32 - 1)

# Reconstructions


def test_fvu():
    expected = ((X - Z) ** 2).sum() / ((X - X.mean(axis=0)) ** 2).sum()
    assert metrics.fvu(X, Z) == pytest.approx(expected, rel=1e-12)
    weighted = r2_score(X, Z, multioutput="variance_weighted")
    assert metrics.fvu(X, Z) == pytest.approx(1 - weighted, rel=1e-12)
    assert metrics.fvu(X, X) == 0.0
    means = np.broadcast_to(X.mean(axis=0), X.shape)
    assert metrics.fvu(X, means) == pytest.approx(1.0)
    assert type(metrics.fvu(X, Z)) is float
    assert metrics.fvu(X.tolist(), Z.tolist()) == metrics.fvu(X, Z)


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1e6 + 0.1, 1e150])
@pytest.mark.parametrize("wrong", [0.0, 1e-3])
def test_constant_rows_as_r2_score_has_it(value, wrong):
    rows = np.full((5, 2), value)
    other = rows + wrong * max(value, 1.0)
    expected = r2_score(rows, other)
    assert metrics.explained_variance(rows, other) == expected == (wrong == 0)
    assert metrics.fvu(rows, other) == 1 - expected
    # Up to rounding a reconstruction is perfect.
    assert metrics.fvu(rows, rows * (1 + 1e-15)) == 0


def test_fvu_is_computed_in_float64():
    offset = X.astype(np.float32) + np.float32(1000)
    expected = metrics.fvu(offset.astype(np.float64), offset.astype(np.float64) + 0.1)
    assert metrics.fvu(offset, offset.astype(np.float64) + 0.1) == expected


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:.*features are dead:UserWarning")
def test_fvu_is_one_less_the_score_of_an_autoencoder():
    autoencoder = SparseAutoencoder(8, k=3, max_iter=5, random_state=0).fit(X)
    decoded = autoencoder.inverse_transform(autoencoder.transform(X))
    assert metrics.fvu(X, decoded) == pytest.approx(1 - autoencoder.score(X))


def test_explained_variance():
    weighted = r2_score(X, Z, multioutput="variance_weighted")
    assert metrics.explained_variance(X, Z) == pytest.approx(weighted, rel=1e-12)
    assert metrics.explained_variance(X, Z) == 1 - metrics.fvu(X, Z)
    assert type(metrics.explained_variance(X, Z)) is float
    assert metrics.explained_variance(np.ones((5, 2)), np.zeros((5, 2))) == 0


@given(seed=SEEDS, n=st.integers(2, 3000), scale=st.sampled_from([1e-150, 1, 1e150]))
def test_fvu_is_a_sum_over_rows_and_columns(seed, n, scale):
    rng = np.random.RandomState(seed)
    rows, other = rng.randn(n, 3) + 5, rng.randn(n, 3)
    weights = rng.randint(0, 3, n)
    weights[:2] = 1
    repeated = np.repeat(rows, weights, axis=0)
    error = np.square(repeated - np.repeat(other, weights, axis=0)).sum()
    expected = error / np.square(repeated - repeated.mean(axis=0)).sum()
    found = metrics.fvu(rows * scale, other * scale, sample_weight=weights)
    assert found == pytest.approx(expected, rel=1e-9)
    explained = metrics.explained_variance(rows, other, sample_weight=7.5 * weights)
    assert explained == pytest.approx(1 - expected, rel=1e-9)


def test_rows_that_weigh_nothing_do_not_count():
    rows = np.vstack([np.full((1500, 2), 1e200), X[:, :2], [[-1e200, 0]]])
    other = np.vstack([np.zeros((1500, 2)), Z[:, :2], [[0, 0]]])
    weights = np.r_[np.zeros(1500), np.ones(50), 0]
    expected = metrics.fvu(X[:, :2], Z[:, :2])
    assert metrics.fvu(rows, other, sample_weight=weights) == pytest.approx(expected)
    weights = np.arange(1551) < 1500
    assert metrics.fvu(rows, other, sample_weight=weights) == 1


def test_columns_that_do_not_vary_add_no_rounding():
    rows = np.column_stack([np.full(3000, 1e7 / 3), np.linspace(0, 1e-7, 3000)])
    other = rows.copy()
    other[:, 1] = rows[:, 1].mean()
    assert metrics.fvu(rows, other) == pytest.approx(1, rel=1e-9)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (np.zeros(50), "at least one non-zero"),
        (-np.ones(50), "Negative values"),
        (np.ones(49), r"sample_weight.shape == \(49,\), expected \(50,\)"),
    ],
)
def test_bad_weights_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        metrics.fvu(X, Z, sample_weight=weights)


def test_rows_of_other_shapes_are_refused():
    message = r"X and reconstruction must have the same shape. Got \(50, 4\) and"
    with pytest.raises(ValueError, match=message):
        metrics.explained_variance(X, Z[:, :1])


# Codes


@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_array, sparse.csr_matrix])
def test_l0_and_dead_features(wrap):
    codes = wrap(CODES)
    assert metrics.l0(codes) == np.mean([np.count_nonzero(row) for row in CODES])
    assert metrics.n_dead(codes) == sum(not column.any() for column in CODES.T) == 2
    assert type(metrics.l0(codes)) is float
    assert type(metrics.n_dead(codes)) is int
    assert metrics.l0(wrap(np.zeros((3, 4)))) == 0.0
    assert metrics.n_dead(wrap(np.zeros((3, 4)))) == 4


def with_stored_zeros_and_duplicates(codes):
    """The same matrix in CSR, written as clumsily as CSR allows."""
    rows, columns = np.indices(codes.shape).reshape(2, -1)
    order = np.argsort(np.r_[rows, rows], kind="stable")
    # Each entry in two halves, all zeros stored.
    data = np.r_[codes.ravel() / 2, codes.ravel() / 2][order]
    indptr = 2 * codes.shape[1] * np.arange(len(codes) + 1)
    return sparse.csr_array((data, np.r_[columns, columns][order], indptr), codes.shape)


WRAPS = [
    np.asarray,
    sparse.csr_array,
    sparse.csr_matrix,
    sparse.csc_array,
    with_stored_zeros_and_duplicates,
]


@pytest.mark.parametrize("wrap", WRAPS)
@given(seed=SEEDS, n=st.integers(1, 30), m=st.integers(1, 12))
def test_densities(wrap, seed, n, m):
    rng = np.random.RandomState(seed)
    codes = np.maximum(rng.randn(n, m) - rng.rand(m) * 3, 0)
    counts = [sum(code != 0 for code in column) for column in codes.T]
    densities = [count / n for count in counts]
    np.testing.assert_array_equal(metrics.feature_density(wrap(codes)), densities)
    assert metrics.l0(wrap(codes)) == pytest.approx(sum(densities))
    assert metrics.n_dead(wrap(codes)) == counts.count(0)
    assert metrics.dead_fraction(wrap(codes)) == counts.count(0) / m
    assert type(metrics.dead_fraction(wrap(codes))) is float

    histogram = metrics.density_histogram(wrap(codes), bins=4)
    counts, edges, n_dead = histogram
    assert isinstance(histogram, metrics.DensityHistogram)
    assert n_dead == metrics.n_dead(codes)
    assert counts.sum() + n_dead == m
    # With one row, both ends are 0: numpy then makes a range of length one about it.
    ends = (-0.5, 0.5) if n == 1 else (np.log10(1 / n), 0)
    np.testing.assert_allclose(edges, np.linspace(*ends, 5), atol=1e-15)


def test_density_histogram_counts_features():
    rng = np.random.RandomState(0)
    densities = rng.randint(0, 1001, 500) / 1000
    densities[:40] = 0
    densities[40:50] = 1
    codes = sparse.csr_array(np.arange(1000)[:, None] < 1000 * densities).astype(float)
    edges = [-2.5, -1, -0.3, 0]
    counts, found, n_dead = metrics.density_histogram(codes, bins=edges)
    logs = [np.log10(density) for density in densities if density]
    assert n_dead == 500 - len(logs)
    np.testing.assert_array_equal(found, edges)
    assert counts.tolist() == [
        sum(-2.5 <= log < -1 for log in logs),
        sum(-1 <= log < -0.3 for log in logs),
        sum(-0.3 <= log <= 0 for log in logs),
    ]


@pytest.mark.parametrize(
    "bins", [0, -1, 2.5, "auto", None, [0], [0, 0], [1, 0], [[0, 1]], [0, np.nan]]
)
def test_bad_bins_are_refused(bins):
    with pytest.raises(
        ValueError, match="bins must be an int of at least 1 or"
    ) as error:
        metrics.density_histogram(CODES, bins=bins)
    assert repr(bins) in str(error.value)


@pytest.mark.parametrize(
    "metric",
    [metrics.dead_fraction, metrics.feature_density, metrics.density_histogram],
)
def test_what_is_no_matrix_of_codes_is_refused(metric):
    with pytest.raises(ValueError, match="Expected 2D array"):
        metric(CODES[0])
    with pytest.raises(ValueError, match="Input codes contains NaN"):
        metric(CODES * np.nan)


# Classifiers


def probabilities(logits):
    exponentials = np.exp(logits)
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def test_kl_divergence():
    p, q = probabilities(X), probabilities(Z)
    expected = np.mean([np.sum(a * np.log(a / b)) for a, b in zip(p, q, strict=True)])
    assert metrics.kl_divergence(X, Z) == pytest.approx(expected, rel=1e-10)
    assert metrics.kl_divergence(X, X) == 0.0
    assert metrics.kl_divergence(X, Z) > 0
    assert metrics.kl_divergence(X, Z) != pytest.approx(metrics.kl_divergence(Z, X))
    assert type(metrics.kl_divergence(X, Z)) is float


def test_kl_divergence_does_not_see_a_shift_of_the_logits():
    expected = metrics.kl_divergence(X, Z)
    assert metrics.kl_divergence(X + 5, Z - 3) == pytest.approx(expected)


def test_kl_divergence_of_one_logit():
    one, other = X[:, :1], Z[:, :1]
    p, q = (1 / (1 + np.exp(-logit)) for logit in (one, other))
    expected = np.mean(p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)))
    assert metrics.kl_divergence(one, other) == pytest.approx(expected, rel=1e-10)


def test_kl_divergence_of_extreme_logits_is_finite():
    assert metrics.kl_divergence([[900.0, 0.0]], [[0.0, 900.0]]) == pytest.approx(900)


# Directions


def cosine(a, b):
    length = np.sqrt(sum(x * x for x in a)) * np.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / length if length else 0.0


def naive_matching(known, learnt):
    """The largest sum of cosines over all ways to pair rows, one to one."""
    if len(known) > len(learnt):
        return naive_matching(learnt, known)
    return max(
        sum(cosine(a, b) for a, b in zip(known, some, strict=True))
        for some in permutations(learnt, len(known))
    )


SIZES = {"m": st.integers(1, 5), "k": st.integers(1, 5), "d": st.integers(1, 4)}


@given(seed=SEEDS, **SIZES)
def test_matching_by_hand(seed, m, k, d):
    rng = np.random.RandomState(seed)
    known, learnt = rng.randn(m, d), rng.randn(k, d)
    learnt[rng.rand(k) < 0.2] = 0
    largest = [max(cosine(row, other) for other in learnt) for row in known]
    assert metrics.mean_max_cosine(known, learnt) == pytest.approx(np.mean(largest))
    rate = metrics.recovery_rate(known, learnt, threshold=0.6)
    assert rate == np.mean([value >= 0.6 for value in largest])

    total = naive_matching(known, learnt)
    found = metrics.matching_coefficient(known, learnt)
    assert found == pytest.approx(total / m, abs=1e-12)
    stability = metrics.stability(known, learnt)
    assert stability == pytest.approx(total / max(m, k), abs=1e-12)
    for value in (found, stability, metrics.mean_max_cosine(known, learnt), rate):
        assert type(value) is float

    indices, cosines = metrics.match_components(known, learnt)
    paired = indices >= 0
    assert paired.sum() == min(m, k) == len(set(indices[paired]))
    expected = [cosine(known[i], learnt[j]) for i, j in enumerate(indices) if j >= 0]
    np.testing.assert_allclose(cosines[paired], expected, atol=1e-12)
    assert not cosines[~paired].any()


def scores(known, learnt):
    return [
        metrics.mean_max_cosine(known, learnt),
        metrics.matching_coefficient(known, learnt),
        metrics.stability(known, learnt),
        metrics.recovery_rate(known, learnt, 0.5),
    ]


@given(seed=SEEDS, m=st.integers(1, 30), k=st.integers(1, 30), d=st.integers(2, 10))
def test_neither_order_nor_length_matters(seed, m, k, d):
    rng = np.random.RandomState(seed)
    known, learnt = rng.randn(m, d), rng.randn(k, d)
    lengths = 10.0 ** rng.uniform(-200, 200, (m + k, 1))
    other_known = (known * lengths[:m])[rng.permutation(m)]
    other_learnt = (learnt * lengths[m:])[rng.permutation(k)]
    expected = scores(known, learnt)
    assert scores(other_known, other_learnt) == pytest.approx(expected, abs=1e-9)
    assert all(-1 <= score <= 1 for score in expected)
    symmetric = metrics.stability(learnt, known)
    assert symmetric == pytest.approx(metrics.stability(known, learnt), abs=1e-9)


@given(seed=SEEDS, m=st.integers(1, 30), d=st.integers(1, 10))
def test_what_is_known_is_recovered(seed, m, d):
    rng = np.random.RandomState(seed)
    known = rng.randn(m, d)
    order = rng.permutation(m)
    assert scores(known, known[order]) == pytest.approx([1, 1, 1, 1], abs=1e-12)
    assert metrics.recovery_rate(known, 3 * known[order], threshold=1) == 1
    if d > 1:
        # Distinct directions: the best pairing is the permutation.
        indices, _ = metrics.match_components(known, known[order])
        np.testing.assert_array_equal(order[indices], np.arange(m))


def test_one_learnt_row_serves_several_known_ones_only_in_the_largest_cosine():
    known = [[1, 0], [1, 0], [0, 1]]
    assert metrics.mean_max_cosine(known, [[1, 0]]) == pytest.approx(2 / 3)
    assert metrics.matching_coefficient(known, [[1, 0]]) == pytest.approx(1 / 3)
    # More learnt rows never count against a fit, a second one does against stability.
    assert metrics.matching_coefficient(known[1:], known) == 1
    assert metrics.stability(known[1:], known) == pytest.approx(2 / 3)


def test_rows_of_zeros_have_cosine_zero():
    known, learnt = [[0, 0], [1, 0]], [[0, 0], [-1, 0]]
    assert metrics.mean_max_cosine(known, learnt) == 0
    assert metrics.matching_coefficient(known, known) == 0.5
    assert metrics.recovery_rate(known, known) == 0.5


def test_blocks_of_cosines_make_one_result(monkeypatch):
    known, learnt = RNG.normal(size=(50, 6)), RNG.normal(size=(30, 6))
    expected = metrics.mean_max_cosine(known, learnt)
    for elements in (1, 100, 31 * 30):
        monkeypatch.setattr(_dictionary, "_BLOCK_ELEMENTS", elements)
        assert metrics.mean_max_cosine(known, learnt) == pytest.approx(expected)


def test_largest_cosines_need_little_memory():
    known, learnt = RNG.normal(size=(2, 6000, 4))
    tracemalloc.start()
    try:
        metrics.mean_max_cosine(known, learnt)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # All cosines would be 288 MB.
    assert peak < 50e6


@pytest.mark.parametrize(
    "metric",
    [metrics.mean_max_cosine, metrics.matching_coefficient, metrics.recovery_rate],
)
def test_bad_directions_are_named(metric):
    message = (
        "dictionary and components must have the same number of columns. Got 4 and 3"
    )
    with pytest.raises(ValueError, match=message):
        metric(X, X[:, :3])
    with pytest.raises(ValueError, match="Input components contains NaN"):
        metric(X, X * np.nan)
    with pytest.raises(ValueError, match="components_a and components_b must have"):
        metrics.stability(X, X[:, :3])


@pytest.mark.parametrize("threshold", [0, -1, 1.1, np.nan, "high", None])
def test_bad_thresholds_are_refused(threshold):
    with pytest.raises(ValueError, match=r"threshold must be a float in the range"):
        metrics.recovery_rate(X, X, threshold)


# Scorers

SCORERS = {
    "ev": metrics.explained_variance_scorer,
    "fvu": metrics.neg_fvu_scorer,
    "l0": metrics.neg_l0_scorer,
    "dead": metrics.neg_dead_fraction_scorer,
}


class SparseOnly(sparse.csr_array):
    def toarray(self, *args, **kwargs):
        raise AssertionError("made dense")

    todense = toarray


class Encoder(TransformerMixin, BaseEstimator):
    """Rectifies some random directions, and remembers how many rows it was given."""

    def __init__(self, wrap=np.asarray):
        self.wrap = wrap

    def fit(self, X, y=None):
        self.components_ = np.random.RandomState(0).randn(9, np.shape(X)[1])
        self.components_[3] = 0
        self.n_rows_ = []
        return self

    def transform(self, X):
        self.n_rows_.append(len(X))
        return self.wrap(np.maximum(np.asarray(X) @ self.components_.T - 1, 0))

    def inverse_transform(self, X):
        return X @ self.components_ / 9 + 0.5


ROWS = RNG.normal(1, 2, size=(2500, 3))


@pytest.mark.parametrize("wrap", [np.asarray, SparseOnly, sparse.csr_matrix])
@pytest.mark.parametrize("weigh", [False, True])
def test_scorers_by_hand(wrap, weigh):
    encoder = Encoder(wrap).fit(ROWS)
    weights = RNG.integers(0, 3, len(ROWS)) if weigh else np.ones(len(ROWS), dtype=int)
    # Feature 5 is alive for the unweighted rows only.
    codes = Encoder().fit(ROWS).transform(ROWS)
    weights[codes[:, 5] > 0] *= not weigh
    repeated = np.repeat(codes, weights, axis=0)
    rows = np.repeat(ROWS, weights, axis=0)
    decoded = encoder.inverse_transform(repeated)
    expected = {
        "ev": 1 - metrics.fvu(rows, decoded),
        "fvu": -metrics.fvu(rows, decoded),
        "l0": -np.mean([np.count_nonzero(row) for row in repeated]),
        "dead": -np.mean([not column.any() for column in repeated.T]),
    }
    assert expected["dead"] == -(2 if weigh else 1) / 9
    for name, scorer in SCORERS.items():
        found = scorer(encoder, ROWS, sample_weight=weights if weigh else None)
        assert found == pytest.approx(expected[name], rel=1e-12)
        assert type(found) is float
    assert max(encoder.n_rows_) <= 1024


@pytest.mark.parametrize("kind", ["pandas", "polars", "list", "float32"])
def test_scorers_take_rows_of_any_kind(kind):
    pca = PCA(2).fit(ROWS)
    expected = [scorer(pca, ROWS) for scorer in SCORERS.values()]
    if kind == "list":
        rows = ROWS.tolist()
    elif kind == "float32":
        rows = ROWS.astype(np.float32)
    else:
        frames = pytest.importorskip(kind)
        rows = frames.DataFrame(
            ROWS, **({} if kind == "polars" else {"columns": [*"abc"]})
        )
        if kind == "pandas":
            # Labels that are numbers, and not those of the positions.
            rows.index = np.arange(len(rows))[::-1] / 2
        pca = PCA(2).set_output(transform=kind).fit(rows)
    found = [scorer(pca, rows) for scorer in SCORERS.values()]
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def known():
    X, _, dictionary = make_sparse_features(
        600, 6, 12, n_active=2, noise=0.05, random_state=0
    )
    return X, dictionary


def autoencoder(**options):
    return SparseAutoencoder(
        12, k=2, max_iter=60, batch_size=100, tol=0, random_state=0, **options
    )


@pytest.mark.parametrize("sparse_output", [False, True])
def test_explained_variance_of_an_autoencoder_is_its_score(known, sparse_output):
    X = known[0]
    weights = np.random.RandomState(0).rand(len(X))
    fitted = autoencoder(sparse_output=sparse_output).fit(X)
    scorer = metrics.explained_variance_scorer
    assert scorer(fitted, X) == pytest.approx(fitted.score(X))
    expected = fitted.score(X, sample_weight=weights)
    assert scorer(fitted, X, sample_weight=weights) == pytest.approx(expected)
    pipeline = make_pipeline(StandardScaler(), autoencoder()).fit(X)
    decoded = pipeline.inverse_transform(pipeline.transform(X))
    assert scorer(pipeline, X) == pytest.approx(metrics.explained_variance(X, decoded))


@pytest.mark.parametrize(
    ("n_jobs", "weigh"),
    [(None, False), (None, True), pytest.param(2, False, marks=pytest.mark.slow)],
)
def test_search(known, n_jobs, weigh):
    X, dictionary = known
    scoring = {**SCORERS, "recovery": metrics.make_recovery_scorer(dictionary)}
    search = GridSearchCV(
        autoencoder(sparse_output=True),
        {"k": [1, 2]},
        scoring=scoring,
        refit="ev",
        cv=2,
        n_jobs=n_jobs,
    )
    weights = {"sample_weight": 1 + np.arange(len(X)) % 2} if weigh else {}
    search.fit(X, **weights)
    results = search.cv_results_
    assert search.best_params_ == {"k": 2}
    for row, k in enumerate([1, 2]):
        assert -k <= results["mean_test_l0"][row] < 0
        assert -1 <= results["mean_test_dead"][row] <= 0
        assert results["mean_test_recovery"][row] > 0.5
    np.testing.assert_allclose(
        results["mean_test_fvu"], results["mean_test_ev"] - 1, atol=1e-12
    )
    by_score = GridSearchCV(search.estimator, {"k": [1, 2]}, cv=2).fit(X, **weights)
    for split in range(2):
        np.testing.assert_allclose(
            results[f"split{split}_test_ev"],
            by_score.cv_results_[f"split{split}_test_score"],
            rtol=1e-6,
        )


def test_cross_validation_with_a_single_scorer(known):
    X, dictionary = known
    for scorer in (metrics.neg_l0_scorer, metrics.make_recovery_scorer(dictionary)):
        found = cross_validate(
            autoencoder(), X, scoring=scorer, cv=2, return_estimator=True
        )
        for row, fold in enumerate((X[:300], X[300:])):
            expected = scorer(found["estimator"][row], fold)
            assert found["test_score"][row] == expected


def test_recovery_scorer(known):
    X, dictionary = known
    given = dictionary.copy()
    scorer = metrics.make_recovery_scorer(given)
    given[:] = 0
    fitted = autoencoder().fit(X)
    expected = metrics.matching_coefficient(dictionary, fitted.components_)
    assert scorer(fitted, X) == scorer(fitted, None) == expected
    assert pickle.loads(pickle.dumps(scorer))(fitted, X) == expected
    assert repr(scorer) == "make_recovery_scorer(<12 directions of length 6>)"
    with pytest.raises(ValueError, match="Input dictionary contains NaN"):
        metrics.make_recovery_scorer(dictionary * np.nan)
    with pytest.raises(ValueError, match="must have the same number of columns"):
        metrics.make_recovery_scorer(dictionary[:, :2])(fitted, X)


@pytest.mark.parametrize("scorer", SCORERS.values())
def test_scorers_pickle_by_name(scorer):
    assert pickle.loads(pickle.dumps(scorer)) is scorer


@pytest.mark.parametrize(
    ("scorer", "estimator", "missing"),
    [
        (metrics.neg_l0_scorer, object(), "transform"),
        (metrics.neg_dead_fraction_scorer, object(), "transform"),
        (metrics.explained_variance_scorer, object(), "transform"),
        (metrics.neg_fvu_scorer, Binarizer(), "inverse_transform"),
        (metrics.make_recovery_scorer(X), StandardScaler(), "components_"),
    ],
)
def test_estimators_that_cannot_be_scored_are_named(scorer, estimator, missing):
    with pytest.raises(TypeError, match=f"estimator must have {missing} to be scored"):
        scorer(estimator, X)


def test_reconstructions_of_another_shape_are_refused():
    encoder = Encoder().fit(ROWS)
    encoder.inverse_transform = lambda codes: codes
    message = "X and its reconstruction must have the same shape"
    with pytest.raises(ValueError, match=message):
        metrics.neg_fvu_scorer(encoder, ROWS)


@pytest.mark.skipif(
    os.environ.get("SCIPY_ARRAY_API") != "1", reason="needs SCIPY_ARRAY_API=1"
)
def test_tensors_under_dispatch():
    rng = np.random.RandomState(0)
    X, D = rng.randn(60, 5), rng.randn(7, 5)
    sae = SparseAutoencoder(7, k=2, max_iter=50, random_state=0)
    numbers = []
    for to in (np.asarray, torch.tensor):
        with config_context(array_api_dispatch=True):
            rows = to(X)
            fitted = clone(sae).fit(rows)
            codes = fitted.transform(rows)
            numbers.append(
                [
                    metrics.explained_variance_scorer(fitted, rows),
                    metrics.explained_variance(rows, fitted.inverse_transform(codes)),
                    metrics.l0(codes),
                    metrics.matching_coefficient(to(D), fitted.components_),
                ]
            )
    np.testing.assert_allclose(*numbers)
