"""The contract of FeatureUnwrapper: parameters, attributes, validation, methods."""

import itertools
import re
import time
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, r2_score
from torch import nn

from skfeat import FeatureConnector, FeatureUnwrapper, SparseAutoencoder
from skfeat.network import SparseFeatureNetwork
from skfeat.utils import _progress
from skfeat.utils._sklearn import InvalidParameterError

pytestmark = [
    pytest.mark.usefixtures("few_updates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*features are dead:UserWarning"),
]

X = np.random.default_rng(0).normal(size=(60, 7)).astype(np.float32)
BUDGET = 20


def mlp(*widths, head=(), seed=21, activation=nn.ReLU):
    """Make a chain of linear layers, "0", "2" and so on, with fixed weights."""
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for n_in, n_out in pairwise(widths):
        linear = nn.utils.skip_init(nn.Linear, n_in, n_out)
        with torch.no_grad():
            linear.weight.normal_(0, (2 / n_in) ** 0.5, generator=generator)
            linear.bias.normal_(0, 0.1, generator=generator)
        layers += [linear, activation()]
    return nn.Sequential(*layers[:-1], *head)


# Of its seed because every class is the model's choice for some rows of X.
MODEL = mlp(7, 6, 6, 5, 3)


def unwrapper(model=MODEL, **params):
    """Make an unwrapper that is fitted in milliseconds."""
    fast = {
        "autoencoder": SparseAutoencoder(8, k=3, max_iter=5),
        "connector": FeatureConnector(solver="minibatch", max_iter=5),
        "n_nonzero_coefs": BUDGET,
        "random_state": 0,
    }
    return FeatureUnwrapper(model, **fast | params)


def model_outputs(model, rows=X):
    with torch.no_grad():
        return model.eval()(torch.tensor(rows)).numpy()


def test_fit_sets_what_the_contract_says():
    est = unwrapper()
    params = est.get_params(deep=False)
    assert est.fit(X) is est
    assert [type(part) for part in est.autoencoders_] == [SparseAutoencoder] * 3
    assert [type(part) for part in est.connectors_] == [FeatureConnector] * 2
    assert est.layer_names_ == ["0", "2", "4"]
    np.testing.assert_array_equal(est.classes_, [0, 1, 2])
    assert est.n_features_in_ == 7
    assert not hasattr(est, "feature_names_in_")
    assert est.n_iter_ == len(est.loss_curve_) == 6
    assert all(type(loss) is float for loss in est.loss_curve_)
    assert isinstance(est.network(), SparseFeatureNetwork)
    assert [connector.coef_.shape for connector in est.connectors_] == [(8, 8)] * 2
    after = est.get_params(deep=False)
    assert all(after[name] is value for name, value in params.items())
    assert not hasattr(est.autoencoder, "components_")
    assert not hasattr(est.connector, "coef_")


def test_no_distillation():
    est = unwrapper(distill=False).fit(X)
    assert (est.n_iter_, est.loss_curve_) == (0, [])


def test_defaults():
    est = FeatureUnwrapper(mlp(7, 6, 5, 3), distill=False, random_state=0).fit(X)
    assert [part.components_.shape for part in est.autoencoders_] == [(24, 6), (20, 5)]
    assert [part.k for part in est.autoencoders_] == [3, 2]
    assert [part.coef_.nnz for part in est.connectors_] == [4 * 20]


@pytest.mark.parametrize("distill", [True, False])
def test_network_agrees_with_a_plain_loop(distill):
    est = unwrapper(distill=distill).fit(X)
    hidden = torch.relu(MODEL[0](torch.tensor(X))).detach().numpy()
    features = [est.autoencoders_[0].transform(hidden)]
    for connector in est.connectors_:
        features.append(connector.predict(features[-1]))
    back = est.autoencoders_[-1].inverse_transform(features[-1])
    logits = MODEL[-1](torch.tensor(back)).detach().numpy()

    network = est.network()
    np.testing.assert_allclose(network.predict_raw(X), logits, rtol=1e-6, atol=1e-6)
    for layer, expected in enumerate(features):
        np.testing.assert_allclose(
            est.transform(X, layer=layer), expected, rtol=1e-6, atol=1e-6
        )
    np.testing.assert_array_equal(est.predict(X), logits.argmax(axis=1))
    np.testing.assert_allclose(est.decision_function(X), logits, rtol=1e-5, atol=1e-6)
    proba = est.predict_proba(X)
    np.testing.assert_allclose(
        proba, torch.tensor(logits).softmax(dim=1), rtol=1e-5, atol=1e-6
    )
    assert max((codes != 0).sum(axis=1).max() for codes in features[:1]) <= 3


