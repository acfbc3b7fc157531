"""The explorer's page of a network says what the network's own methods say."""

import re

import numpy as np
import pytest
from scipy import sparse

from skfeat.activations import ReLU
from skfeat.chain import Chain, Step
from skfeat.network import SparseFeatureNetwork
from tests.explorer.unpacked import unpack


def make_network(back=(), sparse_ends=False, **options):
    rng = np.random.RandomState(0)
    encoder = rng.randn(8, 4)
    front = Chain.from_steps(
        [] if sparse_ends else [Step("relu")],
        n_features_in=4,
    )
    coefs = [
        sparse.csr_array(rng.randn(m, n) * (rng.rand(m, n) < 0.4))
        for m, n in ((6, 8), (5, 6))
    ]
    return SparseFeatureNetwork(
        front=front,
        encoder_coef=sparse.csr_array(encoder) if sparse_ends else encoder,
        encoder_intercept=rng.randn(8),
        encoder_bias=np.zeros(4),
        activation=ReLU(),
        coefs=coefs,
        intercepts=[rng.rand(6), rng.rand(5)],
        links=["relu", "identity"],
        decoder_coef=rng.randn(5, 3),
        decoder_intercept=rng.randn(3),
        back=Chain.from_steps(list(back), n_features_in=3),
        layer_names=["a", "b", "2"],
        **options,
    )


X = np.random.RandomState(1).randn(60, 4)


def written(path):
    """Return what a page holds."""
    text = path.read_text(encoding="utf-8")
    return unpack(re.search(r'id="data">([^<]*)<', text)[1])


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=3e-4, atol=1e-6)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "a.html"
    network = make_network(classes=["x", "y", "z"])
    assert network.explore(X, np.arange(60) % 2, path, n_rows=5) == path
    return network, written(path)


def dense(gap, key, shape):
    return sparse.csr_array((gap[key], gap["indices"], gap["indptr"]), shape).toarray()


def test_columns_and_their_names(page):
    network, found = page
    titles = [layer["title"] for layer in found["layers"]]
    assert titles == ["inputs", "a", "b", "layer 2", "outputs"]
    assert [layer["names"] for layer in found["layers"]] == [
        network.input_names_,
        *network.feature_names_,
        ["x", "y", "z"],
    ]


def test_strengths_are_the_mean_flows(page):
    network, found = page
    flow = network.mean_flow(X, inputs=True)
    inputs, *features, outputs = (layer["strength"] for layer in found["layers"])
    close(inputs, flow.inputs)
    for own, expected in zip(features, flow.features, strict=True):
        close(own, expected)
    close(outputs, flow.to_outputs.sum(axis=1))
    expected = [flow.input_edges, *flow.edges, sparse.csr_array(flow.to_outputs)]
    for gap, edges in zip(found["gaps"], expected, strict=True):
        close(dense(gap, "strength", edges.shape), edges.toarray())


def test_weights_and_formulas(page):
    network, found = page
    first, *between, last = found["gaps"]
    assert first["weights"] is None
    for gap, coef in zip(between, network.coefs_, strict=True):
        close(dense(gap, "weights", coef.shape), coef.toarray())
    close(dense(last, "weights", (3, 5)), network.decoder_coef_.T)
    formula = found["layers"][2]["formulas"][0]
    name, text = formula.split(" = ")
    terms = re.findall(r"([+-]?) ?([\d.]+)\*(F1_\d+)", text)
    assert name == "F2_0"
    own = {
        term: float(sign.replace("+", "") + size) if sign else float(size)
        for sign, size, term in terms
    }
    row = network.coefs_[0][[0]].toarray().ravel()
    assert own == {f"F1_{j}": round(row[j], 2) for j in np.flatnonzero(row)}


def test_effects_are_those_of_ablate(page):
    network, found = page
    shown = network.predict_raw(X).argmax(axis=1)
    for at, layer in enumerate(found["layers"][1:-1]):
        for j in range(network.n_components_[at]):
            ablation = network.ablate(X, (at, j))
            effects = ablation.effects
            close(layer["effect"][j], np.abs(effects[np.arange(60), shown]).mean())
            close(layer["effects"].reshape(-1, 3)[j], effects.mean(axis=0))
            flips = (ablation.outputs.argmax(axis=1) != shown).mean()
            close(layer["flips"][j], flips)


def test_statistics_and_labels(page):
    network, found = page
    labels = np.arange(60) % 2
    for layer, F in zip(found["layers"][1:-1], network.features(X), strict=True):
        own = layer["statistics"]
        close(own["density"], (F != 0).mean(axis=0))
        close(own["high"], np.maximum(F.max(axis=0), 0))
        counts = [(F[labels == k] != 0).sum(axis=0) for k in (0, 1)]
        np.testing.assert_array_equal(own["classes"].reshape(-1, 2).T, counts)
        rows = own["rows"].reshape(F.shape[1], -1)
        values = own["values"].reshape(rows.shape)
        numbers = found["examples"]["rows"]
        for j in range(F.shape[1]):
            there = rows[j] >= 0
            close(values[j, there], F[numbers[rows[j, there]], j])
            if there[0]:
                close(values[j, 0], F[:, j].max())


