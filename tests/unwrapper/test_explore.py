"""The explorer's page of an unwrapper: what it has beyond that of its network."""

import numpy as np
import pytest
from sklearn.datasets import load_iris
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfeat import FeatureUnwrapper, SparseAutoencoder
from tests.network.test_network_explore import close, written


@pytest.fixture(scope="module")
def iris():
    X, y = load_iris(return_X_y=True, as_frame=True)
    mlp = MLPClassifier((6, 6), solver="lbfgs", tol=0.01, random_state=0)
    model = make_pipeline(StandardScaler(), mlp).fit(X, y)
    part = SparseAutoencoder(8, k=4, max_iter=20, random_state=0)
    unwrapper = FeatureUnwrapper(model, autoencoder=part, max_iter=5, random_state=0)
    return unwrapper.fit(X), X, np.array(["a", "b", "c"])[y]


@pytest.fixture(scope="module")
def found(iris, tmp_path_factory):
    unwrapper, X, y = iris
    path = tmp_path_factory.mktemp("page") / "iris.html"
    return written(unwrapper.explore(X, y, path, n_rows=4))


def test_names_are_those_of_the_columns(iris, found):
    unwrapper, X, _ = iris
    inputs, first, second, outputs = (layer["names"] for layer in found["layers"])
    assert inputs == list(X.columns)
    assert first == list(unwrapper.get_feature_names_out(layer=0))
    assert second == list(unwrapper.get_feature_names_out(layer=1))
    assert outputs == ["0", "1", "2"]
    assert found["examples"]["columns"] == list(X.columns)
    assert found["examples"]["classes"] == ["a", "b", "c"]
    # That of the last step, not of the Pipeline.
    assert found["title"] == "Features of MLPClassifier"


def test_formulas_and_logic_are_those_of_the_connectors(iris, found):
    unwrapper, X, _ = iris
    connector, layer = unwrapper.connectors_[0], found["layers"][2]
    before, after = (unwrapper.transform(X, layer=at) for at in (0, 1))
    weights = np.diff(connector.coef_.indptr)
    assert weights.any()
    for j, n in enumerate(weights):
        formula, text = layer["formulas"][j], layer["logics"][j]
        if not n:
            assert (formula, text) == ("", "")
            continue
        assert formula == connector.formula(j)
        logic = connector.logic(j, before, after[:, j])
        assert text == f"{logic.kind}: {logic.formula}"
    assert found["layers"][1]["logics"] is None


def test_rows_have_what_the_model_itself_gives(iris, found):
    unwrapper, X, y = iris
    numbers = found["examples"]["rows"]
    for row in found["rows"]:
        at = int(numbers[row["example"]])
        explanation = unwrapper.explain(X.iloc[at])
        facts = dict(row["facts"])
        assert facts["label"] == y[at]
        name = f"logit of class {explanation.output_name} by the network"
        assert facts[name] == f"{explanation.value:.3f}"
        assert facts["by the model itself"] == f"{explanation.model_value:.3f}"
        assert facts["predicted by the network"] == str(explanation.prediction)
        assert facts["by the model"] == str(explanation.model_prediction)
        nodes, values, parts = row["values"][1]
        close(values, explanation.values[1][nodes])
        close(parts, explanation.attribution.features[0][0, nodes])


def test_columns_must_be_those_of_the_fit(iris, tmp_path):
    unwrapper, X, _ = iris
    with pytest.raises(ValueError, match="feature names"):
        unwrapper.explore(X[X.columns[::-1]], path=tmp_path / "a.html")
