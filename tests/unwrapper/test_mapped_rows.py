"""Unwrapping from a mapped file, of which no rows are held."""

import pickle
import warnings

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn.base import clone
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfeat import FeatureConnector, FeatureUnwrapper, SparseAutoencoder
from skfeat.rows import iter_rows
from skfeat.solvers.joint._units import unit_of_inputs, unit_of_outputs
from skfeat.unwrapper import _computed
from skfeat.utils import _rows
from skfeat.utils._rows import ComputedRows, batches_of_rows, row_blocks, rows_at
from skfeat.utils._stages import Composed, RunningMoments
from skfeat.utils._torch import make_generator
from skfeat.utils._workers import received_rows, rows_to_send

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*features are dead"),
    pytest.mark.filterwarnings("ignore:.*used its max_iter"),
]


def model(seed=0):
    torch.manual_seed(seed)
    return torch.nn.Sequential(
        torch.nn.Linear(6, 8),
        torch.nn.ReLU(),
        torch.nn.Linear(8, 7),
        torch.nn.ReLU(),
        torch.nn.Linear(7, 3),
    )


@pytest.fixture
def mapped(tmp_path):
    rng = np.random.RandomState(0)
    path = tmp_path / "rows.npy"
    np.save(path, (rng.randn(600, 4) @ rng.randn(4, 6)).astype(np.float32))
    return np.load(path, mmap_mode="r")


def unwrapper(net=None, **params):
    sae = SparseAutoencoder(12, k=4, max_iter=3, batch_size=100)
    if params.get("distill", True):
        params = {"max_iter": 4, "batch_size": 100, **params}
    params = {"autoencoder": sae, **params}
    return FeatureUnwrapper(net or model(), random_state=0, **params)


def outputs(fitted, X):
    return fitted.network().predict_raw(np.array(X))


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"connect_input": True, "connect_output": True},
        {"task": "regression"},
        {"connector": FeatureConnector(alpha=0.01)},
        {"joint": False},
        {"distill": False},
    ],
    ids=str,
)
def test_fits_what_rows_in_memory_give(mapped, params):
    # So few rows are one window, which is shuffled as rows in memory are.
    expected = unwrapper(**params).fit(np.array(mapped))
    found = unwrapper(**params).fit(mapped)
    np.testing.assert_allclose(
        outputs(found, mapped), outputs(expected, mapped), rtol=2e-3, atol=2e-3
    )
    for own, other in zip(found._means, expected._means, strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-4, atol=1e-6)
    assert found.n_features_in_ == 6


def test_batches_of_windows_train_too(mapped, monkeypatch):
    monkeypatch.setattr(_rows, "_RUN_BYTES", 1024)
    monkeypatch.setattr(_rows, "_RUNS", 4)
    found = unwrapper(max_iter=20).fit(mapped)
    assert found.score(np.array(mapped)) > 0.8


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float64])
def test_rows_of_any_type(tmp_path, dtype):
    X = np.random.RandomState(0).randint(0, 9, size=(300, 6)).astype(dtype)
    np.save(tmp_path / "rows.npy", X)
    found = unwrapper().fit(np.load(tmp_path / "rows.npy", mmap_mode="r"))
    np.testing.assert_allclose(
        outputs(found, X.astype(np.float32)),
        outputs(unwrapper().fit(X), X.astype(np.float32)),
        atol=2e-3,
    )


def test_steps_of_a_pipeline_are_applied_to_what_is_read(mapped):
    X = np.array(mapped, dtype=np.float64) * 10 + 3
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipe = make_pipeline(
            StandardScaler(), MLPRegressor(hidden_layer_sizes=(8, 8), max_iter=5)
        )
        pipe.fit(X, X[:, 0])
    file = str(mapped.filename).replace("rows", "scaled")
    np.save(file, X)
    expected = unwrapper(pipe).fit(X)
    found = unwrapper(pipe).fit(np.load(file, mmap_mode="r"))
    np.testing.assert_allclose(found.predict(X), expected.predict(X), atol=1e-2)
    assert found.input_names_ == expected.input_names_


def test_streams_are_written_to_a_file_first(mapped):
    found = unwrapper().fit(iter_rows(np.array(mapped), batch_size=64))
    expected = unwrapper().fit(mapped)
    np.testing.assert_array_equal(outputs(found, mapped), outputs(expected, mapped))


