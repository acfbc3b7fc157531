"""The user's model is the same before and after, whatever is done and fails."""

import copy
import threading
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.neural_network import MLPClassifier
from torch import nn

from skfeat import FeatureConnector, SparseAutoencoder
from skfeat.testing import AnyWidthMLP
from tests.adapters.test_torch_reader import assert_untouched, snapshot
from tests.unwrapper.test_feature_unwrapper import (
    X,
    mlp,
    unwrapper,
)

pytestmark = [
    pytest.mark.usefixtures("few_updates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*features are dead:UserWarning"),
]


def training_model():
    """Make a model in the midst of its training, with hooks and frozen weights."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(7, 6),
        nn.BatchNorm1d(6),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Linear(6, 5),
        nn.ReLU(),
        nn.Linear(5, 3),
    )
    model(torch.tensor(X)).sum().backward()
    model[0].weight.requires_grad_(False)
    model[5].eval()
    return model


class Traced(nn.Module):
    """Has a custom forward, which is followed by torch.fx, and keeps a value."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(7, 6), nn.Linear(6, 3)

    def forward(self, x):
        self.last = torch.relu(self.first(x))
        return self.second(self.last)


def use_everything(est):
    est.fit(X)
    est.predict(X)
    est.transform(X)
    est.score(X)
    est.report(X)
    est.network()
    clone(est)


def test_everything_leaves_the_model_alone():
    model = training_model()
    for module in model.modules():
        module.register_forward_hook(lambda *args: None)
        module.register_forward_pre_hook(lambda *args: None)
    before = snapshot(model)
    use_everything(unwrapper(model))
    assert_untouched(model, before)
    assert [module.training for module in model] == [*[True] * 5, False, True]


def test_a_custom_forward_is_left_alone():
    torch.manual_seed(0)
    model = Traced()
    model(torch.tensor(X))
    weights, call = copy.deepcopy(model.state_dict()), nn.Module.__call__
    fit = unwrapper(model, connector=None, n_nonzero_coefs=None).fit(X)
    fit.report(X)
    assert model.state_dict().keys() == weights.keys()
    assert all(torch.equal(model.state_dict()[name], weights[name]) for name in weights)
    assert type(model.last) is torch.Tensor
    assert model.training
    assert not model._forward_hooks
    assert nn.Module.__call__ is call


# What fails, from the first thing that fit looks at to the last.
FAILURES = {
    "X": ({}, X[:, :6]),
    "layers": ({"layers": ["none"]}, X),
    "budget": ({"n_nonzero_coefs": [1, 2, 3]}, X),
    "device": ({"device": "gpu"}, X),
    "autoencoder": (
        {"autoencoder": SparseAutoencoder(8, learning_rate_init=1e300)},
        X,
    ),
    "connector": (
        {"connector": FeatureConnector(init=(np.ones((1, 1)), np.ones(1)))},
        X,
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failing_fit_leaves_the_model_alone(name):
    params, rows = FAILURES[name]
    model = training_model()
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"\w"):
        unwrapper(model, **params).fit(rows)
    assert_untouched(model, before)


def test_a_raising_hook_leaves_the_model_alone():
    model = training_model()

    def refuse(*args):
        raise ZeroDivisionError

    model[4].register_forward_hook(refuse)
    before = snapshot(model)
    with pytest.raises(ZeroDivisionError):
        unwrapper(model).fit(X)
    assert_untouched(model, before)


def test_hooks_fire_and_remain():
    model, calls = training_model(), []
    handle = model[2].register_forward_hook(lambda *args: calls.append(len(args[2])))
    est = unwrapper(model).fit(X)
    assert calls, "checking the model against its chain runs the model"
    calls.clear()
    est.score(X)
    assert calls == [60]
    handle.remove()
    assert not model[2]._forward_hooks


def test_a_model_in_train_mode_is_read_in_eval_mode():
    model = training_model()
    in_eval = copy.deepcopy(model).eval()
    est, expected = unwrapper(model).fit(X), unwrapper(in_eval).fit(X)
    np.testing.assert_array_equal(est.predict(X), expected.predict(X))
    np.testing.assert_array_equal(est.predict(X), est.predict(X))
    assert est.score(X) == expected.score(X) == est.score(X)
    np.testing.assert_allclose(
        est.decision_function(X[:1]), est.decision_function(X)[:1], rtol=1e-5
    )
    assert est.score(X[:1]) in (0.0, 1.0)


def test_training_goes_on_as_if_nothing_had_happened():
    runs = []
    for between in (lambda model: None, lambda model: use_everything(unwrapper(model))):
        model = training_model()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        torch.manual_seed(1)
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.tensor(X)).square().sum().backward()
            optimizer.step()
            between(model)
        runs.append(model.state_dict())
    assert all(torch.equal(runs[0][name], runs[1][name]) for name in runs[0])