def test_transform_takes_names_and_indices():
    est = unwrapper().fit(X)
    last = est.transform(X)
    np.testing.assert_array_equal(last, est.transform(X, layer=2))
    np.testing.assert_array_equal(last, est.transform(X, layer="4"))
    first = est.transform(X, layer=-3)
    np.testing.assert_array_equal(first, est.transform(X, layer="0"))
    assert not np.array_equal(first, last)
    np.testing.assert_array_equal(unwrapper().fit_transform(X), last)
    for wrong in (3, -4, "1", None, 1.0):
        with pytest.raises(
            ValueError, match=r"from -3 to 2 or one of .*\['0', '2', '4'\]. Got"
        ):
            est.transform(X, layer=wrong)


def test_score():
    est = unwrapper().fit(X)
    y = np.arange(len(X)) % 3
    score = est.score(X, y)
    assert type(score) is float
    assert score == accuracy_score(y, est.predict(X))
    agreement = est.score(X)
    assert type(agreement) is float
    expected = (est.predict(X) == model_outputs(MODEL).argmax(axis=1)).mean()
    assert agreement == expected
    assert est.score(X[:20], y[:20]) == (est.predict(X[:20]) == y[:20]).mean()


def test_score_of_a_regressor():
    model = mlp(7, 6, 6, 1)
    est = unwrapper(model).fit(X)
    assert not hasattr(est, "classes_")
    assert not hasattr(est, "predict_proba")
    assert not hasattr(est, "decision_function")
    predicted = est.predict(X)
    assert predicted.shape == (60,)
    expected = r2_score(*(np.float64(part) for part in (X[:, 0], predicted)))
    assert est.score(X, X[:, 0]) == pytest.approx(expected, rel=1e-12)
    expected = r2_score(*map(np.float64, (model_outputs(model), predicted)))
    assert est.score(X) == pytest.approx(expected, rel=1e-6)


def test_clone_of_a_fitted_unwrapper():
    est = unwrapper().fit(X)
    copy = clone(est)
    assert not any(name.endswith("_") for name in vars(copy))
    assert repr(copy) == repr(est)
    assert copy.model is not est.model
    with pytest.raises(NotFittedError):
        copy.predict(X)
    np.testing.assert_array_equal(copy.fit(X).predict(X), est.predict(X))


@pytest.mark.parametrize("value", [-1, 3.0, "hello", np.ones(3), {}, object(), None])
@pytest.mark.parametrize("name", list(FeatureUnwrapper(0).get_params()))
def test_nothing_is_validated_before_fit(name, value):
    est = FeatureUnwrapper(**{"model": MODEL, name: value})
    assert getattr(est, name) is value
    est.set_params(**{name: value})
    assert repr(est)
    assert est._repr_html_()


def test_model_is_needed():
    with pytest.raises(TypeError, match="model"):
        FeatureUnwrapper()


