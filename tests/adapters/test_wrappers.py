import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import BaggingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, make_scorer
from sklearn.model_selection import (
    FixedThresholdClassifier,
    GridSearchCV,
    TunedThresholdClassifierCV,
)
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from torch import nn

from skfeat.adapters import (
    check_chain,
    check_rule,
    infer_task,
    model_classes,
    read_chain,
    without_wrappers,
)

X = np.random.default_rng(3).normal(size=(60, 4)) * [1, 10, 0.1, 3]
Y = np.where(X[:, 0] + X[:, 1] / 10 > 0, "b", "a")


def mlp():
    """Make a classifier that is content with a few epochs."""
    return MLPClassifier((6,), tol=10.0, learning_rate_init=0.05, random_state=0)


NETWORK = mlp().fit(X, Y)


class Halved(TransformerMixin, BaseEstimator):
    """A transformer without a fit of its own, and without names."""

    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return X / 2


PIPELINES = {
    "scaled": make_pipeline(StandardScaler(), mlp()),
    "passthrough": Pipeline(
        [("a", "passthrough"), ("b", None), ("c", StandardScaler()), ("d", mlp())]
    ),
    "alone": make_pipeline(mlp()),
    "nested": make_pipeline(
        make_pipeline(Halved(), StandardScaler()),
        make_pipeline(FunctionTransformer(np.tanh), mlp()),
    ),
    "stateless": make_pipeline(Halved(), mlp()),
    "frozen": make_pipeline(StandardScaler(), FrozenEstimator(NETWORK)),
    "search": GridSearchCV(
        make_pipeline(StandardScaler(), mlp()), {"mlpclassifier__alpha": [1]}, cv=2
    ),
    "search inside": make_pipeline(
        StandardScaler(), GridSearchCV(mlp(), {"alpha": [1.0]}, cv=2)
    ),
    "threshold": FixedThresholdClassifier(make_pipeline(StandardScaler(), mlp())),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_steps_and_network_together_are_the_pipeline(name):
    pipe = clone(PIPELINES[name]).fit(X, Y)
    network, steps, rule = without_wrappers(pipe)
    assert isinstance(network, MLPClassifier)
    rows, _ = steps.transform(X)
    np.testing.assert_allclose(network.predict_proba(rows), pipe.predict_proba(X))
    check_chain(read_chain(pipe, rows.shape[1]), pipe, rows)
    assert infer_task(pipe) == "classification"
    np.testing.assert_array_equal(model_classes(pipe), ["a", "b"])
    assert (rule is None) == (name != "threshold")


def test_names_follow_the_steps():
    pd = pytest.importorskip("pandas")
    data = pd.DataFrame(X, columns=list("pqrs"))

    def names(*steps):
        pipe = make_pipeline(*steps, mlp()).fit(data, Y)
        return without_wrappers(pipe).steps.transform(data)[1]

    assert names(StandardScaler()) == list("pqrs")
    assert names(FunctionTransformer()) == list("pqrs")  # a data frame comes out
    assert names(FunctionTransformer(np.asarray)) is None
    renamed = FunctionTransformer(
        np.asarray, feature_names_out=lambda self, names: [f"my {n}" for n in names]
    )
    assert names(StandardScaler(), renamed)[0] == "my p"


THRESHOLDS = st.one_of(
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from(NETWORK.predict_proba(X).ravel().tolist()),
    st.floats(0, 1),
)


@settings(max_examples=50, deadline=None)
@given(THRESHOLDS, st.sampled_from([None, "a", "b"]))
def test_the_rule_of_a_fixed_threshold(threshold, pos_label):
    model = FixedThresholdClassifier(
        FrozenEstimator(NETWORK), threshold=threshold, pos_label=pos_label
    ).fit(X, Y)
    rule = without_wrappers(model).rule
    found = model.classes_[rule.decide(NETWORK.predict_proba(X))]
    np.testing.assert_array_equal(found, model.predict(X))


@pytest.mark.parametrize("pos_label", ["a", "b"])
def test_the_rule_of_a_tuned_threshold(pos_label):
    model = TunedThresholdClassifierCV(
        mlp(), scoring=make_scorer(f1_score, pos_label=pos_label), cv=2
    ).fit(X, Y)
    network, _, rule = without_wrappers(model)
    assert network is model.estimator_
    assert rule.threshold == model.best_threshold_
    found = model.classes_[rule.decide(network.predict_proba(X))]
    np.testing.assert_array_equal(found, model.predict(X))
    # The outer one decides.
    outer = FixedThresholdClassifier(FrozenEstimator(model), threshold=0.9).fit(X, Y)
    assert without_wrappers(outer).rule.threshold == 0.9


def binary_net(threshold, *last, criterion=nn.BCEWithLogitsLoss, **params):
    skorch = pytest.importorskip("skorch")
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 1), *last)
    return skorch.NeuralNetBinaryClassifier(
        module,
        criterion=criterion,
        threshold=threshold,
        max_epochs=3,
        train_split=None,
        verbose=0,
        **params,
    ).fit(X.astype("f4"), (Y == "b").astype("f4"))


