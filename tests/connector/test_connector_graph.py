"""The graph of a connector's weights."""

import numpy as np
import pytest
from scipy import sparse

from skfeat import FeatureConnector

WEIGHTS = np.array([[0.0, 0.5, 0.0, 2.0], [0.0, -1.0, 0.0, 0.0], [0.0] * 4])
COEF = sparse.csr_array(WEIGHTS.astype(np.float32))
INTERCEPT = np.array([0.25, -1.0, 3.0], dtype=np.float32)


def graph_of(coef=COEF, **options):
    connector = FeatureConnector()
    connector.coef_, connector.intercept_ = coef, INTERCEPT
    return connector.to_networkx(**options)


def test_nodes_and_edges():
    nx = pytest.importorskip("networkx")
    graph = graph_of()
    assert isinstance(graph, nx.DiGraph)
    assert nx.is_bipartite(graph)
    assert dict(graph.nodes.items()) == {
        "F1_1": {"layer": 0, "index": 1},
        "F1_3": {"layer": 0, "index": 3},
        "F2_0": {"layer": 1, "index": 0, "bias": 0.25},
        "F2_1": {"layer": 1, "index": 1, "bias": -1.0},
    }
    assert set(graph.edges(data="weight")) == {
        ("F1_1", "F2_0", 0.5),
        ("F1_3", "F2_0", 2.0),
        ("F1_1", "F2_1", -1.0),
    }
    for *_, weight in graph.edges(data="weight"):
        assert type(weight) is float
    assert type(graph.nodes["F2_0"]["bias"]) is float


def test_all_features():
    pytest.importorskip("networkx")
    graph = graph_of(all_features=True)
    assert list(graph) == [*(f"F1_{i}" for i in range(4)), "F2_0", "F2_1", "F2_2"]
    assert graph.number_of_edges() == COEF.nnz
    for before, after, weight in graph.edges(data="weight"):
        column, row = graph.nodes[before]["index"], graph.nodes[after]["index"]
        assert weight == COEF[row, column]


def test_no_weights():
    pytest.importorskip("networkx")
    empty = sparse.csr_array((3, 4))
    assert len(graph_of(empty)) == 0
    assert len(graph_of(empty, all_features=True)) == 7


def test_names():
    pytest.importorskip("networkx")
    names = np.array(["old", "young", "new", "former"], dtype=object)
    graph = graph_of(feature_names=names, output_names=("age", "time", "size"))
    assert set(graph) == {"young", "former", "age", "time"}
    assert graph["former"]["age"]["weight"] == 2.0
    graph = graph_of(feature_names=names.astype(str))
    assert {type(node) for node in graph} == {str}
    assert set(graph) == {"young", "former", "F2_0", "F2_1"}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            {"feature_names": 3},
            "feature_names must be .* sequence of 4 strings. Got 3 inst",
        ),
        (
            {"feature_names": "abcd"},
            "feature_names must be None or a sequence of 4 strings",
        ),
        (
            {"feature_names": [1, 2, 3, 4]},
            "feature_names must be None or a sequence of 4",
        ),
        ({"feature_names": ["a"]}, "feature_names must name the 4 inputs. Got 1 names"),
        ({"output_names": {"a", "b", "c"}}, "output_names must be None or a sequence"),
        ({"output_names": list("abcd")}, "name the 3 outputs. Got 4 names"),
        ({"feature_names": list("abca")}, "all be different.*Got 'a' 2 times"),
        ({"output_names": ["F1_0", "a", "b"]}, "all be different.*Got 'F1_0' 2 times"),
    ],
)
def test_refuses_names(names, message):
    pytest.importorskip("networkx")
    with pytest.raises(ValueError, match=message):
        graph_of(**names)


@pytest.mark.usefixtures("without_networkx")
def test_without_networkx():
    with pytest.raises(ImportError, match=r"pip install skfeat\[graph\]"):
        graph_of()
