"""Files of sites that show graphs and features: their fields, and that they add up."""

import json

import numpy as np
import pytest
from scipy import sparse
from sklearn.datasets import load_iris
from sklearn.neural_network import MLPClassifier, MLPRegressor

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.capture import Capture
from skfeat.sharing import attribution_graph, feature_dashboards

pytestmark = pytest.mark.filterwarnings("ignore:.*(still falling|dead)")

NODE = {
    *("node_id", "feature", "layer", "ctx_idx", "feature_type", "token_prob"),
    *("is_target_logit", "run_idx", "reverse_ctx_idx", "jsNodeId", "clerp"),
    *("influence", "activation"),
}


@pytest.fixture(scope="module")
def rows():
    X, y = load_iris(return_X_y=True)
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def unwrapped(mlp, X, **options):
    part = SparseAutoencoder(8, k=4, max_iter=60, random_state=0)
    return FeatureUnwrapper(
        mlp, autoencoder=part, max_iter=20, random_state=0, **options
    ).fit(X)


@pytest.fixture(scope="module")
def explanation(rows):
    X, y = rows
    mlp = MLPClassifier((8, 8), solver="lbfgs", tol=0.01, random_state=0).fit(X, y)
    return unwrapped(mlp, X).explain(X[60])


@pytest.fixture(scope="module")
def graph(explanation):
    return attribution_graph(explanation, slug="iris-60", scan="iris-mlp")


def test_fields_of_a_graph(graph):
    assert set(graph) == {"metadata", "qParams", "nodes", "links"}
    metadata = graph["metadata"]
    assert metadata["slug"] == "iris-60"
    assert metadata["scan"] == "iris-mlp"
    assert metadata["schema_version"] == 1
    assert metadata["prompt"] == ", ".join(metadata["prompt_tokens"])
    assert len(metadata["prompt_tokens"]) == 4
    for node in graph["nodes"]:
        assert set(node) == NODE
        assert isinstance(node["layer"], str)
        at = node["ctx_idx"]
        assert 0 <= at < 4
        assert node["reverse_ctx_idx"] == 3 - at
        assert node["node_id"] == f"{node['layer']}_{node['feature']}_{at}"
        assert node["jsNodeId"] == f"{node['layer']}_{node['feature']}-{3 - at}"
    kinds = {node["layer"]: node["feature_type"] for node in graph["nodes"]}
    feature = "cross layer transcoder"
    assert kinds == {"E": "embedding", "0": feature, "1": feature, "2": "logit"}
    ids = [node["node_id"] for node in graph["nodes"]]
    assert len(set(ids)) == len(ids)
    for link in graph["links"]:
        assert set(link) == {"source", "target", "weight"}
        assert {link["source"], link["target"]} <= set(ids)
        assert isinstance(link["weight"], float)
        assert link["weight"]
    (output,) = (node for node in graph["nodes"] if node["is_target_logit"])
    params = graph["qParams"]
    assert params["pinnedIds"] == [params["clickedId"]] == [output["node_id"]]
    assert params["linkType"] == "both"


def test_links_are_the_contributions(graph, explanation):
    parts = explanation.attribution
    entering, leaving = {}, {}
    for link in graph["links"]:
        entering[link["target"]] = entering.get(link["target"], 0) + link["weight"]
        leaving[link["source"]] = leaving.get(link["source"], 0) + link["weight"]
    nodes = {node["node_id"]: node for node in graph["nodes"]}
    (output,) = graph["qParams"]["pinnedIds"]
    total = entering[output] + parts.output_bias[0]
    assert total == pytest.approx(explanation.value, rel=1e-5)
    for name, node in nodes.items():
        j, layer = node["feature"], node["layer"]
        if name == output:
            continue
        brings = parts.inputs if layer == "E" else parts.features[int(layer)]
        # What leaves a node is what it brings; so is what enters, with its constant.
        assert leaving[name] == pytest.approx(brings[0, j], rel=1e-4, abs=1e-5)
        if layer != "E":
            constant = parts.biases[int(layer)][0, j]
            if layer == "0":
                continue  # its constants are those of the steps before it, too
            inside = entering.get(name, 0) + constant
            assert inside == pytest.approx(brings[0, j], rel=1e-4, abs=1e-5)


def test_influence_keeps_the_strongest(graph, explanation):
    nodes = [node for node in graph["nodes"] if node["layer"] == "1"]
    shares = sorted(node["influence"] for node in nodes)
    assert shares[-1] == pytest.approx(1)
    strength = np.abs(explanation.attribution.features[1][0])
    best = min(nodes, key=lambda node: node["influence"])
    assert best["feature"] == strength.argmax()
    assert best["influence"] == pytest.approx(strength.max() / strength.sum())
    assert best["activation"] == pytest.approx(explanation.values[2][best["feature"]])


def test_a_graph_is_written(explanation, graph, tmp_path):
    path = tmp_path / "graph.json"
    again = attribution_graph(explanation, path, slug="iris-60", scan="iris-mlp")
    assert json.loads(path.read_text()) == again == graph


