"""Pipelines and decision thresholds around the network that is unwrapped."""

import pickle
import tempfile

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import FixedThresholdClassifier, cross_val_predict
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from torch import nn

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.network import SparseFeatureNetwork

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*are dead"),
]
RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4)) * [1, 30, 0.2, 5] + [0, 100, 0, 3]
Y = np.where(X[:, 0] + (X[:, 1] - 100) / 30 > 0, "yes", "no")


def unwrapper(model, **params):
    part = SparseAutoencoder(8, k=4, max_iter=20, random_state=0)
    given = {"autoencoder": part, "distill": False, "random_state": 0} | params
    return FeatureUnwrapper(model, **given)


def mlp():
    return MLPClassifier((8, 6), max_iter=60, random_state=0)


def frame():
    pd = pytest.importorskip("pandas")
    return pd.DataFrame(
        {
            "age": X[:, 1],
            "city": np.array(["Rome", "Oslo", "Lima"])[np.arange(120) % 3],
            "income": np.exp(X[:, 0]),
        }
    )


def columns():
    log = FunctionTransformer(np.log1p, feature_names_out="one-to-one")
    return ColumnTransformer(
        [
            ("log", make_pipeline(log, StandardScaler()), ["income"]),
            ("one", OneHotEncoder(), ["city"]),
            ("age", StandardScaler(), ["age"]),
        ],
        sparse_threshold=1.0,
        verbose_feature_names_out=False,
    )


def test_a_pipeline_is_its_network_on_transformed_rows():
    pipe = make_pipeline(StandardScaler(), PCA(3), mlp()).fit(X, Y)
    rows = pipe[:-1].transform(X)
    found = unwrapper(pipe).fit(X)
    expected = unwrapper(pipe[-1]).fit(rows)
    np.testing.assert_array_equal(found.predict(X), expected.predict(rows))
    np.testing.assert_array_equal(found.predict_proba(X), expected.predict_proba(rows))
    np.testing.assert_array_equal(
        found.decision_function(X), expected.decision_function(rows)
    )
    np.testing.assert_array_equal(found.transform(X), expected.transform(rows))
    assert found.score(X, Y) == expected.score(rows, Y)
    assert found.score(X) == expected.score(rows)
    report, own = found.report(X, Y), expected.report(rows, Y)
    assert str(report) == str(own)
    assert report["score_model"][-1] == pipe.score(X, Y)
    assert found.n_features_in_ == 4
    assert found.input_names_ == ["pca0", "pca1", "pca2"]
    np.testing.assert_array_equal(found.network_inputs(X), rows)
    np.testing.assert_array_equal(
        found.network().predict_raw(found.network_inputs(X)),
        expected.network().predict_raw(rows),
    )


def test_a_data_frame_of_any_columns():
    data = frame()
    pipe = make_pipeline(columns(), mlp()).fit(data, Y)
    found = unwrapper(pipe, connect_input=True).fit(data, Y)
    assert list(found.feature_names_in_) == ["age", "city", "income"]
    names = ["income", "city_Lima", "city_Oslo", "city_Rome", "age"]
    assert found.input_names_ == names
    assert found.network_inputs(data).shape == (120, 5)
    assert found.report(data, Y)["score_model"][-1] == pipe.score(data, Y)
    with pytest.raises(ValueError, match="feature names"):
        found.predict(data[["city", "age", "income"]])
    again = pickle.loads(pickle.dumps(found))
    np.testing.assert_array_equal(again.predict(data), found.predict(data))
    np.testing.assert_array_equal(
        clone(found).fit(data, Y).predict(data), found.predict(data)
    )
    found.set_output(transform="pandas")
    assert found.transform(data.iloc[5:9]).index.tolist() == [5, 6, 7, 8]


def test_the_graph_shows_the_columns_that_the_network_takes():
    pytest.importorskip("matplotlib").use("Agg")
    from skfeat.inspection import FeatureGraphDisplay

    data = frame()
    pipe = make_pipeline(columns(), mlp()).fit(data, Y)
    found = unwrapper(pipe, connect_input=True).fit(data)
    display = FeatureGraphDisplay.from_estimator(found, data[:1], inputs=True)
    texts = {text.get_text() for text in display.ax_.texts}
    named = {text.partition("  ")[0] for text in texts}
    assert named & set(found.input_names_)
    assert found.network().input_names_ == found.input_names_
    terms = " ".join(found.input_connector_.formula(j) for j in range(8))
    assert any(name in terms for name in ("city_Lima", "city_Oslo", "city_Rome"))
    array = make_pipeline(StandardScaler(), mlp()).fit(X, Y)
    FeatureGraphDisplay.from_estimator(unwrapper(array).fit(X), X[0], inputs=True)
    untold = make_pipeline(columns(), FunctionTransformer(np.tanh), mlp()).fit(data, Y)
    found = unwrapper(untold, connect_input=True).fit(data)
    assert found.input_names_ == ["x0", "x1", "x2", "x3", "x4"]
    FeatureGraphDisplay.from_estimator(found, data[:1], inputs=True)


def test_names_without_a_pipeline():
    pd = pytest.importorskip("pandas")
    data = pd.DataFrame(X, columns=list("abcd"))
    assert unwrapper(mlp().fit(data, Y)).fit(data).input_names_ == list("abcd")
    plain = unwrapper(mlp().fit(X, Y)).fit(X)
    assert not hasattr(plain, "input_names_")
    np.testing.assert_array_equal(plain.network_inputs(X), X)