NETS = {
    "logits": lambda t: binary_net(t),
    "probabilities": lambda t: binary_net(t, nn.Sigmoid(), criterion=nn.BCELoss),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.62, 1.0])
def test_the_rule_of_a_skorch_net(name, threshold):
    net = NETS[name](threshold)
    check_rule(net, name == "probabilities")
    rule = without_wrappers(net).rule
    rows = X.astype("f4")
    np.testing.assert_array_equal(
        rule.decide(net.predict_proba(rows)), net.predict(rows)
    )


def halved_logits(outputs):
    second = torch.sigmoid(outputs / 2)
    return torch.stack([1 - second, second], 1)


def test_a_skorch_net_of_other_probabilities_is_refused():
    twice = binary_net(0.6, nn.Sigmoid())
    with pytest.raises(ValueError, match=r"returns probabilities, .*nn\.BCELoss"):
        check_rule(twice, ends_in_sigmoid=True)
    tempered = binary_net(0.6, predict_nonlinearity=halved_logits)
    with pytest.raises(ValueError, match="predict_nonlinearity='auto'"):
        check_rule(tempered, ends_in_sigmoid=False)


REFUSED = {
    "unfitted": (
        lambda: make_pipeline(StandardScaler(), mlp()),
        NotFittedError,
        "not fitted",
    ),
    "no network": (
        lambda: make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y),
        TypeError,
        "last step 'logisticregression' of the Pipeline must be the network, .*got Log",
    ),
    "no step": (
        lambda: Pipeline([("a", StandardScaler()), ("b", "passthrough")]).fit(X),
        TypeError,
        "last step 'b' of the Pipeline must be the network",
    ),
    "search": (
        lambda: GridSearchCV(mlp(), {}),
        ValueError,
        "GridSearchCV has no best_estimator_; fit it with refit=True",
    ),
    "calibrated": (
        lambda: CalibratedClassifierCV(mlp(), cv=2).fit(X, Y),
        TypeError,
        r"got a CalibratedClassifierCV, .*pass model.calibrated_classifiers_\[0\]",
    ),
    "calibrated in a pipeline": (
        lambda: make_pipeline(
            StandardScaler(), CalibratedClassifierCV(mlp(), cv=2)
        ).fit(X, Y),
        TypeError,
        "last step .* got CalibratedClassifierCV, whose calibration comes after",
    ),
    "target": (
        lambda: TransformedTargetRegressor(
            MLPRegressor(hidden_layer_sizes=(3,), tol=1e9)
        ).fit(X, X[:, 0]),
        TypeError,
        "got a TransformedTargetRegressor, .*pass model.regressor_",
    ),
    "several": (
        lambda: BaggingRegressor(MLPRegressor(tol=1e9), 2).fit(X, X[:, 0]),
        TypeError,
        "got a BaggingRegressor, .*pass one of model.estimators_",
    ),
    "decision_function": (
        lambda: FixedThresholdClassifier(NETWORK, response_method="decision_function"),
        ValueError,
        "response_method of this FixedThresholdClassifier must be 'auto'",
    ),
    "untuned": (
        lambda: TunedThresholdClassifierCV(mlp()),
        NotFittedError,
        "This TunedThresholdClassifierCV is not fitted",
    ),
}


@pytest.mark.parametrize(("make", "error", "match"), REFUSED.values(), ids=REFUSED)
def test_refused(make, error, match):
    with pytest.raises(error, match=match):
        read_chain(make(), 4)


def test_the_step_that_is_not_fitted_is_named():
    steps = without_wrappers(make_pipeline(StandardScaler(), FrozenEstimator(NETWORK)))
    with pytest.raises(NotFittedError, match=r"'standardscaler' .* call pipe\.fit"):
        steps.steps.transform(X)