def test_rows_are_attributed(page):
    network, found = page
    numbers = found["examples"]["rows"]
    assert len(found["rows"]) == 5
    for row in found["rows"]:
        x = X[[numbers[row["example"]]]]
        parts = network.attribute(x, inputs=True)
        expected = [parts.inputs, *parts.features]
        for (nodes, _, own), whole in zip(row["values"][:-1], expected, strict=True):
            filled = np.zeros(whole.shape[1])
            filled[nodes] = own
            close(filled, whole[0])
        (output,), value, _ = row["values"][-1]
        assert (output, value) == (parts.output[0], pytest.approx(parts.value, 1e-3))
        facts = dict(row["facts"])
        assert facts["label"] == str(numbers[row["example"]] % 2)
        assert facts["predicted by the network"] == network.predict(x)[0]
        sources, targets, flows = row["edges"][0]
        edges = parts.input_edges.reshape((8, 4)).toarray()
        close(flows, edges[targets, sources])
        assert row["edges"][1] is None


def test_rows_of_a_table(page):
    _, found = page
    examples = found["examples"]
    assert (examples["kind"], examples["columns"]) == (
        "table",
        ["x0", "x1", "x2", "x3"],
    )
    close(examples["values"].reshape(-1, 4), X[examples["rows"]])


def test_images_are_grey_levels(tmp_path):
    path = make_network().explore(X, None, tmp_path / "a.html", image_shape=(2, 2))
    examples = written(path)["examples"]
    rows = X[examples["rows"]]
    grey = 255 * (rows - rows.min()) / np.ptp(rows)
    np.testing.assert_allclose(examples["pixels"].reshape(-1, 4), grey, atol=0.51)
    assert (examples["height"], examples["width"], examples["labels"]) == (2, 2, None)


def test_a_network_sparse_from_its_inputs_has_weights_there(tmp_path):
    network = make_network(sparse_ends=True)
    found = written(network.explore(X, path=tmp_path / "a.html", output="output 1"))
    close(dense(found["gaps"][0], "weights", (8, 4)), network.encoder_coef_.toarray())
    assert found["layers"][1]["formulas"][0].startswith("F1_0 = ")
    assert all(row["edges"][0] is None for row in found["rows"])
    assert {row["values"][-1][0][0] for row in found["rows"]} == {1}
    close(found["layers"][1]["strength"], network.mean_flow(X, 1).features[0])


def test_a_curved_head_is_shown_by_weights_times_activations(tmp_path):
    network = make_network(back=[Step("tanh")])
    found = written(network.explore(X, path=tmp_path / "a.html", n_rows=2))
    assert found["flow"] == "product"
    assert [layer["title"] for layer in found["layers"]] == ["a", "b", "layer 2"]
    F = network.features(X)
    for gap, coef, before in zip(found["gaps"], network.coefs_, F, strict=False):
        expected = abs(coef.toarray()) * np.abs(before).mean(axis=0)
        close(dense(gap, "strength", coef.shape), expected)
    assert "curved" in found["notes"][-1]
    assert found["layers"][0]["effect"].any()


def test_means_do_not_depend_on_the_blocks(page, tmp_path, monkeypatch):
    network, whole = page
    monkeypatch.setattr("skfeat.network._explore_flows._BLOCK_EDGES", 7 * 4 * 8)
    path = network.explore(X, np.arange(60) % 2, tmp_path / "a.html", n_rows=5)
    found = written(path)
    for own, expected in zip(found["gaps"], whole["gaps"], strict=True):
        close(own["strength"], expected["strength"])
    for own, expected in zip(found["layers"], whole["layers"], strict=True):
        close(own["strength"], expected["strength"])


def test_only_a_sample_of_many_rows_is_measured(tmp_path):
    many = np.random.RandomState(2).randn(700, 4)
    found = written(make_network().explore(many, path=tmp_path / "a.html"))
    assert "over 500 of them, drawn at random" in found["notes"][0]
    close(found["layers"][1]["statistics"]["density"].max(), 1)


def test_fewer_rows_are_measured_where_each_takes_long(tmp_path, monkeypatch):
    monkeypatch.setattr("skfeat.network._explore._MOST_FLOWS", 1)
    found = written(make_network().explore(X, path=tmp_path / "a.html"))
    assert "over 50 of them, drawn at random" in found["notes"][0]


def test_the_same_call_writes_the_same_page(tmp_path):
    network = make_network()
    pages = [network.explore(X, path=tmp_path / f"{i}.html") for i in (0, 1)]
    assert pages[0].read_bytes() == pages[1].read_bytes()
    other = network.explore(X, path=tmp_path / "2.html", random_state=1)
    assert other.read_bytes() != pages[0].read_bytes()


def test_the_rows_and_the_random_numbers_of_the_caller_stay(tmp_path):
    rows, state = X.copy(), np.random.get_state()[1].tolist()  # noqa: NPY002
    make_network().explore(rows, path=tmp_path / "a.html")
    np.testing.assert_array_equal(rows, X)
    assert np.random.get_state()[1].tolist() == state  # noqa: NPY002


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"output": 3}, "output must be None, an int from 0 to 2 or one of"),
        ({"output": "output 9"}, "output must be None"),
        ({"n_rows": -1}, "n_rows must be an int of at least 0. Got -1"),
        ({"n_examples": 0}, "n_examples must be an int of at least 1. Got 0"),
        ({"image_shape": (3, 3)}, "image_shape must be None or .* = 4"),
        ({"y": [1, 2]}, "y must be None or one label for each of the 60 rows"),
        ({"X": X[:0]}, "X must have at least one row"),
        ({"X": X[:, :3]}, "3 features"),
    ],
)
def test_bad_input(tmp_path, options, message):
    options = {"X": X, "path": tmp_path / "a.html", **options}
    with pytest.raises(ValueError, match=message):
        make_network().explore(**options)
    assert not list(tmp_path.iterdir())


def test_no_row_need_have_a_graph(tmp_path):
    found = written(make_network().explore(X, path=tmp_path / "a.html", n_rows=0))
    assert found["rows"] == []