def test_a_regressor_behind_a_scaler():
    pipe = make_pipeline(
        StandardScaler(), MLPRegressor(hidden_layer_sizes=(8,), max_iter=50)
    ).fit(X, X[:, 0])
    found = unwrapper(pipe).fit(X)
    assert found.report(X, X[:, 0])["score_model"][-1] == pytest.approx(
        pipe.score(X, X[:, 0])
    )


def test_refitted_in_folds():
    pipe = make_pipeline(StandardScaler(), mlp()).fit(X, Y)
    predicted = cross_val_predict(unwrapper(pipe), X, Y, cv=2)
    assert np.mean(predicted == pipe.predict(X)) > 0.7


def test_a_refused_pipeline_leaves_the_fit_before():
    pipe = make_pipeline(StandardScaler(), mlp()).fit(X, Y)
    found = unwrapper(pipe).fit(X)
    expected = found.predict(X)
    found.set_params(model=make_pipeline(StandardScaler(), mlp()))
    with pytest.raises(NotFittedError, match=r"call pipe\.fit"):
        found.fit(X)
    np.testing.assert_array_equal(found.predict(X), expected)


def check_follows(model, rows, y):
    """Hold that the model's labels, and the network's, follow the model's rule."""
    found = unwrapper(model).fit(rows)
    report = found.report(rows, y)
    assert report["score_model"][-1] == np.mean(model.predict(rows) == y)
    np.testing.assert_array_equal(
        found._decide(found._model_outputs(rows)), model.predict(rows)
    )
    labels = found.predict(rows)
    assert found.score(rows, y) == np.mean(labels == y) == report["score"][-1]
    assert found.score(rows) == np.mean(labels == model.predict(rows))
    assert report["agreement"][-1] == found.score(rows)
    with tempfile.TemporaryDirectory() as folder:
        found.network().save(f"{folder}/network")
        loaded = SparseFeatureNetwork.load(f"{folder}/network")
    np.testing.assert_array_equal(loaded.predict(found.network_inputs(rows)), labels)
    return found, labels


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.85])
def test_the_threshold_of_a_skorch_net_is_followed(threshold):
    skorch = pytest.importorskip("skorch")
    torch.manual_seed(0)
    net = skorch.NeuralNetBinaryClassifier(
        nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1)),
        threshold=threshold,
        max_epochs=20,
        lr=0.1,
        train_split=None,
        verbose=0,
    )
    rows, y = (X / [1, 30, 1, 5]).astype("f4"), (Y == "yes").astype("f4")
    found, labels = check_follows(net.fit(rows, y), rows, y)
    np.testing.assert_array_equal(labels, found.predict_proba(rows)[:, 1] > threshold)
    np.testing.assert_array_equal(found.classes_, [0, 1])


@pytest.mark.parametrize("pos_label", ["yes", "no"])
def test_the_threshold_around_a_pipeline_is_followed(pos_label):
    model = FixedThresholdClassifier(
        make_pipeline(StandardScaler(), mlp()), threshold=0.8, pos_label=pos_label
    ).fit(X, Y)
    found, labels = check_follows(model, X, Y)
    own = found.predict_proba(X)[:, found.classes_.tolist().index(pos_label)]
    np.testing.assert_array_equal(labels == pos_label, own >= 0.8)


def test_a_net_with_its_own_rule_can_be_unwrapped_as_values():
    skorch = pytest.importorskip("skorch")
    net = skorch.NeuralNetBinaryClassifier(
        nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 1), nn.Sigmoid()),
        max_epochs=1,
        train_split=None,
        verbose=0,
    ).fit(X.astype("f4"), (Y == "yes").astype("f4"))
    with pytest.raises(ValueError, match=r"criterion=torch\.nn\.BCELoss"):
        unwrapper(net).fit(X)
    assert unwrapper(net, task="regression").fit(X).predict(X).shape == (120,)


def test_columns_in_another_order_than_the_model_was_fitted_to():
    pd = pytest.importorskip("pandas")
    table = pd.DataFrame(X, columns=list("abcd"))
    scaled = make_pipeline(StandardScaler().set_output(transform="pandas"), mlp())
    passed = make_pipeline(FunctionTransformer(), mlp())
    other = table[["d", "c", "b", "a"]]
    for model in (
        mlp().fit(table, Y),
        FixedThresholdClassifier(mlp(), threshold=0.4).fit(table, Y),
        scaled.fit(table, Y),
        passed.fit(table, Y),
    ):
        fitted = unwrapper(model).fit(table)
        with pytest.raises(ValueError, match="must be in the same order as they"):
            unwrapper(model).fit(other)
        with pytest.raises(ValueError, match="must be in the same order as they"):
            fitted.predict(other)
        with pytest.raises(ValueError, match="unseen at fit time:\n- e\n"):
            unwrapper(model).fit(table.rename(columns={"a": "e"}))
    # Rows without names are taken as they are.
    unwrapper(mlp().fit(table, Y)).fit(X)
    # Of columns that are chosen by name the order does not matter.
    model = make_pipeline(
        ColumnTransformer([("own", StandardScaler(), list("abc"))]), mlp()
    )
    model.fit(table, Y)
    unwrapper(model).fit(other)