def test_no_rows_are_held(mapped, monkeypatch):
    most = []
    read = ComputedRows.__getitem__

    def noted(self, index):
        rows = read(self, index)
        most.append(len(rows))
        return rows

    monkeypatch.setattr(ComputedRows, "__getitem__", noted)
    monkeypatch.setattr(_rows, "_RUN_BYTES", 1024)
    monkeypatch.setattr(_rows, "_RUNS", 2)
    monkeypatch.setattr("skfeat.solvers.joint._started.start_rows", some_rows)
    monkeypatch.setattr("skfeat.autoencoder._quality._DIAGNOSED_ROWS", 50)
    monkeypatch.setattr(
        ComputedRows, "__array__", lambda *args, **kwargs: pytest.fail("all are held")
    )
    unwrapper(connect_input=True, connect_output=True).fit(mapped)
    assert most
    assert max(most) <= 128


def some_rows(n_rows, n_inputs):
    return np.arange(0, n_rows, 12)


def test_connectors_without_a_budget_see_some_rows(mapped, monkeypatch):
    seen = []
    fit = FeatureConnector.fit

    def noted(self, X, y):
        seen.append(len(X))
        return fit(self, X, y)

    monkeypatch.setattr(FeatureConnector, "fit", noted)
    monkeypatch.setattr(_computed, "_HELD_BYTES", 2**14)
    unwrapper(connector=FeatureConnector(alpha=0.01)).fit(mapped)
    assert seen
    assert max(seen) < 150


def test_what_is_not_finite_is_refused(mapped):
    net = model()
    with torch.no_grad():
        net[0].weight *= 1e38
    X = np.array(mapped)
    X[-1] *= 1e10
    X[:-1] *= 1e-3
    file = str(mapped.filename).replace("rows", "large")
    np.save(file, X)
    with pytest.raises(ValueError, match="layer '0' are not finite for every row"):
        unwrapper(net).fit(np.load(file, mmap_mode="r"))
    X[-1, 2] = np.nan
    np.save(file, X)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        unwrapper().fit(np.load(file, mmap_mode="r"))


@pytest.mark.parametrize(
    "backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)]
)
def test_workers_compute_the_layers_themselves(mapped, backend):
    expected = unwrapper().fit(mapped)
    with parallel_config(backend=backend):
        found = unwrapper(n_jobs=2).fit(mapped)
    np.testing.assert_array_equal(outputs(found, mapped), outputs(expected, mapped))


def test_a_fitted_one_holds_no_file(mapped):
    fitted = unwrapper().fit(mapped)
    assert b"rows.npy" not in pickle.dumps(fitted)
    clone(fitted)


def computed(X, **kwargs):
    return ComputedRows(
        X, Composed([np.square]), X.shape[1], X.dtype, key="", row_bytes=64, **kwargs
    )


def test_computed_rows_are_read_as_others(mapped):
    rows, X = computed(mapped), np.square(mapped)
    np.testing.assert_array_equal(np.asarray(rows), X)
    np.testing.assert_array_equal(rows_at(rows, np.array([3, 1])), X[[3, 1]])
    blocks = np.concatenate([part for _, part in row_blocks(rows)])
    np.testing.assert_array_equal(blocks, X)
    batches = [*batches_of_rows(rows, 90, make_generator(0))]
    assert sum(len(batch.ids) for batch in batches) == len(X)
    for batch in batches:
        np.testing.assert_array_equal(batch.source[batch.local], X[batch.ids])


@pytest.mark.parametrize("each", [True, False])
def test_units_follow_from_moments(mapped, each):
    X, ones = np.array(mapped, np.float64), np.ones(len(mapped))
    running = RunningMoments()
    for start in range(0, 600, 70):
        running.add([X[start : start + 70]])
    (moments,) = running.moments()
    np.testing.assert_allclose(moments.mean, X.mean(axis=0))
    np.testing.assert_allclose(moments.square, X.var(axis=0))
    rows = computed(mapped, moments=moments)
    pairs = [
        (unit_of_inputs(rows, ones), unit_of_inputs(X, ones)),
        (
            unit_of_outputs(rows, ones, each=each),
            unit_of_outputs(X, ones, each=each),
        ),
    ]
    for found, expected in pairs:
        np.testing.assert_allclose(found.mean, expected.mean)
        np.testing.assert_allclose(found.scale, expected.scale)


def test_workers_elsewhere_map_the_file_again(mapped):
    # As Dask and Ray send it, who would copy all rows of a mapping.
    sent = pickle.dumps(rows_to_send(computed(mapped)))
    assert len(sent) < 2000
    found = received_rows(pickle.loads(sent))
    np.testing.assert_array_equal(np.asarray(found), np.square(mapped))
    assert _rows.mapped_file(found) is not None
