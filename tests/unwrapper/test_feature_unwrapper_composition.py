"""FeatureUnwrapper inside scikit-learn's searches, callbacks and parallel backends."""

import contextlib
import io

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn import config_context
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.exceptions import UnsetMetadataPassedError
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    cross_val_score,
    cross_validate,
)
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tests.unwrapper.test_feature_unwrapper import (
    MODEL,
    X,
    mlp,
    model_outputs,
    unwrapper,
)

pytestmark = [
    pytest.mark.usefixtures("few_updates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*features are dead:UserWarning"),
    # A worker that has idled too long is started anew.
    pytest.mark.filterwarnings("ignore:A worker stopped while some jobs:UserWarning"),
]

Y = model_outputs(MODEL).argmax(axis=1)
FEW = {"layers": ["2", "4"]}


def weights(est):
    arrays = [part.components_ for part in est.autoencoders_]
    return arrays + [part.coef_.toarray() for part in est.connectors_]


@pytest.mark.parametrize(
    "backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)]
)
def test_n_jobs_does_not_change_the_result(backend):
    expected = unwrapper(distill=False).fit(X)
    threads = torch.get_num_threads()
    with parallel_config(backend=backend):
        found = unwrapper(distill=False, n_jobs=2).fit(X)
    with parallel_config(backend=backend, n_jobs=2):
        configured = unwrapper(distill=False).fit(X)
    assert torch.get_num_threads() == threads
    # Workers may sum in another order, on another number of threads.
    for est in (found, configured):
        for a, b in zip(weights(expected), weights(est), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(
            est.decision_function(X), expected.decision_function(X), atol=1e-4
        )


def test_grid_over_models():
    models = [MODEL, mlp(7, 6, 6, 5, 3, seed=1)]
    search = GridSearchCV(
        unwrapper(**FEW), {"model": models}, cv=2, error_score="raise"
    )
    search.fit(X, Y)
    scores = search.cv_results_["mean_test_score"]
    assert scores[0] > scores[1]
    assert search.best_params_["model"] is models[0]
    with parallel_config(backend="threading", n_jobs=2):
        again = clone(search).fit(X, Y)
    np.testing.assert_array_equal(again.cv_results_["mean_test_score"], scores)


def test_grid_over_scikit_learn_models():
    models = [
        FrozenEstimator(
            MLPClassifier((6, 5), max_iter=n, learning_rate_init=0.05, random_state=0)
        )
        for n in (1, 100)
    ]
    for model in models:
        model.estimator.fit(X, Y)
    search = GridSearchCV(
        unwrapper(models[0]), {"model": models}, cv=2, error_score="raise"
    ).fit(X, Y)
    scores = search.cv_results_["mean_test_score"]
    assert scores[1] > scores[0]
    # Not in a grid, the model may stand as it is: the clone keeps its fit.
    assert cross_val_score(
        unwrapper(models[1].estimator), X, Y, cv=2, error_score="raise"
    ).mean() == pytest.approx(scores[1])


def test_grid_over_a_nested_parameter():
    search = GridSearchCV(
        unwrapper(**FEW), {"autoencoder__k": [1, 4]}, cv=2, error_score="raise"
    )
    search.fit(X)
    found = search.best_estimator_.autoencoders_[0].k
    assert found == search.best_params_["autoencoder__k"]
    assert len(set(search.cv_results_["mean_test_score"])) == 2


@pytest.mark.slow
def test_grid_in_processes():
    search = GridSearchCV(
        unwrapper(distill=False, **FEW),
        {"model": [MODEL, mlp(7, 6, 6, 5, 3, seed=1)]},
        cv=2,
        error_score="raise",
    )
    expected = clone(search).fit(X, Y).cv_results_["mean_test_score"]
    with parallel_config(backend="loky", n_jobs=2):
        found = clone(search).fit(X, Y).cv_results_["mean_test_score"]
    np.testing.assert_allclose(found, expected, atol=0.04)


@pytest.mark.slow
def test_dask():
    distributed = pytest.importorskip("distributed")
    expected = unwrapper(distill=False).fit(X)
    with (
        distributed.Client(
            n_workers=1,
            threads_per_worker=2,
            processes=False,
            dashboard_address="127.0.0.1:0",  # None is one fixed port
        ),
        parallel_config(backend="dask"),
    ):
        found = unwrapper(distill=False).fit(X)
    for a, b in zip(weights(expected), weights(found), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_cross_validation_stratifies():
    est = unwrapper(distill=False, **FEW)
    y = np.sort(Y)  # unshuffled folds that did not stratify would lack classes
    rows = X[np.argsort(Y, kind="stable")]
    found = cross_val_score(est, rows, y, cv=3, error_score="raise")
    expected = cross_val_score(est, rows, y, cv=StratifiedKFold(3))
    np.testing.assert_array_equal(found, expected)
    assert found.mean() > 0.3


def test_a_bad_parameter_is_reported_once_and_readably():
    with pytest.raises(ValueError, match=r"All the 2 fits failed(.|\n)*'faithfulness'"):
        cross_val_score(unwrapper(faithfulness=-1), X, Y, cv=2)


def test_in_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), unwrapper()).fit(X, Y)
    scaled = StandardScaler().fit_transform(X)
    expected = unwrapper().fit(scaled)
    np.testing.assert_array_equal(pipeline.predict(X), expected.predict(scaled))
    assert pipeline.score(X, Y) == expected.score(scaled, Y)
    features = make_pipeline(unwrapper(), StandardScaler()).fit_transform(scaled)
    np.testing.assert_allclose(
        features, StandardScaler().fit_transform(expected.transform(scaled))
    )