@pytest.mark.parametrize("model", [nn.Linear, 42, None])
def test_model_is_no_model(model):
    with pytest.raises(
        TypeError, match=r"model must be a torch.nn.Module instance.*got"
    ):
        unwrapper(model).fit(X)


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"autoencoder": 3}, "'autoencoder' parameter of FeatureUnwrapper must be"),
        ({"connector": "relu"}, "'connector' parameter of FeatureUnwrapper must be"),
        ({"layers": "0"}, "'layers' parameter of FeatureUnwrapper must be"),
        ({"n_nonzero_coefs": -1}, "'n_nonzero_coefs' parameter"),
        ({"n_nonzero_coefs": 2.5}, "'n_nonzero_coefs' parameter"),
        ({"distill": "yes"}, "'distill' parameter"),
        ({"faithfulness": -0.1}, "'faithfulness' parameter"),
        ({"faithfulness": float("nan")}, "'faithfulness' parameter"),
        ({"task": "cluster"}, "'task' parameter"),
        ({"n_jobs": 1.5}, "'n_jobs' parameter"),
        ({"n_jobs": 0}, r"'n_jobs' parameter of Fea.*int in .*\[1, inf\).*Got 0"),
        ({"batch_size": 0}, "'batch_size' parameter"),
        ({"device": "gpu"}, "'device' parameter must be None or one of 'cpu', 'cuda'"),
        ({"random_state": np.random.default_rng(0)}, "'random_state' .*RandomState"),
        ({"random_state": torch.Generator()}, "'random_state' .*RandomState"),
        ({"verbose": -1}, "'verbose' parameter"),
        ({"autoencoder": SparseAutoencoder(0)}, "'n_components' parameter of Sparse"),
        (
            {"connector": FeatureConnector(alpha=-1), "n_nonzero_coefs": None},
            "'alpha' parameter of FeatureC",
        ),
    ],
)
def test_invalid_parameters(params, match):
    with pytest.raises(InvalidParameterError, match=match):
        unwrapper(**params).fit(X)


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks for a machine without CUDA")
def test_absent_device():
    with pytest.raises(ValueError, match="'device' parameter is 'cuda', but this mach"):
        unwrapper(device="cuda").fit(X)


def test_unknown_parameter():
    with pytest.raises(
        ValueError, match=r"Invalid parameter 'alfa' (.|\n)*\['autoencoder'"
    ):
        unwrapper().set_params(alfa=1)


def test_nested_parameters():
    est = unwrapper(n_nonzero_coefs=None)
    est.set_params(autoencoder__n_components=9, connector__alpha=0.5)
    assert (est.autoencoder.n_components, est.connector.alpha) == (9, 0.5)
    assert est.fit(X).network().n_components_ == [9, 9, 9]
    plain = FeatureUnwrapper(MODEL)
    with pytest.raises(
        ValueError, match="pass a SparseAutoencoder to FeatureUnwrapper"
    ):
        plain.set_params(autoencoder__n_components=8)
    with pytest.raises(ValueError, match="pass a FeatureConnector to FeatureUnwrapper"):
        plain.set_params(connector__alpha=0.1)
    plain.set_params(autoencoder=SparseAutoencoder(), autoencoder__n_components=8)
    assert plain.autoencoder.n_components == 8


def test_one_part_for_each_layer():
    autoencoders = [SparseAutoencoder(m, k=2, max_iter=3) for m in (8, 9, 10)]
    connectors = [
        FeatureConnector(solver="minibatch", max_iter=3),
        FeatureConnector(link="identity"),
    ]
    est = unwrapper(autoencoder=autoencoders, connector=connectors).fit(X)
    assert est.network().n_components_ == [8, 9, 10]
    assert est.network().links == ["relu", "identity"]
    assert not any(hasattr(part, "components_") for part in autoencoders)
    with pytest.raises(ValueError, match=r"'autoencoder' .*or a list of 3 of them"):
        unwrapper(autoencoder=autoencoders[:2]).fit(X)
    with pytest.raises(ValueError, match=r"'connector' .*or a list of 2 of them"):
        unwrapper(connector=[None, None]).fit(X)


def test_tags():
    assert is_classifier(unwrapper())
    assert is_regressor(unwrapper(mlp(7, 6, 1)))
    assert is_regressor(unwrapper(task="regression"))
    assert is_classifier(unwrapper(mlp(7, 6, 1), task="classification"))
    assert not unwrapper().__sklearn_tags__().target_tags.required


