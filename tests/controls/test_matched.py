"""Controls of an unwrapper have as many weights as its network, where it has them."""

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from torch import nn

from skfeat.controls import fit_controls, shuffled_control, untrained_control
from skfeat.controls._matched import matched_budgets
from tests.adapters.test_torch_blocks import Residual
from tests.adapters.test_torch_blocks import mlp as branch
from tests.unwrapper.test_feature_unwrapper import X, mlp, unwrapper

pytestmark = [
    pytest.mark.usefixtures("few_updates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*features are dead"),
]

ENDS = {"connect_input": True, "connect_output": True}


@pytest.mark.parametrize(
    ("params", "groups", "frozen"),
    [
        ({}, [([1], 20), ([2], 20)], []),
        ({"train_encoder": False}, [([1], 20), ([2], 20)], [0]),
        ({"joint": False}, [([1], 20), ([2], 20)], [0]),
        ({"shared_budget": True}, [([1, 2], 40)], []),
        (ENDS, [([0], 20), ([1], 20), ([2], 20), ([3], 20)], []),
        ({**ENDS, "shared_budget": True}, [([0, 1, 2, 3], 80)], []),
        ({"connect_output": True}, [([1], 20), ([2], 20), ([3], 20)], []),
        ({"layers": ["0", "4"]}, [([1, 2], 20)], []),
    ],
    ids=str,
)
def test_layers_have_what_the_connectors_have(params, groups, frozen):
    budgets = matched_budgets(unwrapper(**params).fit(X))
    assert budgets.groups == groups
    assert budgets.frozen == frozen


def test_layers_of_a_branch_share(monkeypatch):
    monkeypatch.setattr("skfeat.controls._neurons._UPDATES", 10)
    first = mlp(7, 6, 6)[:2]
    model = nn.Sequential(first, Residual(branch(6, 9, 6), 6, 6), nn.Linear(6, 3))
    est = unwrapper(model).fit(X)
    assert len(est.connectors_) == 1
    budgets = matched_budgets(est)
    assert [len(group) for group, _ in budgets.groups] == [2]
    controls = fit_controls(est, X, random_state=0)
    assert list(controls) == ["pruned", "scratch", "untrained", "shuffled"]
    for control in controls.values():
        assert np.isfinite(control.predict_raw(X)).all()


def test_no_connectors_no_controls():
    est = unwrapper(mlp(7, 6, 3), n_nonzero_coefs=None, connector=None).fit(X)
    with pytest.raises(ValueError, match="unwrapper must have connectors"):
        fit_controls(est, X)


@pytest.mark.parametrize("control", [fit_controls, untrained_control, shuffled_control])
def test_a_model_is_no_unwrapper(control):
    with pytest.raises(TypeError, match="unwrapper must be a fitted FeatureUnwrapper"):
        control(mlp(7, 6, 3), X)
    with pytest.raises(NotFittedError):
        control(unwrapper(mlp(7, 6, 3)), X)