def test_metadata_routing():
    with config_context(enable_metadata_routing=True):
        cross_validate(unwrapper(**FEW), X, Y, cv=2, error_score="raise")
        clone(unwrapper()).fit(X, Y)
        with pytest.raises(
            (TypeError, UnsetMetadataPassedError), match="sample_weight"
        ):
            cross_validate(
                unwrapper(**FEW), X, Y, cv=2, params={"sample_weight": np.ones(60)}
            )


class Recorder:
    """A callback that counts, and stops distillation after a number of epochs."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.begun, self.ended, self.networks = [], [], []

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context, **kwargs):
        self.begun.append(context.task_name)

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None, **kwargs):
        self.ended.append(context.task_name)
        if context.task_name != "epoch":
            return False
        self.networks.append(fitted_estimator.network().predict_raw(X))
        return self.ended.count("epoch") == self.stop_after


class StopsSoon(Recorder):
    """Stops each distillation, also those of other processes."""

    def on_fit_task_end(self, estimator, context, **kwargs):
        return context.task_name == "epoch" and context.task_id >= 2


@pytest.mark.parametrize("joint", [True, False])
def test_callbacks_see_every_step(joint):
    recorder = Recorder()
    # Without a budget nothing is pruned after the last epoch.
    params = {"n_nonzero_coefs": None, "joint": joint}
    est = unwrapper(**params).set_callbacks(recorder).fit(X)
    last = ["train" if joint else "distill", *["epoch"] * 6]
    expected = [*["autoencoder"] * 3, *["connector"] * 2, *last]
    tasks = [name for name in recorder.begun if name in set(expected)]
    assert sorted(tasks) == sorted(expected)
    assert sorted(recorder.begun) == sorted(recorder.ended)
    np.testing.assert_allclose(
        recorder.networks[-1], est.network().predict_raw(X), rtol=1e-4, atol=1e-5
    )
    assert not np.array_equal(recorder.networks[0], recorder.networks[-1])
    np.testing.assert_array_equal(est.predict(X), unwrapper(**params).fit(X).predict(X))


def test_a_callback_stops_distillation():
    est = unwrapper().set_callbacks(Recorder(stop_after=2)).fit(X)
    assert est.n_iter_ == len(est.loss_curve_) == 2
    assert [connector.coef_.nnz for connector in est.connectors_] == [20, 20]
    assert est.predict(X).shape == (60,)


def test_scoring_monitor():
    # scikit-learn 1.9.1 itself fails where scoring=None meets a y.
    monitor, silent = ScoringMonitor(scoring="accuracy"), ScoringMonitor(scoring=None)
    est = unwrapper().set_callbacks(monitor).fit(X, Y)
    unwrapper().set_callbacks(silent).fit(X)
    assert len(silent.get_logs().data) == len(monitor.get_logs().data)
    rows = monitor.get_logs().data
    epochs = [row for row in rows if row["task_name"] == "epoch"]
    assert len(epochs) == est.n_iter_
    assert all(0 <= row["accuracy"] <= 1 for row in epochs)


@pytest.mark.parametrize(
    "backend", ["threading", pytest.param("loky", marks=pytest.mark.slow)]
)
def test_callbacks_through_a_grid(backend):
    pytest.importorskip("rich")
    monitor = ScoringMonitor(scoring="accuracy")
    est = unwrapper(**FEW).set_callbacks(monitor, StopsSoon())
    search = GridSearchCV(est, {"autoencoder__k": [1, 4]}, cv=2, error_score="raise")
    search.set_callbacks(ProgressBar())
    with (
        contextlib.redirect_stdout(io.StringIO()),
        parallel_config(backend=backend, n_jobs=2),
    ):
        search.fit(X, Y)
    # Workers send theirs to this process; four fits and the last on all rows.
    assert len({run.run_id for run in monitor.get_logs(select="all")}) == 1
    assert monitor.get_logs().data
    assert search.best_estimator_.score(X, Y) >= 0
