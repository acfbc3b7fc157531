"""Controls of convolutional models have weights that positions share, too."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.datasets import load_digits
from torch import nn

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.adapters import read_chain
from skfeat.chain._steps import linear_layers
from skfeat.controls import fit_controls, pruned_control, shuffled_control
from skfeat.network import SparseMapNetwork
from skfeat.solvers._trained_steps import TrainedConvolution

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*features are dead"),
]

IMAGES, LABELS = load_digits(return_X_y=True)
X = (IMAGES / 16).astype(np.float32).reshape(-1, 1, 8, 8)[:400]
y = LABELS[:400]


@pytest.fixture(scope="module")
def model():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32, 10),
        )
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    rows, labels = torch.from_numpy(X), torch.from_numpy(y)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(rows), labels).backward()
        optimizer.step()
    return model.eval()


def unwrapper(model, **params):
    part = SparseAutoencoder(8, k=3, max_iter=3, random_state=0)
    params = {"max_iter": 15, "n_nonzero_coefs": 100, "batch_size": 100} | params
    return FeatureUnwrapper(model, autoencoder=part, random_state=0, **params)


@pytest.fixture(scope="module")
def fitted(model):
    return unwrapper(model, connect_output=True).fit(X, y)


def test_a_report_has_all_controls(fitted, monkeypatch):
    monkeypatch.setattr("skfeat.controls._neurons._UPDATES", 150)
    report = fitted.report(X, y, controls=True, X_train=X[:300])
    table = report.controls
    names = ["model", "features", "pruned", "scratch", "untrained", "shuffled"]
    assert table.network == names
    of = dict(zip(names, table.score, strict=True))
    assert of["pruned"] > 0.8
    assert of["features"] > of["shuffled"] + 0.2
    # Features and weights count once, whatever the positions.
    assert [table.n_features[i] for i in (1, 4, 5)] == [16] * 3
    assert [table.n_weights[i] for i in (1, 4, 5)] == [200] * 3
    # An active feature is one of a position.
    assert report.l0[-1] <= 16


@pytest.mark.parametrize("joint", [True, False])
def test_layers_have_what_the_connectors_have(model, fitted, joint):
    one = fitted
    if not joint:
        params = {"joint": False, "connect_input": True, "n_nonzero_coefs": None}
        one = unwrapper(model, **params).fit(X[:100], y[:100])
    controls = fit_controls(one, X[:100], max_iter=2, random_state=0)
    for name in ("pruned", "scratch"):
        layers = linear_layers(controls[name].chain.steps)
        kept = [int(np.count_nonzero(layer.arrays["coef"])) for layer in layers]
        # What is no connector's is dense, as it is in the network.
        if joint:
            assert kept == [54, 100, 100]
        else:
            assert kept == [54, one.network().n_weights_[0], 320]
    before = [step.arrays["coef"] for step in linear_layers(one._chain.steps)]
    pruned = linear_layers(controls["pruned"].chain.steps)[1].arrays["coef"]
    assert not np.array_equal(pruned[pruned != 0], before[1][pruned != 0])


def test_shuffled_networks_are_of_maps(model):
    one = unwrapper(model, connect_input=True, connect_output=True, max_iter=1)
    one.fit(X[:200], y[:200])
    own, control = one.network(), shuffled_control(one, X[:200], random_state=0)
    assert isinstance(control, SparseMapNetwork)
    assert control.map_shapes == own.map_shapes
    assert control.n_weights_ == own.n_weights_
    assert control.n_weights_in_ <= own.n_weights_in_
    assert control.feature_names_ == own.feature_names_
    again = shuffled_control(one, X[:200], random_state=0)
    assert (again.shared_coefs_[0] != control.shared_coefs_[0]).nnz == 0


def test_a_pruned_convolution_runs_at_all_positions(model):
    control = pruned_control(model, X, n_nonzero_coefs=[20, 90, 120], max_iter=150)
    kept = [
        int(np.count_nonzero(layer.arrays["coef"]))
        for layer in linear_layers(control.chain.steps)
    ]
    assert kept == [20, 90, 120]
    assert control.n_weights_all_ == 230
    assert control.n_multiply_adds() == 20 * 64 + 90 * 16 + 120
    own = model(torch.from_numpy(X)).argmax(1).numpy()
    rows = X.reshape(len(X), -1)
    assert (control.predict_raw(rows).argmax(1) == own).mean() > 0.7


@pytest.mark.parametrize(
    "settings",
    [
        {"padding": 1},
        {"stride": 2, "groups": 2},
        {"dilation": 2, "groups": 4, "padding": 2},
    ],
    ids=str,
)
def test_units_leave_a_convolution_what_it_is(settings):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(4, 8, 3, **settings), nn.ReLU())
        net = nn.Sequential(*net, nn.Flatten(), nn.LazyLinear(2))
    maps = np.random.default_rng(0).standard_normal((30, 4, 7, 6)) * 5 + 3
    maps = maps.astype(np.float32)
    net(torch.from_numpy(maps))
    rows = maps.reshape(30, -1)
    step = linear_layers(read_chain(net, rows.shape[1], (4, 7, 6)).steps)[0]
    layer = TrainedConvolution(step, rows)
    layer.start(step.arrays["coef"], step.arrays["intercept"], 2.0)
    layer.to_device(torch.device("cpu"), trained=True)
    expected = net[0](torch.from_numpy(maps)).flatten(1).detach()
    found = layer.forward(torch.from_numpy(rows)).detach()
    assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    for name, array in layer.arrays().items():
        assert_allclose(array, step.arrays[name], rtol=1e-4, atol=1e-5)
