"""Convolutional models are unwrapped: features of positions, weights of patches."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.datasets import load_digits
from torch import nn

from skfeat import FeatureConnector, FeatureUnwrapper, SparseAutoencoder
from skfeat.network import SparseMapNetwork

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*features are dead"),
]

IMAGES, LABELS = load_digits(return_X_y=True)
X = (IMAGES / 16).astype(np.float32).reshape(-1, 1, 8, 8)[:500]
y = LABELS[:500]
PART = SparseAutoencoder(8, k=3, max_iter=3, random_state=0)


def cnn():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 12),
        nn.ReLU(),
        nn.Linear(12, 10),
    )


@pytest.fixture(scope="module")
def model():
    model = cnn()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    rows, labels = torch.from_numpy(X), torch.from_numpy(y)
    with torch.random.fork_rng():
        for _ in range(60):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(rows), labels).backward()
            optimizer.step()
    return model.eval()


def unwrapper(model, **params):
    params = {"autoencoder": PART, "max_iter": 6, "batch_size": 64} | params
    return FeatureUnwrapper(model, random_state=0, **params)


@pytest.fixture(scope="module")
def fitted(model):
    return unwrapper(model).fit(X, y)


def state(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_the_network_keeps_what_the_model_does(model, fitted):
    network = fitted.network()
    assert isinstance(network, SparseMapNetwork)
    assert network.map_shapes == [(4, 4), (2, 2), (1, 1)]
    # Four weights a feature, which are shared by positions.
    assert network.n_weights_ == [32, 32]
    own = (model(torch.from_numpy(X)).argmax(1).numpy() == y).mean()
    assert own > 0.9
    assert fitted.score(X, y) > 0.5
    assert fitted.score(X) > 0.5
    assert (
        fitted.predict(X[:4]).tolist() == fitted.predict(X[:4].reshape(4, 64)).tolist()
    )
    assert fitted.n_features_in_ == 64
    assert fitted.layer_names_ == ["0", "4", "8"]


def test_training_together_helps(model, fitted):
    apart = FeatureUnwrapper(model, autoencoder=PART, distill=False, random_state=0)
    apart.fit(X, y)
    assert apart.network().n_weights_ == [32, 32]
    assert apart.n_iter_ == 0
    losses = fitted.loss_curve_
    assert len(losses) == fitted.n_iter_ == 6
    kept = fitted.report(X, y)
    own = apart.report(X, y)
    assert kept.agreement[-1] > own.agreement[-1]


def test_layers_are_computed_as_positions(fitted):
    features = fitted.transform(X[:5], layer=0)
    assert features.shape == (5, 16 * 8)
    hidden = fitted._chain.forward(X[:5].reshape(5, 64), 0, 3).reshape(5, 6, 16)
    rows = hidden.transpose(0, 2, 1).reshape(-1, 6)
    codes = fitted.autoencoders_[0].transform(rows)
    assert_allclose(features, codes.reshape(5, -1), rtol=1e-4, atol=1e-5)
    names = fitted.get_feature_names_out(layer=1)
    assert names[0] == "F2_0[0,0]"
    assert len(names) == 32


def test_connectors_speak_of_places(fitted):
    formulas = "".join(fitted.connectors_[0].formula(j) for j in range(8))
    assert "F2_0 = " in formulas
    assert "[" in formulas
    assert fitted.connectors_[0].coef_.shape == (8, 16 * 8)
    assert fitted.connectors_[1].coef_.shape == (8, 4 * 8)


def test_the_report_has_each_layer(fitted):
    report = fitted.report(X, y)
    assert report.layer == ["0", "4", "8", "network"]
    assert report.n_features == [8, 8, 8, 24]
    assert report.n_weights[1:] == [32, 32, 64]
    assert report.l0[0] <= 3
    assert 0 <= report.fvu[0] < 1
    assert report.r2_network[1] <= 1
    # Rounding may tip a row whose outputs are nearly equal.
    assert report.score[-1] == pytest.approx(fitted.score(X, y), abs=0.005)


def test_an_explanation_of_one_image(fitted):
    one = fitted.explain(X[3])
    assert_allclose(one.attribution.total(), one.attribution.value, atol=1e-4)
    again = fitted.explain(X[3:4])
    assert again.prediction == one.prediction


def test_the_model_is_left_as_it_was(model):
    model.train()
    before = state(model)
    draws = torch.random.get_rng_state()
    unwrapper(model, max_iter=1).fit(X[:80], y[:80])
    after = state(model)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert model.training
    assert torch.equal(draws, torch.random.get_rng_state())
    model.eval()


def test_the_same_seed_gives_the_same_weights(model):
    first, second = (
        unwrapper(model, max_iter=1).fit(X[:200], y[:200]).network() for _ in range(2)
    )
    for one, other in zip(first.shared_coefs_, second.shared_coefs_, strict=True):
        assert (one != other).nnz == 0


@pytest.mark.parametrize("joint", [True, False])
def test_ends_are_connected(model, joint):
    one = unwrapper(model, connect_input=True, connect_output=True, joint=joint)
    one.set_params(max_iter=1).fit(X[:200], y[:200])
    network = one.network()
    assert network.n_weights_in_ == 128  # all that patches of 4 x 4 pixels have
    assert network.n_weights_out_ == 80
    assert one.input_connector_.coef_.shape == (8, 16)
    assert network.predict_raw(X[:3]).shape == (3, 10)
    assert one.score(X, y) > 0.05
    assert "x0[" in one.input_connector_.formula(0)


def test_rows_need_the_shape_of_their_maps(model):
    rows = X[:120].reshape(120, 64)
    with pytest.raises(TypeError, match=r"layer '0' \(Conv2d\) of rows without"):
        unwrapper(model).fit(rows)
    one = unwrapper(model, input_shape=(1, 8, 8), max_iter=1).fit(rows, y[:120])
    assert one.predict(rows).tolist() == one.predict(X[:120]).tolist()
    with pytest.raises(ValueError, match=r"must have 60 columns"):
        unwrapper(model, input_shape=(1, 6, 10)).fit(rows)
    with pytest.raises(ValueError, match="input_shape must be"):
        unwrapper(model, input_shape=(64,)).fit(rows)
    with pytest.raises(ValueError, match=r"samples of shape \(1, 8, 8\)"):
        one.predict(X[:4, :, :4])


def test_layers_that_are_named_are_connected_over_what_lies_between(model):
    one = unwrapper(model, layers=["0", "8"], max_iter=1).fit(X[:200], y[:200])
    assert one.network().map_shapes == [(4, 4), (1, 1)]
    # What lies between ends in rows: each position is read.
    assert one.connectors_[0].coef_.shape == (8, 16 * 8)


def test_connectors_without_a_budget_keep_what_their_alpha_leaves(model):
    connector = FeatureConnector(alpha=0.1, max_iter=20)
    one = unwrapper(model, connector=connector, max_iter=1).fit(X[:200], y[:200])
    assert 0 < one.network().n_weights_[0] < 8 * 16 * 8


def test_a_series_and_means_over_positions():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Conv1d(2, 5, 5, padding=2)
            self.second = nn.Conv1d(5, 5, 3, padding=1)
            self.out = nn.Linear(5, 3)

        def forward(self, x):
            x = torch.relu(self.first(x))
            x = torch.relu(x + self.second(x))
            return self.out(x.mean(-1))

    torch.manual_seed(1)
    series = np.random.default_rng(0).standard_normal((150, 2, 12)).astype(np.float32)
    one = unwrapper(Net().eval(), connect_output=True, max_iter=1).fit(series)
    network = one.network()
    assert network.map_shapes == [(1, 12), (1, 12)]
    assert network.reads_out.is_mean
    assert network.feature_names_[0][8] == "F1_0[1]"
    assert one.output_connector_.formula(0).count("mean F2_") > 0
    assert_allclose(
        network.to_torch()(torch.from_numpy(series)).detach().numpy(),
        network.predict_raw(series),
        rtol=1e-4,
        atol=1e-5,
    )


def test_a_clone_keeps_the_model_and_its_parameters(fitted):
    other = clone(fitted)
    assert other.get_params()["input_shape"] is None
    assert not hasattr(other, "autoencoders_")


class OverPositions(nn.Module):
    """A convolution, then a layer that mixes positions, then an MLP."""

    def __init__(self, mix):
        super().__init__()
        self.conv, self.mix = nn.Conv2d(1, 8, 3), mix
        self.fc, self.out = nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x):
        x = torch.relu(self.conv(x)).flatten(2).transpose(1, 2)
        if self.mix is None:
            x = nn.functional.scaled_dot_product_attention(x, x, x)
        elif isinstance(self.mix, nn.MultiheadAttention):
            x = self.mix(x, x, x)[0]
        else:
            x = self.mix(x)[0]
        return self.out(torch.relu(self.fc(x.mean(1))))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: nn.MultiheadAttention(8, 2, batch_first=True), r"\(MultiheadAtt"),
        (lambda: None, "the operation 'scaled_dot_product_attention'"),
        (lambda: nn.GRU(8, 8, batch_first=True), r"layer 'mix' \(GRU\)"),
    ],
)
def test_attention_and_recurrence_are_named(make, named):
    net = OverPositions(make()).eval()
    with pytest.raises(TypeError, match=rf"{named}.*start='the name of a module'"):
        unwrapper(net).fit(X[:20])
    one = FeatureUnwrapper(net, autoencoder=PART, start="fc").fit(X[:40])
    assert one.predict(X[:3]).shape == (3,)


def test_a_norm_of_groups_of_channels_is_named():
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.ReLU())
    with pytest.raises(
        TypeError, match=r"layer '1' on maps of shape \(4, 6, 6\).*start"
    ):
        unwrapper(nn.Sequential(*net, nn.Flatten(), nn.Linear(144, 3))).fit(X[:20])


def test_what_cannot_be_unwrapped_says_what_to_do():
    up = nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.ConvTranspose2d(2, 1, 3), nn.ReLU()
    )
    with pytest.raises(TypeError, match=r"\(ConvTranspose2d\).*start="):
        unwrapper(up).fit(X[:20])


def test_skorch_nets_of_convolutions(model):
    skorch = pytest.importorskip("skorch")
    net = skorch.NeuralNetClassifier(
        cnn(), criterion=nn.CrossEntropyLoss, max_epochs=1, verbose=0, train_split=None
    )
    net.fit(X[:200], y[:200].astype(np.int64))
    one = unwrapper(net, max_iter=1).fit(X[:200], y[:200])
    assert one.predict(X[:5]).shape == (5,)
    assert one.network().map_shapes[0] == (4, 4)


@pytest.mark.filterwarnings("ignore")  # those of the library
def test_a_braindecode_model():
    models = pytest.importorskip("braindecode.models")
    torch.manual_seed(0)
    net = models.EEGNet(n_chans=4, n_outputs=2, n_times=200, sfreq=100).eval()
    trials = np.random.default_rng(0).standard_normal((60, 4, 200)).astype(np.float32)
    one = unwrapper(net, connect_output=True).fit(trials)
    network = one.network()
    assert one.layer_names_ == ["conv_spatial", "conv_separable_point"]
    assert network.map_shapes == [(1, 50), (1, 6)]
    own = net(torch.from_numpy(trials)).argmax(1).numpy()
    assert (one.predict(trials) == own).mean() > 0.6
    assert one.report(trials, own).score_model[-1] == 1
    assert_allclose(
        network.to_torch()(torch.from_numpy(trials)).detach().numpy(),
        network.predict_raw(trials),
        rtol=1e-4,
        atol=1e-4,
    )


class Ensured(nn.Module):
    """Adds axes of one."""

    def forward(self, x):
        while len(x.shape) < 4:
            x = x.unsqueeze(-1)
        return x


class Moved(nn.Module):
    def __init__(self, *axes):
        super().__init__()
        self.axes = axes

    def forward(self, x):
        return x.permute(*self.axes) if x.ndim == 4 else 1 / 0


class Rectified(nn.Module):
    def forward(self, x):
        assert len(x.shape) > 0
        return x.clamp(min=0)


class Sorted(nn.Module):
    def forward(self, x):
        return x.sort(dim=-1).values if x.ndim == 4 else 1 / 0


def decoder(moved):
    torch.manual_seed(0)
    return nn.Sequential(
        Ensured(),
        moved,
        nn.Conv2d(1, 4, (1, 5), padding=(0, 2)),
        nn.Conv2d(4, 6, (3, 1)),
        nn.ReLU(),
        nn.AvgPool2d((1, 4)),
        nn.Flatten(),
        nn.Linear(30, 2),
    ).eval()


def test_modules_that_give_axes_are_run_to_see_which():
    series = np.random.default_rng(0).standard_normal((80, 3, 20)).astype(np.float32)
    net = decoder(Moved(0, 3, 1, 2))  # (n, 3, 20, 1) to (n, 1, 3, 20)
    before = [len(part._forward_hooks) for part in net.modules()]
    one = unwrapper(net, connect_output=True, max_iter=1).fit(series)
    assert one.network().map_shapes == [(1, 5)]
    assert one.classes_.tolist() == [0, 1]
    own = one._model_values(one.network_inputs(series))
    with torch.no_grad():
        assert_allclose(own, net(torch.from_numpy(series)), rtol=1e-4, atol=1e-5)
    assert [len(part._forward_hooks) for part in net.modules()] == before


def test_modules_that_change_the_order_or_the_values_are_named():
    series = np.random.default_rng(0).standard_normal((80, 1, 3, 20))
    other = decoder(Moved(0, 1, 3, 2))
    other[2], other[3] = (
        nn.Conv2d(1, 4, (5, 1), padding=(2, 0)),
        nn.Conv2d(4, 6, (1, 3)),
    )
    other[5] = nn.AvgPool2d((4, 1))
    message = r"layer '1' \(Moved\), which changes the order of values"
    with pytest.raises(TypeError, match=message):
        unwrapper(other).fit(series)
    # Sorting does not show in numbers that are in order.
    with pytest.raises(TypeError, match=r"\(Sorted\), which changes the order"):
        unwrapper(decoder(Sorted())).fit(series)
    # What a rectifier does shows in numbers of both signs.
    with pytest.raises(TypeError, match="cannot follow the forward"):
        unwrapper(decoder(Rectified())).fit(series)
