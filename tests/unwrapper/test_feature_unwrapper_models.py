"""FeatureUnwrapper round models of every kind, its budgets, layers and labels."""

import numpy as np
import pytest
import torch
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import r2_score
from sklearn.model_selection import cross_val_predict
from sklearn.neural_network import MLPClassifier, MLPRegressor
from torch import nn

from skfeat import FeatureConnector, SparseAutoencoder
from skfeat.adapters import read_chain
from skfeat.initialization import product_init
from skfeat.metrics import kl_divergence
from tests.unwrapper.test_feature_unwrapper import (
    BUDGET,
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
]

FOUR = {"solver": "full_batch", "max_iter": 30}
# Enough features, all active: little is left out of them.
EXACT = SparseAutoencoder(40, k=40, max_iter=400, tol=0.0)


@pytest.mark.parametrize("head", [nn.Softmax(dim=1), nn.LogSoftmax(dim=1)])
def test_heads_do_not_matter(head):
    expected = unwrapper().fit(X)
    found = unwrapper(mlp(7, 6, 6, 5, 3, head=[head])).fit(X)
    np.testing.assert_array_equal(found.predict(X), expected.predict(X))
    np.testing.assert_allclose(
        found.predict_proba(X), expected.predict_proba(X), rtol=1e-5, atol=1e-6
    )
    assert found.score(X) == expected.score(X)
    kl = [est.report(X)["kl"][-1] for est in (found, expected)]
    assert kl[0] == pytest.approx(kl[1], rel=1e-3, abs=1e-6)


