"""The part of a model that follows a module, with anything before it."""

import copy
import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from torch import nn

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.inspection import FeatureGraphDisplay
from skfeat.network import SparseFeatureNetwork

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*are dead"),
]


class ConvNet(nn.Module):
    """Convolutions and a head that is an MLP."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2)
        )
        self.fc1, self.fc2 = nn.Linear(54, 16), nn.Linear(16, 12)
        self.drop, self.out = nn.Dropout(0.5), nn.Linear(12, 10)

    def forward(self, x):
        x = self.body(x).flatten(1)
        x = self.drop(torch.relu(self.fc1(x)))
        return self.out(torch.relu(self.fc2(x)))


class Seq(nn.Module):
    """Attention over tokens, and a head that returns a dict."""

    def __init__(self, n_outputs=3):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(20, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.head = nn.Sequential(nn.Linear(8, 12), nn.Tanh(), nn.Linear(12, n_outputs))

    def forward(self, ids, mask=None):
        x = self.layer(self.embed(ids))
        if mask is not None and mask.sum() > 0:  # cannot be followed
            x = x * mask[:, :, None]
        return {"loss": None, "logits": self.head(x[:, 0])}


X, Y = load_digits(return_X_y=True)
IMAGES = (X[:300].reshape(-1, 1, 8, 8) / 16).astype(np.float32)
Y = Y[:300]
ALONE = {"max_iter": "auto"}  # a single layer has nothing to train together
TOKENS = np.random.default_rng(0).integers(0, 20, (120, 5))


def unwrapper(model, start, **params):
    part = SparseAutoencoder(16, k=4, max_iter=20, random_state=0)
    given = {"autoencoder": part, "max_iter": 20, "random_state": 0} | params
    return FeatureUnwrapper(model, start=start, **given)


@pytest.fixture(scope="module")
def trained():
    torch.manual_seed(0)
    model = ConvNet()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    model.train()
    for _ in range(60):
        loss = nn.functional.cross_entropy(
            model(torch.from_numpy(IMAGES)), torch.from_numpy(Y)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@pytest.fixture(scope="module")
def fitted(trained):
    return unwrapper(trained, "fc1").fit(IMAGES, Y)


def stem_of(model, images):
    with torch.no_grad():
        return copy.deepcopy(model).eval().body(torch.from_numpy(images)).flatten(1)


def test_head_of_a_convolutional_model(trained, fitted):
    assert fitted.layer_names_ == ["fc1", "fc2"]
    assert fitted.score(IMAGES, Y) > 0.9
    assert fitted.score(IMAGES) > 0.9
    stem = stem_of(trained, IMAGES).numpy()
    np.testing.assert_allclose(fitted.network_inputs(IMAGES), stem, atol=1e-6)
    network = fitted.network()
    assert network.n_features_in_ == 54
    np.testing.assert_array_equal(network.predict(stem), fitted.predict(IMAGES))
    np.testing.assert_allclose(
        fitted.predict_proba(IMAGES), network.predict_proba(stem), atol=1e-5
    )
    assert fitted.transform(IMAGES).shape == (300, 16)


def test_report_compares_with_the_whole_model(trained, fitted):
    report = fitted.report(IMAGES, Y)
    with torch.no_grad():
        labels = copy.deepcopy(trained).eval()(torch.from_numpy(IMAGES)).argmax(1)
    assert report["score_model"][-1] == pytest.approx((labels.numpy() == Y).mean())
    assert report["score"][-1] == fitted.score(IMAGES, Y)
    assert report.layer == ["fc1", "fc2", "network"]


def test_explanation_of_an_image(trained, fitted):
    explanation = fitted.explain(IMAGES[3])
    again = fitted.explain(IMAGES[3:4])
    with torch.no_grad():
        own = copy.deepcopy(trained).eval()(torch.from_numpy(IMAGES[3:4])).numpy()[0]
    assert explanation.model_value == pytest.approx(own.max(), abs=1e-4)
    assert explanation.model_value == again.model_value
    assert explanation.model_prediction == own.argmax()
    with pytest.raises(ValueError, match=r"x must be one sample, of 3 axes.*\(2, 1, 8"):
        fitted.explain(IMAGES[:2])


def test_pictures_of_the_part(fitted, tmp_path):
    plt = pytest.importorskip("matplotlib.pyplot")
    display = FeatureGraphDisplay.from_estimator(fitted, IMAGES[3:4])
    assert display.layer_names == ["fc1", "fc2", "output"]
    again = FeatureGraphDisplay.from_network(
        fitted.network(), fitted.network_inputs(IMAGES[3:4])
    )
    assert display.layer_names == again.layer_names
    plt.close("all")
    page = fitted.explore(IMAGES, Y, tmp_path / "page.html", n_rows=2)
    assert "<title>Features of ConvNet" in page.read_text(encoding="utf-8")


def test_the_model_is_left_as_it_was(trained):
    before = copy.deepcopy(trained.state_dict())
    trained.train()
    own = dict(vars(trained))
    state = torch.get_rng_state()
    unwrapper(trained, "fc1", max_iter=2).fit(IMAGES).predict(IMAGES)
    assert trained.training
    assert trained.body[1].training
    assert dict(vars(trained)) == own
    assert not any(m._forward_pre_hooks for m in trained.modules())
    torch.testing.assert_close(torch.get_rng_state(), state)
    for name, tensor in trained.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_pickle_clone_and_file(fitted, tmp_path):
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(IMAGES), fitted.predict(IMAGES))
    refitted = clone(fitted)
    assert refitted.start == "fc1"
    assert "_start" not in vars(refitted)
    fitted.network().save(tmp_path / "net")
    network = SparseFeatureNetwork.load(tmp_path / "net")
    rows = fitted.network_inputs(IMAGES)
    np.testing.assert_array_equal(network.predict(rows), fitted.predict(IMAGES))


@pytest.mark.slow
def test_controls_run_what_is_before(fitted):
    report = fitted.report(IMAGES, Y, controls=True, X_train=IMAGES)
    assert report.controls.network == [
        *("model", "features", "pruned", "scratch", "untrained", "shuffled")
    ]
    assert np.isfinite(report.controls.score).all()


@pytest.mark.parametrize("start", ["head", "head.0"])
def test_head_after_attention(start):
    model = Seq().eval()
    fitted = unwrapper(model, start, **ALONE).fit(TOKENS)
    assert fitted.layer_names_ == ["head.0"]
    assert list(fitted.classes_) == [0, 1, 2]
    with torch.no_grad():
        logits = model(torch.from_numpy(TOKENS))["logits"].numpy()
    report = fitted.report(TOKENS, logits.argmax(1))
    assert report["score_model"][-1] == 1
    assert report["score"][-1] > max(0.7, report["score_floor"][-1])
    by_name = unwrapper(model, start, **ALONE).fit({"ids": TOKENS})
    np.testing.assert_allclose(
        by_name.decision_function({"ids": TOKENS}), fitted.decision_function(TOKENS)
    )
    mask = np.ones(TOKENS.shape)
    np.testing.assert_allclose(
        by_name.decision_function({"ids": TOKENS, "mask": mask}),
        fitted.decision_function(TOKENS),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("name", "start"),
    [("DistilBert", "pre_classifier"), ("Bert", "bert.pooler.dense")],
)
def test_head_of_a_transformers_model(name, start):
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    if name == "DistilBert":
        sizes = {"dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 16}
    config = getattr(transformers, f"{name}Config")(vocab_size=20, **sizes)
    torch.manual_seed(0)
    model = getattr(transformers, f"{name}ForSequenceClassification")(config).eval()
    tokens = {"input_ids": TOKENS, "attention_mask": np.ones_like(TOKENS)}
    fitted = unwrapper(model, start, **ALONE).fit(tokens)
    with torch.no_grad():
        logits = model(torch.from_numpy(TOKENS)).logits.numpy()
    own = fitted._model_values(fitted.network_inputs(tokens))
    np.testing.assert_allclose(own, logits, atol=1e-5)
    assert fitted.layer_names_ == [start]
    assert list(fitted.classes_) == [0, 1]


def test_values_after_attention():
    fitted = unwrapper(Seq(1), "head", **ALONE).fit(TOKENS)
    assert not hasattr(fitted, "classes_")
    assert fitted.predict(TOKENS).shape == (120,)
    assert fitted.score(TOKENS) > 0.5


def test_part_of_an_mlp_equals_the_mlp_that_is_left():
    torch.manual_seed(0)
    layers = [nn.Linear(6, 9), nn.ReLU(), nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 3)]
    model = nn.Sequential(*layers)
    rows = np.random.default_rng(0).normal(size=(200, 6)).astype(np.float32)
    fitted = unwrapper(model, "2", **ALONE).fit(rows)
    with torch.no_grad():
        inner = model[:2](torch.from_numpy(rows)).numpy()
    other = unwrapper(model[2:], None, **ALONE).fit(inner)
    np.testing.assert_allclose(
        fitted.decision_function(rows), other.decision_function(inner), atol=1e-5
    )
    # Whole numbers are numbers where the model has no embedding.
    assert fitted.predict(np.ones((2, 6), int)).shape == (2,)


def test_skorch_net():
    skorch = pytest.importorskip("skorch")
    net = skorch.NeuralNetClassifier(
        ConvNet, criterion=nn.CrossEntropyLoss, max_epochs=1, verbose=0
    )
    net.fit(IMAGES, Y)
    fitted = unwrapper(net, "fc1").fit(IMAGES, Y)
    assert list(fitted.classes_) == list(range(10))
    assert fitted.score(IMAGES, net.predict(IMAGES)) > 0.7


class Skips(ConvNet):
    """Adds what the body computes to what follows."""

    def forward(self, x):
        before = self.body(x).flatten(1)
        return self.out(
            torch.relu(self.fc2(torch.relu(self.fc1(before)))) + before[:, :12]
        )


class Twice(ConvNet):
    """Runs a module twice."""

    def forward(self, x):
        x = torch.relu(self.fc1(self.body(x).flatten(1)))
        return self.out(torch.relu(self.fc2(x)) + torch.relu(self.fc2(x)))


@pytest.mark.parametrize(
    ("model", "start", "error", "message"),
    [
        (ConvNet(), "fc", ValueError, "Got 'fc' instead; did you mean 'fc2' or 'fc1'"),
        (ConvNet(), "", ValueError, "start must be the name of a module of ConvNet"),
        (
            ConvNet(),
            "body",
            ValueError,
            r"'body' must be fed a row .* \(300, 1, 8|of sh",
        ),
        (ConvNet(), "out", ValueError, "start='out' leaves no hidden layer to unwrap"),
        (Skips(), "fc1", TypeError, "start='fc1' also reads what the model computes"),
        (Twice(), "fc2", ValueError, "start='fc2' must run once .* runs 2 times"),
        (ConvNet(), 3, ValueError, "The 'start' parameter of FeatureUnwrapper must be"),
    ],
)
def test_refusals(model, start, error, message):
    with pytest.raises(error, match=message):
        unwrapper(model, start).fit(IMAGES)


def test_start_needs_a_torch_model():
    from sklearn.neural_network import MLPClassifier

    mlp = MLPClassifier((4,), max_iter=1).fit(X[:50], Y[:50])
    with pytest.raises(TypeError, match="names a module of a torch model; a MLPClass"):
        unwrapper(mlp, "fc1").fit(X[:50])


def test_inputs_of_another_width_are_refused(fitted):
    with pytest.raises(ValueError, match="has 2 features, but FeatureUnwrapper is ex"):
        fitted.predict(np.ones((3, 2, 8, 8), np.float32))


class Recurrent(nn.Module):
    """An LSTM, and an MLP of its last state."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.cell = nn.LSTM(4, 6, batch_first=True)
        self.head = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))

    def forward(self, x):
        return self.head(self.cell(x)[0][:, -1])


