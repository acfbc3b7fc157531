"""What goes to joblib's workers, and what they may use there."""

import io
import os
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from threadpoolctl import threadpool_info

import skfeat._fitting as parts
from skfeat import FeatureConnectorCV, SparseAutoencoder
from skfeat.kernels._threads import n_threads
from skfeat.language import LayerPair
from skfeat.utils._rows import mapped_file
from skfeat.utils._workers import received_rows, rows_to_send
from tests.unwrapper.test_feature_unwrapper import MODEL, mlp, unwrapper
from tests.utils.test_parallel import BACKENDS, backend

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*features are dead:UserWarning"),
]

THREAD_LIMITS = ("OMP", "MKL", "OPENBLAS", "BLIS", "VECLIB_MAXIMUM", "NUMEXPR", "NUMBA")

# Activations of more than a megabyte, which joblib maps from a file for its workers.
ROWS = np.random.RandomState(0).randn(4500, 7).astype(np.float32)
WIDE = mlp(7, 64, 64, 3)


def wide_unwrapper(**params):
    autoencoder = SparseAutoencoder(8, k=2, max_iter=2, batch_size=1500)
    return unwrapper(
        WIDE, autoencoder=autoencoder, n_nonzero_coefs=9, distill=False, **params
    )


@pytest.fixture
def mapped(tmp_path):
    np.save(tmp_path / "X.npy", np.random.RandomState(0).randn(600, 5))
    return np.load(tmp_path / "X.npy", mmap_mode="r")


@pytest.fixture
def no_thread_limits(monkeypatch):
    """Take back what the tests are started with: workers would inherit it."""
    for name in THREAD_LIMITS:
        monkeypatch.delenv(f"{name}_NUM_THREADS", raising=False)


def look(sent):
    """Tell what a worker may use, and how it got the rows."""
    blas = [pool["num_threads"] for pool in threadpool_info()]
    rows = received_rows(sent)
    on_disk = mapped_file(rows) is not None and str(rows.filename)
    n = {"torch": torch.get_num_threads(), "team": n_threads(), "pools": max(blas)}
    return os.getpid(), n, on_disk, float(rows.sum())


def total_score(est, X):
    """Tell fits apart that predict the same."""
    return float(np.square(est.decision_function(X)).sum())


@BACKENDS
@pytest.mark.usefixtures("no_thread_limits")
def test_workers(name, mapped):
    serial = wide_unwrapper().fit(ROWS)
    part = mapped[100:]
    nested = GridSearchCV(
        wide_unwrapper(n_jobs=2),
        {"n_nonzero_coefs": [1, 64]},
        cv=2,
        scoring=total_score,
        refit=False,
        error_score="raise",
    )
    alone = clone(nested).set_params(estimator__n_jobs=1).fit(ROWS[:500])
    with backend(name):
        nested.fit(ROWS[:500])
        seen = Parallel(n_jobs=2)(delayed(look)(rows_to_send(part)) for _ in range(4))
        parallel = wide_unwrapper(n_jobs=2).fit(ROWS)
    for pid, n, on_disk, total in seen:
        assert on_disk == str(mapped.filename)
        assert total == part.sum()
        if name != "threading":  # threads of this process use what it may use
            assert pid != os.getpid()
            assert 2 * max(n.values()) <= max(2, os.cpu_count()), n
    scores = alone.cv_results_["mean_test_score"]
    assert scores[0] != scores[1]
    np.testing.assert_array_equal(nested.cv_results_["mean_test_score"], scores)
    for one, other in zip(serial.autoencoders_, parallel.autoencoders_, strict=True):
        np.testing.assert_array_equal(one.components_, other.components_)
        np.testing.assert_array_equal(one.loss_curve_, other.loss_curve_)


class NoTensors(pickle.Pickler):
    def persistent_id(self, thing):
        assert not isinstance(thing, torch.Tensor | torch.Generator | torch.nn.Module)