def test_large_models_are_shown_fast():
    model = nn.Sequential(nn.Linear(4096, 5000), nn.ReLU(), nn.Linear(5000, 10))
    est = FeatureUnwrapper(model)
    est._repr_html_()  # fills the caches of scikit-learn
    start = time.perf_counter()
    assert "Linear" in repr(est)
    assert "FeatureUnwrapper" in est._repr_html_()
    assert time.perf_counter() - start < 0.5  # the promise is 50 ms on an idle machine


@pytest.mark.parametrize("joint", [True, False])
def test_says_nothing_unless_asked(joint, capsys, monkeypatch):
    # Of parts that take no time nothing is told but their end.
    monkeypatch.setattr(_progress.time, "perf_counter", lambda: 0.0)
    unwrapper(joint=joint).fit(X).predict(X)
    assert capsys.readouterr() == ("", "")
    unwrapper(joint=joint, verbose=1).fit(X)
    lines = capsys.readouterr().out.splitlines()
    parts = [f"autoencoder of '{name}'" for name in "024"]
    if not joint:
        parts += ["connector from '0' to '2'", "connector from '2' to '4'"]
    found = [line.removeprefix("[FeatureUnwrapper] ") for line in lines[: len(parts)]]
    assert [line.partition(": ")[0] for line in found] == parts
    assert sum(" epoch " in line for line in lines) == 6
    assert len(lines) == len(parts) + 6


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("joint", [True, False])
def test_parts_that_take_long_say_how_far_they_are(joint, n_jobs, capsys, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(_progress.time, "perf_counter", lambda: 0.2 * next(ticks))
    est = unwrapper(joint=joint, verbose=1, n_jobs=n_jobs, max_iter=60)
    with parallel_config("threading"):
        est.set_params(autoencoder=SparseAutoencoder(8, k=2, max_iter=30)).fit(X)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= 45
    parts = [f"autoencoder of '{name}'" for name in "024"]
    parts.append("training together" if joint else "distillation")
    for part in parts:
        of_part = [
            x for x in lines if x.startswith(f"[FeatureUnwrapper] {part}: epoch")
        ]
        assert any(" left to " in line for line in of_part)


def test_long_epochs_say_how_far_they_are(capsys, monkeypatch):
    ticks = itertools.count()
    monkeypatch.setattr(_progress.time, "perf_counter", lambda: 20.0 * next(ticks))
    unwrapper(verbose=1, max_iter=2, batch_size=5).fit(X)
    lines = capsys.readouterr().out.splitlines()
    start = "[FeatureUnwrapper] training together: "
    of_part = [x.removeprefix(start) for x in lines if x.startswith(start)]
    assert len(of_part) <= 15
    assert of_part[0] == "features of layer 1 of 3: row 60 of 60"
    assert any(
        x.startswith("start of connector 2 of 2: output 8 of 8") for x in of_part
    )
    assert any(
        re.fullmatch(r"epoch 2 of 2: batch \d+ of 12, .* left", x) for x in of_part
    )


@pytest.mark.parametrize("n_jobs", [None, 1])
def test_warnings_name_the_part(n_jobs):
    few = {"connect_input": True, "connect_output": True, "n_jobs": n_jobs}
    est = unwrapper(
        mlp(7, 6, 5, 3),
        autoencoder=SparseAutoencoder(8, k=20, max_iter=1),
        connector=FeatureConnector(solver="full_batch", max_iter=2, tol=0.0),
        n_nonzero_coefs=None,
        **few,
    )
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        est.fit(X)
    texts = [str(w.message) for w in caught]
    both = "2 of 2 autoencoders (autoencoder of '0', autoencoder of '2')"
    assert sum(both in text for text in texts) >= 1
    parts = {text.partition(": ")[0] for text in texts}
    assert "autoencoder of '0'" in parts
    connectors = {
        "connector from the inputs to '0'",
        "connector from '0' to '2'",
        "connector from '2' to the outputs",
    }
    assert parts & connectors
    assert parts <= {"autoencoder of '0'", "autoencoder of '2'", *connectors}
    with pytest.warns(UserWarning, match=r"^k=20 is larger than n_components=8"):
        SparseAutoencoder(8, k=20, max_iter=2).fit(X)
