"""Fits in other numbers of threads: no result depends on them."""

import threading

import numpy as np
import pytest
import torch

from skfeat import SparseAutoencoder
from skfeat.kernels._threads import PRODUCT_ROWS, Team, one_thread
from skfeat.utils._sklearn import _get_threadpool_controller
from tests.unwrapper.test_feature_unwrapper import X as ROWS
from tests.unwrapper.test_feature_unwrapper import unwrapper

pytestmark = [
    pytest.mark.usefixtures("few_updates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*features are dead:UserWarning"),
]


@pytest.fixture
def set_threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize("activation", ["topk", "relu", "batch_topk"])
def test_an_autoencoder_is_the_same_in_any_number_of_threads(set_threads, activation):
    X = np.random.default_rng(0).normal(size=(3 * PRODUCT_ROWS, 40)).astype(np.float32)
    params = {"alpha": 0.3} if activation == "relu" else {"k": 12}
    fits = []
    for n in (1, 3):
        set_threads(n)
        est = SparseAutoencoder(
            700,
            activation=activation,
            batch_size=2 * PRODUCT_ROWS + 100,
            max_iter=2,
            random_state=0,
            **params,
        )
        fits.append(est.fit(X))
    for name in ("components_", "encoder_coef_", "encoder_intercept_", "intercept_"):
        one, other = (getattr(fit, name) for fit in fits)
        np.testing.assert_array_equal(one, other, err_msg=name)
    assert fits[0].loss_curve_ == fits[1].loss_curve_


def watched():
    """Make a kind of autoencoder that notes where it is fitted, in how many threads."""
    seen = []

    class Watched(SparseAutoencoder):
        def fit(self, X, y=None, sample_weight=None):
            seen.append((threading.current_thread(), torch.get_num_threads()))
            return super().fit(X, y, sample_weight)

    return Watched, seen


def test_layers_that_share_the_threads_are_those_fitted_in_turn(
    set_threads, monkeypatch
):
    # Parts as small as these are fitted one after the other.
    monkeypatch.setattr("skfeat._fitting._gains_beside_others", lambda *_: True)
    Watched, seen = watched()
    autoencoder = Watched(8, k=3, max_iter=5)
    fits = []
    for n in (1, 2):
        set_threads(n)
        fits.append(unwrapper(autoencoder=autoencoder, distill=False).fit(ROWS))
        assert torch.get_num_threads() == n
    main = threading.main_thread()
    assert all(thread is main for thread, _ in seen[:3])
    assert all(thread is not main and n == 1 for thread, n in seen[3:])
    for one, other in zip(fits[0].autoencoders_, fits[1].autoencoders_, strict=True):
        np.testing.assert_array_equal(one.components_, other.components_)


def test_who_asks_for_workers_or_trains_large_ones_gets_no_threads(set_threads):
    set_threads(2)
    Watched, seen = watched()
    small = Watched(8, k=3, max_iter=1)
    unwrapper(autoencoder=small, n_jobs=1, distill=False).fit(ROWS)
    large = Watched(8, k=3, max_iter=1, batch_size=10**7)
    unwrapper(autoencoder=large, distill=False).fit(ROWS)
    assert {thread for thread, _ in seen} == {threading.main_thread()}


def test_an_error_in_a_thread_is_the_error_of_the_fit(set_threads):
    set_threads(2)
    bad = SparseAutoencoder(8, k="three")
    with pytest.raises(ValueError, match="'k' parameter of SparseAutoencoder"):
        unwrapper(autoencoder=bad).fit(ROWS)
    worse = SparseAutoencoder(8, k=3, batch_size="many")
    with pytest.raises(ValueError, match="'batch_size' parameter"):
        unwrapper(autoencoder=worse).fit(ROWS)


def blas_threads():
    # The controller that scikit-learn keeps knows the libraries loaded when it began.
    blas = _get_threadpool_controller().select(user_api="blas")
    return [library["num_threads"] for library in blas.info()]


def test_one_thread_limits_nobody_else(set_threads):
    set_threads(3)
    before, inside = blas_threads(), {}

    def look():
        inside["torch"] = torch.get_num_threads()
        inside["blas"] = blas_threads()

    worker = threading.Thread(target=one_thread(look))
    worker.start()
    worker.join()
    assert inside["torch"] == 1
    assert set(inside["blas"]) <= {1}
    assert torch.get_num_threads() == 3
    assert blas_threads() == before


@pytest.mark.parametrize("n_threads", [1, 4])
@pytest.mark.parametrize("n", [1, 511, 512, 5000])
def test_ranges_begin_at_multiples(set_threads, n_threads, n):
    set_threads(n_threads)
    ranges = []
    with Team() as team:
        team.run(
            lambda *r: ranges.append(r), n, n_elements=2**30, multiple=PRODUCT_ROWS
        )
    ranges = sorted(part for part in ranges if part[0] < part[1])
    assert all(first % PRODUCT_ROWS == 0 for first, _ in ranges)
    assert [first for first, _ in ranges[1:]] == [last for _, last in ranges[:-1]]
    assert (ranges[0][0], ranges[-1][1]) == (0, n)


def test_the_last_thread_to_leave_takes_the_limit_back(set_threads):
    set_threads(2)
    before = blas_threads()
    entered, left, found = threading.Event(), threading.Event(), []

    def stay():
        with Team():
            entered.set()
            left.wait(10)
            found.append(blas_threads())

    worker = threading.Thread(target=stay)
    with Team():
        worker.start()
        entered.wait(10)
        assert set(blas_threads()) <= {1}
    left.set()
    worker.join()
    assert set(found[0]) <= {1}
    assert blas_threads() == before