@pytest.fixture
def sizes(monkeypatch):
    """Pickle tasks and results as workers in other processes do; note their sizes."""
    noted = []

    def there(thing):
        file = io.BytesIO()
        NoTensors(file).dump(thing)
        noted.append(file.tell())
        return pickle.loads(file.getvalue())

    class Pickles:
        def __init__(self, **options):
            pass

        def __call__(self, tasks):
            for function, arguments, options in tasks:
                # joblib's wrapper keeps scikit-learn's settings; what it calls counts.
                result = function.function(*there(arguments), **there(options))
                yield there(result)

    class Listed(Pickles):
        def __call__(self, tasks):
            return list(super().__call__(tasks))

    monkeypatch.setattr(parts, "Parallel", Listed)
    return noted


def test_no_tensor_is_pickled_and_none_is_kept(sizes):
    est = wide_unwrapper(n_jobs=2).fit(ROWS)
    assert len(sizes) == 3 * 2
    assert max(sizes) > ROWS.shape[0] * 64 * 4, "the activations were not among it"
    fitted = {key: value for key, value in vars(est).items() if key.endswith("_")}
    assert {"autoencoders_", "connectors_"} <= set(fitted)
    NoTensors(io.BytesIO()).dump({**fitted, "network": est.network()})


def test_the_model_would_be_noticed():
    with pytest.raises(AssertionError):
        NoTensors(io.BytesIO()).dump(MODEL)


def test_mapped_rows_of_layer_pairs_are_mapped_in_workers(mapped, sizes, monkeypatch):
    # Copied to a worker they would be shuffled as rows in memory are.
    autoencoder = SparseAutoencoder(8, k=3, max_iter=3, batch_size=100)
    pair = LayerPair(autoencoder, autoencoder, min_events=1, random_state=0)
    there = pair.fit(mapped, mapped)
    assert len(sizes) == 3 * 2
    assert max(sizes[0::3]) < 4096 < mapped.nbytes
    monkeypatch.undo()
    here = clone(pair).fit(mapped, mapped)
    assert len(sizes) == 3 * 2
    np.testing.assert_array_equal(
        there.input_autoencoder_.components_, here.input_autoencoder_.components_
    )


@given(cut=st.tuples(*[st.integers(0, 600)] * 2), shape=st.sampled_from([0, 1, 2]))
def test_mapped_rows_survive_the_way(mapped_once, cut, shape):
    rows = mapped_once[min(cut) : max(cut)]
    rows = (rows, rows[1:], rows.reshape(-1))[shape]
    if rows.size == 0:
        return
    sent = pickle.dumps(rows_to_send(rows))
    assert len(sent) < 1000
    found = received_rows(pickle.loads(sent))
    np.testing.assert_array_equal(found, rows)
    assert mapped_file(found) is not None
    assert not found.flags.writeable


@pytest.fixture(scope="module")
def mapped_once(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "X.npy"
    np.save(path, np.random.RandomState(1).randn(600, 5))
    return np.load(path, mmap_mode="r")


def test_what_no_file_holds_goes_as_it_is(mapped, tmp_path):
    private = np.load(mapped.filename, mmap_mode="c")
    private[0] = 7
    for rows in (np.ones((3, 2)), private, mapped[:, :2], mapped.T):
        assert rows_to_send(rows) is rows
        assert received_rows(rows) is rows


def test_a_worker_that_does_not_see_the_file_says_so(mapped):
    sent = pickle.dumps(rows_to_send(mapped))
    os.remove(mapped.filename)
    with pytest.raises(FileNotFoundError, match=r"X is mapped from .*X\.npy.*all work"):
        pickle.loads(sent)


def test_no_jobs_at_all(mapped):
    X = np.array(mapped)
    for est in (FeatureConnectorCV(n_jobs=0), LayerPair(n_jobs=0)):
        name = type(est).__name__
        match = rf"'n_jobs' parameter of {name} must be an int in .* or None\. Got 0"
        with pytest.raises(ValueError, match=match):
            est.fit(X, X)
