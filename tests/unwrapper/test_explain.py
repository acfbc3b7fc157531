"""One row explained: contributions add up, and the model stands beside the network."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.inspection import FeatureGraphDisplay
from skfeat.network import Attribution, Explanation

pd = pytest.importorskip("pandas")
X, Y = load_iris(return_X_y=True, as_frame=True)
X = (X - X.mean()) / X.std()
X.columns = ["sepal length", "sepal width", "<script>alert(1)</script>", "petal width"]
LABELS = np.array(["setosa", "versicolor", "virginica"])[Y]


def unwrapped(model, y, rows=X):
    part = SparseAutoencoder(8, k=4, max_iter=100, random_state=0)
    return FeatureUnwrapper(
        model.fit(rows, y), autoencoder=part, random_state=0, max_iter=20
    ).fit(rows)


SIZES = {"hidden_layer_sizes": (8, 8), "solver": "lbfgs", "tol": 0.01}


@pytest.fixture(scope="module")
def classifier():
    return unwrapped(MLPClassifier(**SIZES, random_state=0), LABELS)


@pytest.mark.filterwarnings("ignore:.*dead:UserWarning")
@pytest.mark.parametrize("row", [0, 75, 149])
def test_contributions_add_up_to_the_output_of_the_predicted_class(classifier, row):
    found = classifier.explain(X.iloc[[row]])
    assert isinstance(found, Explanation)
    assert isinstance(found.attribution, Attribution)
    network = classifier.network()
    outputs = network.predict_raw(X.iloc[[row]].to_numpy())[0]
    label = classifier.predict(X.iloc[[row]])[0]
    assert found.prediction == found.output_name == label
    column = list(classifier.classes_).index(label)
    assert found.value == pytest.approx(outputs[column], rel=1e-6)
    frame = found.to_frame()
    assert list(frame) == ["layer", "name", "value", "contribution"]
    sums = frame.groupby("layer")["contribution"].sum()
    assert list(sums.index) == sorted(["inputs", *network.layer_names_])
    np.testing.assert_allclose(sums, outputs[column], rtol=1e-5)
    inputs = frame[frame["layer"] == "inputs"].set_index("name")
    assert set(inputs.index) == {*X.columns, "constants"}
    for name in X.columns:
        assert inputs.loc[name, "value"] == pytest.approx(X[name].iloc[row])
    features = frame[frame["layer"] == "hidden_1"].set_index("name")["value"]
    own = classifier.transform(X.iloc[[row]])[0]
    names = classifier.get_feature_names_out()
    np.testing.assert_allclose(features[list(names)], own, rtol=1e-6)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
def test_the_model_stands_beside_the_network(classifier):
    found = classifier.explain(X.iloc[60], output="setosa")
    own = classifier._model_values(X.iloc[[60]])[0, 0]
    assert found.output_name == "setosa"
    assert found.model_value == pytest.approx(own)
    assert found.gap == found.value - found.model_value
    assert found.model_prediction == classifier.model.predict(X.iloc[[60]])[0]
    assert classifier.explain(X.iloc[60], output=0).value == found.value
    alone = classifier.network().explain(X.iloc[60])
    assert alone.gap is alone.model_value is alone.model_prediction is None
    assert "model" not in str(alone)
    apart = Explanation(found.attribution, found.values, "setosa", 1.0, "virginica")
    assert "but the model virginica" in str(apart)
    # A vector, a Series and a row of a frame or array are one row.
    rows = [X.iloc[60].to_numpy(), X.iloc[[60]].to_numpy(), X.iloc[[60]]]
    for row in rows:
        assert classifier.explain(row, output=0).value == pytest.approx(found.value)


def test_it_fits_a_screen_and_shows_in_a_notebook(classifier):
    found = classifier.explain(X.iloc[60])
    lines = str(found).splitlines()
    assert repr(found) == str(found)
    assert max(map(len, lines)) <= 100
    assert len(lines) <= 45
    assert lines[0].startswith(f"the logit of class {found.output_name}: ")
    assert f"gap {found.gap:+.3f}" in lines[0]
    sums = [line.split()[-1] for line in lines if line.split()[0] == "sum"]
    assert sums == [f"{found.value:+.3f}"] * 3
    html = found._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert (
        'title="of the input, as the network is fed it, or of the feature">value</th>'
        in html
    )
    assert '<i class="p"' in html


def test_its_picture(classifier):
    found = classifier.explain(X.iloc[60])
    display = FeatureGraphDisplay.from_explanation(found)
    expected = FeatureGraphDisplay.from_estimator(
        classifier, X.iloc[[60]], output=int(found.attribution.output[0]), inputs=True
    )
    assert display.heading == expected.heading
    assert display.node_names == expected.node_names
    assert display.layer_names == expected.layer_names
    for one, other in zip(display.edges, expected.edges, strict=True):
        assert abs(one - other).max() == 0
    with pytest.raises(TypeError, match="explanation must be what"):
        FeatureGraphDisplay.from_explanation(X)


def test_a_regression_after_a_scaler():
    y = X["petal width"] + np.maximum(X["sepal width"], 0)
    model = make_pipeline(StandardScaler(), MLPRegressor(**SIZES, random_state=0))
    rows = 5 * X + 3
    found = unwrapped(model, y, rows).explain(rows.iloc[3])
    assert found.prediction is found.model_prediction is None
    assert found.model_value == pytest.approx(model.predict(rows.iloc[[3]])[0])
    sums = found.to_frame().groupby("layer")["contribution"].sum()
    np.testing.assert_allclose(sums, found.value, rtol=1e-5)
    assert "predicts" not in str(found)


def test_inputs_of_a_curved_front_are_left_out():
    model = MLPClassifier(**SIZES, activation="tanh", random_state=0)
    unwrapper = unwrapped(model, LABELS)
    unwrapper.set_params(layers=["hidden_1"], max_iter="auto")
    found = unwrapper.fit(X).explain(X.iloc[0])
    assert found.attribution.inputs is None
    assert "inputs are left out" in str(found)
    frame = found.to_frame()
    assert set(frame["layer"]) == {"hidden_1"}
    assert frame["contribution"].sum() == pytest.approx(found.value, rel=1e-5)


@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
def test_what_is_not_one_row_or_output_gets_one_sentence(classifier):
    for several in (X, X.to_numpy()[:2], X[:0], 3.0):
        with pytest.raises(ValueError, match=r"^x must be one row, of shape \(n_feat"):
            classifier.explain(several)
        with pytest.raises(ValueError, match=r"^x must be one row, of shape \(n_feat"):
            classifier.network().explain(several)
    for output in ("rose", 3, [0], 0.5):
        with pytest.raises(ValueError, match=r"^output must be"):
            classifier.explain(X.iloc[0], output=output)
    with pytest.raises(ValueError, match="feature names should match"):
        classifier.explain(X.iloc[0].rename({"petal width": "other"}))
