import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import r2_score

from skfeat import SparseAutoencoder, metrics

RNG = np.random.default_rng(0)
X = RNG.normal(2, 3, size=(50, 4))
Z = X + RNG.normal(size=(50, 4))
CODES = np.maximum(RNG.normal(-0.5, 1, size=(50, 12)), 0)
CODES[:, [2, 7]] = 0


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


def test_fvu_of_what_does_not_vary_is_nan():
    assert np.isnan(metrics.fvu(np.ones((5, 2)), np.zeros((5, 2))))


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


@pytest.mark.parametrize("wrap", [np.asarray, sparse.csr_array, sparse.csr_matrix])
def test_l0_and_dead_features(wrap):
    codes = wrap(CODES)
    assert metrics.l0(codes) == np.mean([np.count_nonzero(row) for row in CODES])
    assert metrics.n_dead(codes) == sum(not column.any() for column in CODES.T) == 2
    assert type(metrics.l0(codes)) is float
    assert type(metrics.n_dead(codes)) is int
    assert metrics.l0(wrap(np.zeros((3, 4)))) == 0.0
    assert metrics.n_dead(wrap(np.zeros((3, 4)))) == 4


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
