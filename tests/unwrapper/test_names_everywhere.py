"""One feature, one name: every entry point is asked and compared."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from sklearn.neural_network import MLPClassifier, MLPRegressor

from skfeat import FeatureConnector, FeatureUnwrapper, SparseAutoencoder
from skfeat.datasets import make_sparse_features
from skfeat.inspection import (
    ConnectorDisplay,
    FeatureGraphDisplay,
    TopExamplesDisplay,
)
from skfeat.language import LayerPair, read_connection
from skfeat.network import SparseFeatureNetwork

matplotlib.use("Agg")

pytestmark = [
    pytest.mark.usefixtures("few_updates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*features are dead:UserWarning"),
]

ROWS = np.random.default_rng(0).normal(size=(80, 5)).astype(np.float32)
TABLE = pd.DataFrame(ROWS, columns=["age", "sex", "blood pressure", "x26", "x1"])
LABELS = np.array(["cat", "dog", "mouse"])[np.argmax(ROWS[:, :3], axis=1)]
M = 5


def classifier(X):
    return MLPClassifier((7, 7, 7), max_iter=3, random_state=0).fit(X, LABELS)


def regressor(X):
    model = MLPRegressor(hidden_layer_sizes=(7, 7, 7), max_iter=3, random_state=0)
    return model.fit(X, ROWS[:, :2])


def binary(X):
    model = MLPClassifier((7, 7, 7), max_iter=3, random_state=0)
    return model.fit(X, np.where(LABELS == "cat", 4, 9))


OUTPUTS = {
    classifier: ["cat", "dog", "mouse"],
    regressor: ["output 0", "output 1"],
    binary: ["9"],
}


def numbered(prefix, n=M):
    return [f"{prefix}{i}" for i in range(n)]


def names_in_formulas(connector):
    """Collect the names that formulas have on the left, and those that terms have."""
    left, right = [], set()
    for output in range(connector.coef_.shape[0]):
        name, _, terms = connector.formula(output).partition(" = ")
        left.append(name)
        right |= {
            term.split("*", 1)[1]
            for term in terms.replace(" - ", " + ").split(" + ")
            if "*" in term
        }
    return left, right


def read_by(connector, X):
    """Collect what everything that reads a connector calls its inputs and outputs."""
    connector_display = ConnectorDisplay.from_estimator(connector)
    yield "display", connector_display.input_names, connector_display.output_names
    graph = connector.to_networkx(all_features=True)
    sides = [[], []]
    for node, data in graph.nodes(data=True):
        sides[data["layer"]].append(node)
    yield "graph", *sides
    left, right = names_in_formulas(connector)
    assert right <= set(connector_display.input_names)
    yield "formula", None, left
    logic = [connector.logic(i, X) for i in range(connector.coef_.shape[0])]
    yield "logic", None, [one.text.split(":")[0].strip() for one in logic]
    found = [read_connection(connector, i, X) for i in range(connector.coef_.shape[0])]
    yield "connection", None, [one.name for one in found]
    yield "its formula", None, [one.formula.partition(" = ")[0] for one in found]
    for one, of_connection in zip(logic, found, strict=True):
        for entry in [*one.inputs, *of_connection.logic.inputs]:
            assert entry["name"] == connector_display.input_names[entry["index"]]


def compare(connector, X, inputs, outputs):
    for where, found_inputs, found_outputs in read_by(connector, X):
        assert list(found_outputs) == outputs, where
        assert found_inputs is None or list(found_inputs) == inputs, where


@pytest.mark.parametrize("ends", [False, True])
@pytest.mark.parametrize("X", [TABLE, ROWS], ids=["table", "array"])
@pytest.mark.parametrize("model", OUTPUTS)
def test_an_unwrapped_model(model, X, ends, tmp_path):
    est = FeatureUnwrapper(
        model(X),
        autoencoder=SparseAutoencoder(M, k=3, max_iter=2),
        connect_input=ends,
        connect_output=ends,
        distill=False,
        random_state=0,
    ).fit(X)
    inputs = list(TABLE) if X is TABLE else numbered("x", 5)
    layers = [numbered(f"F{i}_") for i in (1, 2, 3)]
    outputs = OUTPUTS[model]

    codes = [est.transform(X, layer=i) for i in range(3)]
    for i, connector in enumerate(est.connectors_):
        compare(connector, codes[i], layers[i], layers[i + 1])
    if ends:
        compare(est.input_connector_, ROWS, inputs, layers[0])
        compare(est.output_connector_, codes[2], layers[2], outputs)

    for i, autoencoder in enumerate(est.autoencoders_):
        assert est.get_feature_names_out(layer=i).tolist() == layers[i]
        assert autoencoder.get_feature_names_out().tolist() == layers[i]
        hidden = np.ones((3, 7))
        shown = TopExamplesDisplay.from_estimator(
            autoencoder, hidden, features=[4, 1], n_examples=1
        )
        assert shown.feature_names == [layers[i][4], layers[i][1]]
    shown = TopExamplesDisplay.from_estimator(est, X, features=[2], n_examples=1)
    assert shown.feature_names == ["F3_2"]
    est.set_output(transform="pandas")
    assert list(est.transform(X, layer=1)) == layers[1]

    est.network().save(tmp_path / "network")
    loaded = SparseFeatureNetwork.load(tmp_path / "network")
    for network in (est.network(), loaded, loaded.compact()):
        kept = network.feature_names_
        assert all(set(k) <= set(names) for k, names in zip(kept, layers, strict=True))
        for found in (
            network.attribute(X, inputs=True),
            network.mean_flow(X, inputs=True),
        ):
            assert found.feature_names == kept
            assert (found.input_names, found.output_names) == (inputs, outputs)
        held = network.ablate(X, kept[1][0]).values
        assert list(held) == [(network.layer_names_[1], 0)]
        graph = network.to_networkx(all_features=True)
        by_layer = {i: [] for i in range(-1, 4)}
        for (_, _), data in graph.nodes(data=True):
            by_layer[data["layer"]].append(data["feature_name"])
        assert [by_layer[i] for i in range(3)] == kept
        if ends:
            assert (by_layer[-1], by_layer[3]) == (inputs, outputs)
    display = FeatureGraphDisplay.from_network(loaded, X, inputs=True)
    assert display.node_names == [inputs, *layers, outputs]
    one = FeatureGraphDisplay.from_estimator(est, X[:1], inputs=True, output=0)
    assert one.node_names == [inputs, *layers, outputs[:1]]
    kind = "logit of class " if hasattr(est, "classes_") else ""
    assert one.heading.startswith(f"{kind}{outputs[0]}: ")


def test_the_model_itself_beside_the_network():
    model = MLPClassifier((7, 7), solver="lbfgs", max_iter=15, random_state=0)
    est = FeatureUnwrapper(
        model.fit(TABLE, LABELS),
        autoencoder=SparseAutoencoder(M, k=3, max_iter=2),
        distill=False,
        random_state=0,
    ).fit(TABLE)
    own = np.log(est.model.predict_proba(TABLE))
    raw = est.network().predict_raw(TABLE)
    differ = np.flatnonzero(own.argmax(axis=1) != raw.argmax(axis=1))
    same = np.flatnonzero(own.argmax(axis=1) == raw.argmax(axis=1))
    values = est._model_values(TABLE)
    # Logits, of which the model's probabilities tell all but a constant a row.
    np.testing.assert_allclose(values - values[:, :1], own - own[:, :1], atol=1e-5)
    for row, output in ((same[0], None), (differ[0], None), (differ[0], 1)):
        shown = raw[row].argmax() if output is None else output
        display = FeatureGraphDisplay.from_estimator(
            est, TABLE.iloc[[row]], output=output
        )
        network, model = display.heading.split("\n")
        name = est.classes_[shown]
        assert network.startswith(f"logit of class {name}: {raw[row, shown]:.2f} = ")
        assert model.startswith(f"the model itself: {values[row, shown]:.2f}")
        best = values[row].argmax()
        told = f", less than the {values[row, best]:.2f} of {est.classes_[best]}"
        assert model.endswith(told) == (row == differ[0] and output is None)
    many = FeatureGraphDisplay.from_estimator(est, TABLE)
    assert "\n" not in many.heading


def fitted_connector(X, y):
    return FeatureConnector(n_nonzero_coefs=9).fit(X, y)


def features_of(prefix, layer=0):
    codes = np.maximum(np.random.default_rng(layer).normal(size=(60, 4)), 0)
    return pd.DataFrame(codes, columns=numbered(prefix, 4))


@pytest.mark.parametrize(
    ("inputs", "outputs", "called"),
    [
        ("in ", "out ", ("in ", "out ")),
        # Two features may not go by one name.
        ("sparseautoencoder", "sparseautoencoder", ("sparseautoencoder", "F2_")),
        ("F2_", "F2_", ("F2_", "F3_")),
        ("F2_", None, ("F2_", "F3_")),
        (None, "out ", ("F1_", "out ")),
        (None, None, ("F1_", "F2_")),
    ],
)
def test_a_connector_between_tables(inputs, outputs, called):
    X, y = features_of(inputs or ""), features_of(outputs or "", 1)
    X = X if inputs else X.to_numpy()
    connector = fitted_connector(X, y if outputs else y.to_numpy())
    compare(connector, X, *(numbered(prefix, 4) for prefix in called))
    assert hasattr(connector, "output_names_") == (called[1] == outputs)
    text = connector.formula(1, feature_names=list("abcd"), output_names=list("wxyz"))
    assert text.startswith("x = ")
    connector.fit(X if inputs is None else X.to_numpy(), y.to_numpy())
    assert connector.formula(0).startswith("F2_0 = ")


def test_a_series_gives_its_name():
    X, y = features_of("in "), features_of("out ", 1)
    assert fitted_connector(X, y["out 2"]).formula(0).startswith("out 2 = ")
    assert fitted_connector(X, y["out 2"].rename(None)).formula(0)[:5] == "F2_0 "


def test_a_part_that_is_fitted_anew_is_its_own():
    est = FeatureUnwrapper(
        classifier(ROWS),
        autoencoder=SparseAutoencoder(M, k=3, max_iter=2, random_state=0),
        distill=False,
        random_state=0,
    ).fit(ROWS)
    connector = est.connectors_[1].fit(features_of("in "), features_of("out ", 1))
    assert connector.formula(0).startswith("out 0 = ")
    autoencoder = est.autoencoders_[1].fit(ROWS)
    assert autoencoder.get_feature_names_out()[0] == "sparseautoencoder0"


def test_a_pair_of_layers():
    X, codes, _ = make_sparse_features(400, 12, 24, random_state=0)
    Y = np.maximum(codes[:, :8].toarray() - codes[:, 8:16].toarray(), 0)
    parts = [SparseAutoencoder(m, k=3, max_iter=4) for m in (24, 8)]
    pair = LayerPair(*parts, n_nonzero_coefs=4, min_events=30, random_state=0)
    pair.fit(X, Y)
    # Some are not live: a feature's number is not its column.
    assert len(pair.live_inputs_) < 24
    read = [f"IF_{i}" for i in pair.live_inputs_]
    written = [f"OF_{i}" for i in pair.live_outputs_]
    compare(pair.connector_, pair.input_features(X), read, written)
    formulas = [pair.formula(int(i)) for i in pair.live_outputs_]
    own = [pair.connector_.formula(i) for i in range(len(written))]
    assert formulas == own
    text = pair.formula(int(pair.live_outputs_[0]), output_names=["a"] * len(written))
    assert text.startswith("a = ")
    assert pair.input_autoencoder_.get_feature_names_out().tolist() == numbered(
        "IF_", 24
    )
    assert pair.output_autoencoder_.get_feature_names_out().tolist() == numbered(
        "OF_", 8
    )
    whole = ConnectorDisplay.from_estimator(pair)
    assert list(whole.input_names) == numbered("IF_", 24)
    assert list(whole.output_names) == numbered("OF_", 8)
    printed = str(pair.report(X, Y))
    assert all(f"\n{name} " in printed for name in written)