def test_a_scikit_learn_model_is_left_alone():
    model = MLPClassifier((6, 5), max_iter=10, random_state=0)
    model.fit(X, np.arange(60) % 3)
    before = copy.deepcopy(vars(model))
    use_everything(unwrapper(model))
    after = vars(model)
    assert after.keys() == before.keys()
    for name in ("coefs_", "intercepts_"):
        for found, expected in zip(after[name], before[name], strict=True):
            np.testing.assert_array_equal(found, expected)
    assert after["n_iter_"] == before["n_iter_"]


def test_a_clone_has_a_model_of_its_own():
    model = MLPClassifier((6, 5), max_iter=10, random_state=0)
    model.fit(X, np.arange(60) % 3)
    for own in (model, training_model()):
        est = unwrapper(own)
        copied = clone(est)
        assert copied.model is not own
        np.testing.assert_array_equal(copied.fit(X).predict(X), est.fit(X).predict(X))


def test_a_model_that_cannot_be_copied():
    torch.manual_seed(0)
    model = Traced()
    model(torch.tensor(X))
    est = unwrapper(model, connector=None, n_nonzero_coefs=None)
    with pytest.raises(RuntimeError, match=r"this one cannot be copied.*\.detach\(\)"):
        clone(est)
    assert est.fit(X).predict(X).shape == (60,)
    model(torch.tensor(X))
    model.last = model.last.detach()
    assert clone(est).fit(X).predict(X).shape == (60,)


def test_any_width_mlp_holds_the_same_after_each_use():
    # In place of scikit-learn's check_estimators_overwrite_params.
    model = AnyWidthMLP()
    before = snapshot(model)
    est = unwrapper(model).fit(X)
    assert est.model is model
    assert_untouched(model, before)
    copied = clone(est).model
    expected = model.state_dict()
    assert copied.state_dict().keys() == expected.keys()
    assert all(torch.equal(copied.state_dict()[key], expected[key]) for key in expected)
    state = torch.get_rng_state()
    assert all(
        torch.equal(AnyWidthMLP().state_dict()[k], expected[k]) for k in expected
    )
    assert torch.equal(torch.get_rng_state(), state)


def test_global_state_is_left_alone():
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    torch_state, threads = torch.get_rng_state(), torch.get_num_threads()
    filters, dtype = list(warnings.filters), torch.get_default_dtype()
    use_everything(unwrapper(mlp(7, 6, 5, 3)))
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert torch.get_num_threads() == threads
    assert warnings.filters == filters
    assert torch.get_default_dtype() == dtype
    assert torch.is_grad_enabled()


def test_two_threads_round_one_model():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(7, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)
    )
    expected = [
        unwrapper(model, connector=None, n_nonzero_coefs=None).fit(rows).predict(X)
        for rows in (X, X[::2])
    ]
    found, errors = {}, []

    def work(index):
        try:
            rows = X if index % 2 == 0 else X[::2]
            found[index] = (
                unwrapper(model, connector=None, n_nonzero_coefs=None)
                .fit(rows)
                .predict(X)
            )
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    for index in range(4):
        np.testing.assert_array_equal(found[index], expected[index % 2])
    assert all(module.training for module in model.modules())