def test_one_sigmoid_is_two_classes():
    logit, probability = mlp(7, 6, 5, 1), mlp(7, 6, 5, 1, head=[nn.Sigmoid()])
    expected = unwrapper(logit, task="classification").fit(X)
    found = unwrapper(probability).fit(X)
    decision = found.decision_function(X)
    assert decision.shape == (60,)
    np.testing.assert_allclose(
        decision, expected.decision_function(X), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_array_equal(found.predict(X), (decision > 0).astype(int))
    np.testing.assert_allclose(
        found.predict_proba(X)[:, 1], 1 / (1 + np.exp(-decision)), rtol=1e-5
    )
    model_label = model_outputs(probability)[:, 0] > 0.5
    assert found.score(X) == (found.predict(X) == model_label).mean()


def test_two_outputs_decide_by_their_difference():
    est = unwrapper(mlp(7, 6, 5, 2)).fit(X)
    raw = est.network().predict_raw(X)
    np.testing.assert_array_equal(est.decision_function(X), raw[:, 1] - raw[:, 0])
    np.testing.assert_array_equal(est.predict(X), raw.argmax(axis=1))


@pytest.mark.parametrize("head", [nn.Sigmoid(), nn.Softmax(dim=1)])
def test_regression_keeps_the_head(head):
    n_outputs = 1 if isinstance(head, nn.Sigmoid) else 3
    model = mlp(7, 12, n_outputs, head=[head])
    est = unwrapper(
        model,
        task="regression",
        autoencoder=EXACT,
        connector=None,
        n_nonzero_coefs=None,
    ).fit(X)
    expected = model_outputs(model)
    values = est.predict(X).reshape(60, -1)
    assert ((values >= 0) & (values <= 1)).all()
    assert r2_score(expected, values) > 0.9
    assert est.score(X) == pytest.approx(r2_score(expected, values))
    assert est.report(X)["score_model"][-1] == pytest.approx(1.0)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_mlp_classifier(n_classes):
    y = np.array(["a", "b", "c"])[np.arange(60) % n_classes]
    model = MLPClassifier((6, 5), max_iter=30, random_state=0).fit(X, y)
    est = unwrapper(model).fit(X)
    np.testing.assert_array_equal(est.classes_, model.classes_)
    assert est.layer_names_ == ["hidden_0", "hidden_1"]
    assert est.predict_proba(X).shape == (60, n_classes)
    assert est.score(X) == (est.predict(X) == model.predict(X)).mean()
    report = est.report(X, y)
    assert report["score_model"][-1] == model.score(X, y)
    assert report["score"][-1] == est.score(X, y)


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_mlp_regressor(n_outputs):
    y = X[:, :n_outputs].squeeze()
    model = MLPRegressor(
        hidden_layer_sizes=(6, 5), max_iter=30, random_state=0, tol=1e-8
    ).fit(X, y)
    est = unwrapper(model).fit(X, y)
    assert not hasattr(est, "classes_")
    assert est.predict(X).shape == model.predict(X).shape
    report = est.report(X, y)
    assert report["score_model"][-1] == pytest.approx(model.score(X, y), rel=1e-5)
    assert np.isnan(report["kl"][-1])


def test_several_labels_at_once_are_refused():
    y = (X[:, :3] > 0).astype(int)
    model = MLPClassifier((6, 5), max_iter=20, random_state=0).fit(X, y)
    for several in (model, mlp(7, 6, 5, 3, head=[nn.Sigmoid()])):
        with pytest.raises(ValueError, match=r"several labels at once \(3 outputs"):
            unwrapper(several).fit(X)
        est = unwrapper(several, task="regression").fit(X)
        values = est.predict(X)
        assert ((values >= 0) & (values <= 1)).all()


def test_unfitted_and_frozen_models():
    y = np.arange(60) % 3
    model = MLPClassifier((6, 5), max_iter=20, random_state=0)
    with pytest.raises(NotFittedError, match=r"FrozenEstimator\(model\) of sklearn"):
        unwrapper(model).fit(X)
    model.fit(X, y)
    expected = unwrapper(model).fit(X)
    found = unwrapper(FrozenEstimator(model)).fit(X)
    np.testing.assert_array_equal(found.predict(X), expected.predict(X))
    np.testing.assert_array_equal(found.classes_, model.classes_)
    assert found.score(X) == expected.score(X)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_skorch():
    skorch = pytest.importorskip("skorch")
    y = np.arange(60) % 3
    net = skorch.NeuralNetClassifier(
        mlp(7, 6, 5, 3, head=[nn.Softmax(dim=1)]),
        max_epochs=2,
        verbose=0,
        train_split=None,
    ).fit(X, y)
    est = unwrapper(net).fit(X)
    assert est.score(X) == (est.predict(X) == net.predict(X)).mean()
    np.testing.assert_array_equal(est.classes_, [0, 1, 2])


@pytest.mark.parametrize(
    ("dtype", "expected"), [("double", "f8"), ("half", "f4"), ("float", "f4")]
)
def test_dtype_of_the_model(dtype, expected):
    model = getattr(mlp(7, 6, 5, 3), dtype)()
    for rows in (X, X.astype(np.float64)):
        est = unwrapper(model).fit(rows)
        assert est.decision_function(rows).dtype == expected
        assert est.transform(rows).dtype == expected
        assert 0 <= est.score(rows) <= 1


KINDS = {
    "nested": lambda: nn.Sequential(
        nn.Sequential(nn.Linear(7, 6), nn.ReLU()), nn.Sequential(mlp(6, 5, 3))
    ),
    "inplace": lambda: nn.Sequential(
        nn.Linear(7, 6), nn.ReLU(inplace=True), nn.Linear(6, 3)
    ),
    "flatten first": lambda: nn.Sequential(nn.Flatten(), mlp(7, 6, 3)),
    "identity": lambda: nn.Sequential(nn.Identity(), mlp(7, 6, 3), nn.Identity()),
    "shared": lambda: _shared(nn.ReLU()),
    "tanh": lambda: mlp(7, 6, 5, 3, activation=nn.Tanh),
    "layer norm": lambda: nn.Sequential(
        nn.Linear(7, 6), nn.LayerNorm(6), nn.GELU(), nn.Linear(6, 3)
    ),
    "custom": lambda: Custom(),
}


class Custom(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(7, 6), nn.Linear(6, 3)

    def forward(self, x):
        return self.second(torch.relu(self.first(x)))


class Fork(Custom):
    def forward(self, x):
        return self.second(torch.relu(self.first(x)) if x.sum() > 0 else x)


def _shared(relu):
    return nn.Sequential(nn.Linear(7, 6), relu, nn.Linear(6, 6), relu, nn.Linear(6, 3))


@pytest.mark.parametrize("name", KINDS)
def test_kinds_of_model(name):
    torch.manual_seed(0)
    model = KINDS[name]()
    several = len(read_chain(model, 7).hidden) > 1
    est = unwrapper(
        model,
        autoencoder=EXACT,
        connector=FeatureConnector(alpha=0.0, max_iter=100) if several else None,
        n_nonzero_coefs=None,
        distill=False,
    ).fit(X)
    with torch.no_grad():
        expected = model(torch.tensor(X)).numpy()
    error = np.square(est.decision_function(X) - expected).mean() / expected.var()
    assert error < 0.15, "the network of all features is far from the model"
    assert est.report(X)["score_model"][-1] == 1.0


def test_models_that_cannot_be_unwrapped():
    unknown = {
        "Conv1d": nn.Sequential(nn.Conv1d(1, 1, 1), nn.ReLU(), nn.Linear(7, 3)),
        "MultiheadAttention": nn.TransformerEncoderLayer(7, 1, 6, batch_first=True),
        "GRU": nn.Sequential(nn.GRU(7, 6), nn.Linear(6, 3)),
        "branches on the data": Fork(),
    }
    for name, model in unknown.items():
        with pytest.raises(TypeError, match=f"{name}.*; supported: chains and resid"):
            unwrapper(model).fit(X)
    lazy = nn.Sequential(nn.LazyLinear(4), nn.ReLU(), nn.Linear(4, 2))
    with pytest.raises(ValueError, match="layer '0' is not initialised yet"):
        unwrapper(lazy).fit(X)
    with pytest.raises(ValueError, match="has no hidden layer to unwrap"):
        unwrapper(nn.Sequential(nn.Linear(7, 3))).fit(X)


class Casts(nn.Module):
    """Has weights of two dtypes, and gives each what it takes."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(7, 6), nn.Linear(6, 6)
        self.last = nn.Linear(6, 3).double()

    def forward(self, x):
        x = torch.relu(self.second(torch.relu(self.first(x))))
        return self.last(x.double())


@pytest.mark.parametrize("start", [None, "0"])
def test_weights_of_two_dtypes(start):
    model = nn.Sequential(
        nn.Linear(7, 6), nn.ReLU(), nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3).double()
    )
    match = r"model must .*'0.weight' is torch.float32 and '4.weight' is torch.float64"
    with pytest.raises(ValueError, match=match):
        unwrapper(model, start=start).fit(X)
    unwrapper(model.double(), start=start).fit(X)
    assert unwrapper(Casts()).fit(X).report(X)["score_model"][-1] == 1.0


def test_layers_by_any_name():
    expected = unwrapper(layers=["0", "4"]).fit(X)
    assert expected.layer_names_ == ["0", "4"]
    assert len(expected.connectors_) == 1
    for names in (["5", "1"], ("4", "0"), np.array(["0", "5"]), ["0", "1", "4"]):
        found = unwrapper(layers=names).fit(X)
        assert found.layer_names_ == ["0", "4"]
        np.testing.assert_array_equal(found.predict(X), expected.predict(X))
    one = unwrapper(layers=["2"], connector=None, n_nonzero_coefs=None).fit(X)
    assert (one.connectors_, one.n_iter_, one.loss_curve_) == ([], 0, [])
    assert one.network().n_weights_ == []
    assert 0 <= one.score(X) <= 1


@pytest.mark.parametrize("layers", [["0", "nope"], [], ["6"]])
def test_missing_layers(layers):
    with pytest.raises(
        ValueError, match=r"must name hidden layers of the model: \['0', '2', '4'\]"
    ):
        unwrapper(layers=layers).fit(X)


@pytest.mark.parametrize("connector", [{"solver": "minibatch", "max_iter": 5}, FOUR])
@pytest.mark.parametrize("distill", [True, False])
@pytest.mark.parametrize(
    ("budget", "expected"),
    [(BUDGET, [20, 20]), ([10, 30], [10, 30]), (0, [0, 0]), (1000, None)],
)
def test_budgets_are_met(budget, expected, distill, connector):
    est = unwrapper(
        n_nonzero_coefs=budget,
        distill=distill,
        connector=FeatureConnector(**connector),
    ).fit(X)
    found = [part.coef_.nnz for part in est.connectors_]
    if expected is None:
        assert max(found) <= 64
    else:
        assert found == expected
        params = [part.n_nonzero_coefs for part in est.connectors_]
        assert params == expected
    assert est.network().n_weights_ == found
    assert [np.count_nonzero(c.coef_.toarray()) for c in est.connectors_] == found


@pytest.mark.parametrize("distill", [True, False])
def test_budgets_of_the_connectors(distill):
    connector = FeatureConnector(solver="minibatch", max_iter=5, n_nonzero_coefs=15)
    est = unwrapper(connector=connector, n_nonzero_coefs=None, distill=distill).fit(X)
    assert [part.coef_.nnz for part in est.connectors_] == [15, 15]
    est.set_params(n_nonzero_coefs=[None, 9]).fit(X)
    assert [part.coef_.nnz for part in est.connectors_] == [15, 9]


@pytest.mark.parametrize(
    "change",
    [
        {"autoencoder": [SparseAutoencoder(8, k=3, max_iter=5)] * 2},
        {"connector": [FeatureConnector(solver="minibatch", max_iter=5)]},
        {"n_nonzero_coefs": (5,)},
        {"n_nonzero_coefs": np.array([5])},
    ],
)
def test_lists_go_with_layers_in_order(change):
    for layers in (["4", "0"], ["1", "0", "4"], np.array(["5", "1"])):
        (name,) = change
        match = rf"once, in the order of the model, where '{name}'.*\['0', '4'\]\. Got"
        with pytest.raises(ValueError, match=match):
            unwrapper(layers=layers, **change).fit(X)
    est = unwrapper(layers=["1", "4"], **change).fit(X)
    assert est.layer_names_ == ["0", "4"]


def test_budgets_that_change_nothing():
    needs = r"which needs a connector, which a single unwrapped layer has only with c"
    for asked, named in [
        ({}, ["n_nonzero_coefs"]),
        ({"n_nonzero_coefs": None, "shared_budget": True}, ["shared_budget"]),
        ({"shared_budget": True}, ["n_nonzero_coefs", "shared_budget"]),
    ]:
        with pytest.warns(UserWarning, match=needs) as record:
            unwrapper(layers=["2"], connector=None, **asked).fit(X)
        assert [str(w.filename) for w in record] == [__file__]
        text = str(record[0].message)
        assert [n for n in ("n_nonzero_coefs", "shared_budget") if n in text] == named
    for asked in ({"n_nonzero_coefs": [], "connector": None}, {"connect_input": True}):
        unwrapper(layers=["2"], **asked).fit(X)
    with pytest.raises(ValueError, match="shared_budget=True needs distill=True"):
        unwrapper(shared_budget=True, distill=False).fit(X)


@pytest.mark.parametrize(
    "budget", [[20], [20, 20, 20], [20, -1], [20, 2.5], [], [True, 3]]
)
def test_wrong_budgets(budget):
    with pytest.raises(ValueError, match=r"one for each of the 2 connectors\. Got"):
        unwrapper(n_nonzero_coefs=budget).fit(X)


@pytest.mark.parametrize("flag", [True, False])
def test_flags_are_no_budgets(flag):
    with pytest.raises(ValueError, match=rf"n_nonzero_coefs.* Got {flag} instead"):
        unwrapper(n_nonzero_coefs=flag).fit(X)


def test_product_start():
    connector = FeatureConnector(init="product", solver="full_batch", max_iter=5)
    est = unwrapper(connector=connector, distill=False).fit(X)
    for index, part in enumerate(est.connectors_):
        linear = MODEL[2 * index + 2]
        expected = product_init(
            est.autoencoders_[index],
            linear.weight.detach().numpy(),
            linear.bias.detach().numpy(),
            est.autoencoders_[index + 1],
        )
        np.testing.assert_allclose(part.init[0], expected[0], rtol=1e-5)
        np.testing.assert_allclose(part.init[1], expected[1], rtol=1e-5)
    assert est.connector.init == "product"
    with pytest.raises(ValueError, match=r"single linear layer .* between '0' and '4'"):
        unwrapper(connector=connector, layers=["0", "4"]).fit(X)


def test_string_labels():
    names = np.array(["cat", "dog", "eel"])
    y = names[np.arange(60) % 3]
    est = unwrapper().fit(X, y)
    np.testing.assert_array_equal(est.classes_, names)
    plain = unwrapper().fit(X)
    np.testing.assert_array_equal(est.predict(X), names[plain.predict(X)])
    assert est.score(X, y) == (est.predict(X) == y).mean()
    assert est.score(X) == plain.score(X)


def test_labels_that_are_not_those_of_the_model():
    y = np.arange(60) % 3
    np.testing.assert_array_equal(unwrapper().fit(X, y + 5).classes_, [5, 6, 7])
    for lacking in (y % 2, (y % 2).astype(float), y % 2 * 2):
        np.testing.assert_array_equal(unwrapper().fit(X, lacking).classes_, [0, 1, 2])
    strings = np.array(["a", "b"])[y % 2]
    with pytest.raises(ValueError, match="y has 2 classes, but the model has 3 outp"):
        unwrapper().fit(X, strings)
    with pytest.raises(ValueError, match="y has 4 classes, but the model has 3 outp"):
        unwrapper().fit(X, np.arange(60) % 4)
    with pytest.raises(ValueError, match="Unknown label type: continuous"):
        unwrapper().fit(X, X[:, 0])
    with pytest.raises(
        ValueError, match=r"inconsistent numbers of samples: \[60, 59\]"
    ):
        unwrapper().fit(X, y[:-1])
    with pytest.raises(ValueError, match="Input y contains NaN"):
        unwrapper().fit(X, np.full(60, np.nan))


def test_refit_round_a_regressor_forgets_the_classes():
    est = unwrapper().fit(X, np.array(["a", "b", "c"])[np.arange(60) % 3])
    est.set_params(model=mlp(7, 6, 5, 1)).fit(X)
    assert not hasattr(est, "classes_")
    assert np.isnan(est.report(X)["kl"][-1])


def test_labels_are_never_fitted_to():
    y = np.arange(60) % 3
    expected = unwrapper().fit(X).decision_function(X)
    np.testing.assert_array_equal(unwrapper().fit(X, y).decision_function(X), expected)


def test_distillation_lowers_the_divergence(monkeypatch):
    monkeypatch.setattr("skfeat.solvers.joint._train._UPDATES", 300)
    logits = model_outputs(MODEL)
    params = {"autoencoder": SparseAutoencoder(16, k=4, max_iter=60)}
    before, after = (
        kl_divergence(
            logits, unwrapper(distill=distill, **params).fit(X).decision_function(X)
        )
        for distill in (False, True)
    )
    assert after < 0.8 * before


def test_faithfulness_holds_the_features(monkeypatch):
    monkeypatch.setattr("skfeat.solvers.joint._train._UPDATES", 300)
    free, held = (
        unwrapper(faithfulness=weight).fit(X).report(X) for weight in (0.0, 100.0)
    )
    for index in (1, 2):
        assert held["r2_network"][index] > free["r2_network"][index]
    assert held["kl"][-1] > free["kl"][-1]


def test_labels_that_a_scikit_learn_model_does_not_know():
    y = np.arange(len(X)) % 3
    model = MLPClassifier((6, 5), max_iter=20, random_state=0).fit(X, y)
    with pytest.raises(ValueError, match=r"y has the label 'a', but the model's class"):
        unwrapper(model).fit(X, np.array(["a", "b", "c"])[y])


def test_numbers_of_the_classes_that_a_scikit_learn_model_knows():
    names = np.array(["a", "b", "c"])
    numbers = np.arange(len(X)) % 3
    model = MLPClassifier((6, 5), max_iter=20, random_state=0).fit(X, names[numbers])
    named = unwrapper(model).fit(X, names[numbers])
    found = unwrapper(model).fit(X, numbers)
    np.testing.assert_array_equal(found.classes_, [0, 1, 2])
    np.testing.assert_array_equal(names[found.predict(X)], named.predict(X))
    assert found.score(X, numbers) == named.score(X, names[numbers])
    report = found.report(X, numbers)
    assert report["score_model"][-1] == np.mean(model.predict(X) == names[numbers])
    # As these pass them, in folds that may lack a class.
    kept = names[numbers]
    proba = cross_val_predict(unwrapper(model), X, kept, cv=2, method="predict_proba")
    assert proba.shape == (len(X), 3)
    voting = VotingClassifier([("one", unwrapper(model)), ("two", unwrapper(model))])
    assert set(voting.fit(X, kept).predict(X)) <= set(names)
    with pytest.raises(ValueError, match="their numbers from 0 to 2, or none"):
        unwrapper(model).fit(X, numbers + 1)