@pytest.mark.parametrize(
    ("model", "rows"),
    [
        (Recurrent(), np.ones((5, 4))),
        (nn.Sequential(nn.ConvTranspose1d(4, 2, 3), nn.ReLU(), nn.Linear(2, 2)), None),
        (ConvNet(), np.ones((5, 64))),
        (Seq(), np.ones((5, 4))),
    ],
)
def test_what_cannot_be_unwrapped_whole_says_what_to_do(model, rows):
    rows = np.ones((5, 4)) if rows is None else rows
    with pytest.raises(TypeError, match="start='the name of a module' unwraps the par"):
        FeatureUnwrapper(model).fit(rows)


def test_head_after_recurrence():
    series = np.random.default_rng(0).normal(size=(100, 7, 4))
    model = Recurrent()
    fitted = unwrapper(model, "head", **ALONE).fit(series)
    with torch.no_grad():
        logits = model(torch.from_numpy(series).float()).numpy()
    own = fitted._model_values(fitted.network_inputs(series))
    np.testing.assert_allclose(own, logits, atol=1e-5)
    graph = fitted.network().to_torch()
    inputs = torch.from_numpy(fitted.network_inputs(series))
    with torch.no_grad():
        found = graph(inputs).numpy().argmax(axis=1)
    np.testing.assert_array_equal(found, fitted.predict(series))