def test_a_regression_without_inputs(rows):
    X, y = rows
    mlp = MLPRegressor(
        hidden_layer_sizes=(8, 8, 8),
        activation="tanh",
        solver="lbfgs",
        tol=0.1,
        max_iter=200,
        random_state=0,
    )
    explained = unwrapped(
        mlp.fit(X, X[:, 0] + y), X, layers=["hidden_1", "hidden_2"]
    ).explain(X[3])
    assert explained.attribution.inputs is None
    graph = attribution_graph(explained)
    assert graph["metadata"]["prompt_tokens"] == ["row"]
    assert {node["layer"] for node in graph["nodes"]} == {"0", "1", "2"}
    assert graph["nodes"][-1]["clerp"].startswith("output 0: ")


@pytest.mark.parametrize("slug", ["", "Row", "a b", "-a", 3])
def test_slugs(slug, explanation):
    with pytest.raises(ValueError, match="slug must be lower-case"):
        attribution_graph(explanation, slug=slug)


def test_what_is_no_explanation(explanation):
    with pytest.raises(TypeError, match="explanation must be what"):
        attribution_graph(explanation.attribution)


# Dashboards


TEXTS = [" a", " b", " c", b"\xc3"]


@pytest.fixture(scope="module")
def capture():
    rng = np.random.default_rng(0)
    return Capture(
        activations={},
        sequence=np.repeat(np.arange(30), 20),
        position=np.tile(np.arange(20), 30),
        token_ids=rng.integers(0, 4, 600),
    )


@pytest.fixture(scope="module")
def codes():
    rng = np.random.default_rng(1)
    codes = np.maximum(rng.normal(size=(600, 3)) - 1, 0)
    codes[:, 1] = 0
    return codes


NAMES = {"model": "tiny", "layer": "0-mlp-skfeat"}


def test_fields_of_a_feature(codes, capture):
    pages = feature_dashboards(
        sparse.csr_array(codes), capture, TEXTS, numbers=[5, 6, 7], **NAMES
    )
    assert [page["index"] for page in pages] == ["5", "7"], "one never fires"
    for page, column in zip(pages, codes.T[[0, 2]], strict=True):
        assert (page["modelId"], page["layer"]) == ("tiny", "0-mlp-skfeat")
        assert page["frac_nonzero"] == pytest.approx((column > 0).mean())
        assert page["maxActApprox"] == pytest.approx(column.max())
        heights = page["freq_hist_data_bar_heights"]
        centres = page["freq_hist_data_bar_values"]
        assert len(heights) == len(centres) == 50
        assert sum(heights) == (column > 0).sum()
        assert 0 < centres[0] < centres[-1] < column.max()
        assert page["pos_str"] == page["neg_values"] == []
        assert page["logits_hist_data_bar_values"] == []


def test_passages_of_a_feature(codes, capture):
    page, _ = feature_dashboards(codes, capture, TEXTS, **NAMES)
    passages = page["activations"]
    assert len(passages) > 10
    assert passages[0]["maxValue"] == page["maxActApprox"]
    shares = {}
    for passage in passages:
        tokens, values = passage["tokens"], passage["values"]
        assert len(tokens) == len(values)
        assert all(isinstance(token, str) for token in tokens)
        assert (
            passage["maxValue"] == max(values) == values[passage["maxValueTokenIndex"]]
        )
        assert passage["minValue"] == min(values)
        chosen = values[passage["qualifyingTokenIndex"]]
        assert passage["binMin"] < chosen <= passage["binMax"]
        assert passage["index"] == page["index"]
        shares[passage["binMin"], passage["binMax"]] = passage["binContains"]
    whole = shares.pop((0.0, page["maxActApprox"]))
    assert whole == 1.0
    firing = codes[:, 0][codes[:, 0] > 0]
    assert len(shares) >= 3
    for (low, high), share in shares.items():
        assert share == pytest.approx(((firing > low) & (firing <= high)).mean())


def test_logits_of_a_feature(codes, capture):
    logits = np.array([[0.5, -2.0, 3.0, 0.0]] * 3)
    page, _ = feature_dashboards(codes, capture, TEXTS, logits=logits, **NAMES)
    assert (page["pos_str"], page["pos_values"]) == ([" c", " a"], [3.0, 0.5])
    assert (page["neg_str"], page["neg_values"]) == ([" b"], [-2.0])
    assert sum(page["logits_hist_data_bar_heights"]) == 4


def test_pages_are_written(codes, capture, tmp_path):
    path = tmp_path / "features.json"
    pages = feature_dashboards(codes, capture, TEXTS, path=path, **NAMES)
    assert json.loads(path.read_text()) == pages


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"numbers": [1]}, "numbers must be a sequence of 3 ints"),
        ({"numbers": [1, 2, -3]}, "numbers must be an int of at least 0"),
        ({"logits": np.zeros((2, 4))}, "logits must be of shape"),
        ({"codes": -np.ones((600, 3))}, "codes must be at least zero"),
        ({"codes": np.ones((5, 3))}, "codes must have 600 rows"),
    ],
)
def test_wrong_dashboards(change, told, codes, capture):
    given = {"codes": codes, "capture": capture, "decode": TEXTS, **NAMES, **change}
    with pytest.raises(ValueError, match=told):
        feature_dashboards(**given)


@pytest.mark.parametrize("name", ["model", "layer"])
def test_names_of_dashboards(name, codes, capture):
    with pytest.raises(TypeError, match=f"{name} must be a str that is not empty"):
        feature_dashboards(codes, capture, TEXTS, **{**NAMES, name: ""})
