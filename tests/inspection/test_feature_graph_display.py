"""Feature graphs: which edges they show, that they can be read, what they refuse."""

from itertools import combinations, pairwise

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.exceptions import NotFittedError

from skfeat.activations import TopK
from skfeat.chain import Chain, Step
from skfeat.inspection import FeatureGraphDisplay, _drawn_text
from skfeat.inspection import _feature_graph_drawing as graph_drawing
from skfeat.inspection import _feature_graph_images as graph_images
from skfeat.inspection import _feature_graph_layout as layout
from skfeat.network import SparseFeatureNetwork
from skfeat.utils._names import output_names
from tests.network.test_network import affine

matplotlib.use("Agg")
import matplotlib.pyplot as plt

RNG = np.random.default_rng(0)


def sparse_matrix(m, n, nnz, rng=RNG):
    places = rng.choice(m * n, size=nnz, replace=False)
    entries = rng.normal(size=nnz) ** 3, np.unravel_index(places, (m, n))
    return sparse.csr_array(entries, shape=(m, n))


def large():
    sizes = [256, 256, 256, 10]
    edges = [sparse_matrix(256, 256, 458), sparse_matrix(256, 256, 458)]
    edges.append(sparse_matrix(10, 256, 2000))
    return FeatureGraphDisplay(
        edges=edges,
        node_values=[RNG.normal(size=n) for n in sizes],
        node_names=[[f"F{i}_{j}" for j in range(n)] for i, n in enumerate(sizes)],
        layer_names=["fc1", "fc2", "fc3", "outputs"],
    )


def network(front=(), back=None, n_layers=3, **names):
    rng = np.random.default_rng(4)
    back = [affine(rng, 5, 4)] if back is None else back
    return SparseFeatureNetwork(
        front=Chain.from_steps(list(front), 6),
        encoder_coef=rng.normal(size=(12, 6)),
        encoder_intercept=rng.normal(size=12),
        encoder_bias=rng.normal(size=6),
        activation=TopK(5),
        coefs=[sparse_matrix(12, 12, 60, rng) for _ in range(n_layers - 1)],
        intercepts=[rng.normal(size=12)] * (n_layers - 1),
        links=["relu"] * (n_layers - 1),
        decoder_coef=rng.normal(size=(12, 5)),
        decoder_intercept=rng.normal(size=5),
        back=Chain.from_steps(back, 5),
        layer_names=[f"fc{i}" for i in range(n_layers)],
        **names,
    )


NETWORK = network()
X = np.random.default_rng(1).normal(size=(20, 6))


def boxes_of(display):
    """The boxes of nodes in pixels, all columns together."""
    display.figure_.canvas.draw()
    return [
        display.ax_.transData.transform_path(path).get_extents()
        for nodes in display.nodes_
        for path in nodes.get_paths()
    ]


def assert_readable(display):
    boxes = boxes_of(display)
    for one, other in combinations(boxes, 2):
        assert not one.overlaps(other)
    texts = [text.get_window_extent() for text in display.ax_.texts]
    for one, other in combinations(texts, 2):
        assert not one.overlaps(other)
    frame = display.ax_.get_window_extent().padded(1)
    for text in texts:
        assert frame.x0 <= text.x0 <= text.x1 <= frame.x1
        assert frame.y0 <= text.y0 <= text.y1 <= frame.y1
    named = [text.get_window_extent() for text in display.texts_]
    for text in named:
        assert any(
            box.x0 <= text.x0
            and text.x1 <= box.x1
            and box.y0 <= (text.y0 + text.y1) / 2 <= box.y1
            for box in boxes
        )


# ------------------------------------------------------------------ what is shown


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    sizes=st.lists(st.integers(1, 8), min_size=2, max_size=5),
    n_edges=st.integers(1, 12),
)
def test_the_strongest_edges_that_lead_on(seed, sizes, n_edges):
    rng = np.random.default_rng(seed)
    matrices = [
        rng.normal(size=(after, before)) * (rng.random((after, before)) < 0.6)
        for before, after in pairwise(sizes)
    ]
    gaps = layout.strongest_edges([sparse.csr_array(m) for m in matrices], n_edges)
    reached = range(sizes[-1])
    for matrix, gap in list(zip(matrices, gaps, strict=True))[::-1]:
        candidates = sorted(
            (abs(matrix[i, j]) for i in reached for j in range(matrix.shape[1])),
            reverse=True,
        )
        expected = [value for value in candidates[:n_edges] if value]
        np.testing.assert_array_equal(np.abs(gap.value)[::-1], expected)
        np.testing.assert_array_equal(matrix[gap.target, gap.source], gap.value)
        total = np.abs(matrix).sum()
        assert gap.share == pytest.approx(sum(expected) / total if total else 1.0)
        assert set(gap.target) <= set(reached)
        reached = sorted(set(gap.source.tolist()))
    columns = layout.shown_columns(gaps, sizes[-1])
    ordered = layout.ordered_columns(columns, gaps)
    for column, again in zip(columns, ordered, strict=True):
        np.testing.assert_array_equal(column, np.sort(again))


def test_order_undoes_crossings():
    edges = np.fliplr(np.eye(6))
    display = FeatureGraphDisplay(edges=[edges, np.eye(6)]).plot()
    assert [column.tolist() for column in display.columns_] == [
        [5, 4, 3, 2, 1, 0],
        [0, 1, 2, 3, 4, 5],
        [0, 1, 2, 3, 4, 5],
    ]
    for lines in display.edges_:
        for segment in lines.get_segments():
            assert segment[0, 1] == pytest.approx(segment[-1, 1])


def test_edges_end_at_their_boxes():
    display = large().plot(n_edges=25)
    tops = {}
    for i, (nodes, column) in enumerate(
        zip(display.nodes_, display.columns_, strict=True)
    ):
        for node, path in zip(column.tolist(), nodes.get_paths(), strict=True):
            tops[i, node] = path.get_extents()
    gaps = layout.strongest_edges(display.edges, 25)
    for i, (lines, gap) in enumerate(zip(display.edges_, gaps, strict=True)):
        ends = zip(gap.source.tolist(), gap.target.tolist(), strict=True)
        for segment, (source, target) in zip(lines.get_segments(), ends, strict=True):
            box = tops[i, source]
            assert box.y0 <= segment[0, 1] <= box.y1
            assert segment[0, 0] == pytest.approx(box.x1)
            box = tops[i + 1, target]
            assert box.y0 <= segment[-1, 1] <= box.y1
            assert segment[-1, 0] == pytest.approx(box.x0)


def test_colours_and_widths_follow_sign_and_strength():
    display = FeatureGraphDisplay(
        edges=[[[3.0, -1.0]]], node_values=[[3.0, -1.0], [2.0]]
    ).plot()
    (lines,) = display.edges_
    weak, strong = lines.get_linewidths()
    assert strong > weak
    (blue, red), (down, up) = (
        lines.get_colors(),
        display.nodes_[0].get_facecolors()[::-1],
    )
    for negative, positive in ((blue, red), (down, up)):
        assert negative[2] > negative[0]
        assert positive[0] > positive[2]
    low, high = display.colorbar_.mappable.get_clim()
    assert -low == high == 3
    heights = [path.get_extents().height for path in display.nodes_[0].get_paths()]
    assert heights[0] > heights[1]
    again = display.plot(cmap="PiYG", vmax=9, colorbar=False, edge_kw={"lw": 2})
    assert again.colorbar_ is None
    assert again.edges_[0].get_linewidths() == [2]
    plain = FeatureGraphDisplay(edges=[[[3.0, 1.0]]], signed=False).plot()
    assert plain.colorbar_.mappable.get_clim() == (0, 3)


# ------------------------------------------------------------------ can it be read


@pytest.mark.parametrize("n_edges", [5, 30, 90])
def test_large_graphs_are_readable(n_edges):
    display = large().plot(n_edges=n_edges)
    assert_readable(display)
    assert all(len(lines.get_segments()) == n_edges for lines in display.edges_)
    n_nodes = sum(map(len, display.columns_))
    if n_edges < 90:
        assert len(display.texts_) == n_nodes
    else:
        assert 100 < len(display.texts_) <= n_nodes


def test_names_without_room_are_not_measured(monkeypatch):
    measured = []

    def width(ax, text, font):
        measured.append(text)
        return _drawn_text.text_width(ax, text, font)

    monkeypatch.setattr(graph_drawing, "text_width", width)
    names = [[f"{i} of {j}" for i in range(400)] for j in range(2)]
    display = FeatureGraphDisplay(edges=[np.eye(400)], node_names=names)
    display.plot(n_edges=400, colorbar=False)
    assert [len(column) for column in display.columns_] == [400, 400]
    shown = [text.get_text() for text in display.texts_]
    assert len(shown) < 200
    assert set(measured) == set(shown)


def test_axes_that_are_too_small_leave_names_out_of_the_weakest():
    figure, axes = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
    display = large().plot(ax=axes[0], n_edges=40)
    assert_readable(display)
    assert 0 < len(display.texts_) < sum(map(len, display.columns_))
    assert display.figure_ is figure
    assert min(text.get_fontsize() for text in display.texts_) == layout.SMALLEST_FONT


def test_long_names_are_cut():
    names = [[f"a feature with a very long name, number {j}" for j in range(12)]] * 2
    display = FeatureGraphDisplay(
        edges=[np.eye(12)], node_names=names, layer_names=["$x_1", "a layer of " * 20]
    ).plot()
    assert_readable(display)
    _figure, ax = plt.subplots(figsize=(3, 6), layout="constrained")
    display.plot(ax=ax, colorbar=False)
    assert_readable(display)
    assert {text.get_text()[-1] for text in display.texts_} == {"…"}


# ------------------------------------------------------------------ from networks


def test_columns_of_many_layers_have_room_for_whole_names():
    names = [[f"OF{i}_{100 + j} @ mistake" for j in range(6)] for i in range(8)]
    display = FeatureGraphDisplay(
        edges=[np.eye(6)] * 7, node_values=[np.ones(6)] * 8, node_names=names
    ).plot()
    plt.close(display.figure_)
    texts = [text.get_text() for text in display.texts_]
    shown = [text.partition("  ")[0] for text in texts]
    assert sorted(shown) == sorted(name for column in names for name in column)


def test_one_row_shows_exact_contributions():
    parts = NETWORK.attribute(X[:1], inputs=True)
    display = FeatureGraphDisplay.from_network(
        NETWORK, X[0], inputs=True, output_names=list("abcd"), n_edges=1000
    )
    assert display.layer_names == ["inputs", "fc0", "fc1", "fc2", "output"]
    name, value = "abcd"[parts.output[0]], parts.value[0]
    assert display.node_names[-1] == [name]
    assert display.node_names[0][:2] == ["x0", "x1"]
    assert display.heading.startswith(f"{name}: {value:.2f} = ")
    np.testing.assert_allclose(display.node_values[0], parts.inputs[0])
    np.testing.assert_allclose(display.node_values[2], parts.features[1][0])
    assert display.node_values[-1] == parts.value
    np.testing.assert_allclose(display.edges[1].toarray(), parts.flow(0, 0).toarray())
    np.testing.assert_allclose(display.edges[-1].toarray(), parts.features[-1])
    into = np.asarray(display.edges[0].sum(axis=0))
    np.testing.assert_allclose(into, parts.inputs[0])
    # All that is left out leads to nothing.
    for edges, lines in zip(display.edges[1:], display.edges_[1:], strict=True):
        assert len(lines.get_segments()) == edges.nnz
    np.testing.assert_allclose(display.coverage_, 1)
    assert_readable(display)
    chosen = FeatureGraphDisplay.from_network(NETWORK, X[:1], output=2)
    assert chosen.node_names[-1] == ["output 2"]
    assert chosen.layer_names == ["fc0", "fc1", "fc2", "output"]
    assert f"{NETWORK.predict_raw(X)[0, 2]:.2f} = " in chosen.heading


def test_a_dollar_sign_in_the_name_of_an_output_is_no_formula():
    name = "$\\frac{a$"
    display = FeatureGraphDisplay.from_network(
        NETWORK, X[0], output=0, output_names=[name, *"bcd"]
    )
    display.figure_.canvas.draw()
    assert display.ax_.get_title().startswith(name)
    assert display.colorbar_.ax.get_ylabel().endswith(name)


def test_many_rows_show_mean_magnitudes():
    display = FeatureGraphDisplay.from_network(NETWORK, X, inputs=True)
    flow = NETWORK.mean_flow(X, inputs=True)
    assert display.node_names[-1] == [f"output {o}" for o in range(4)]
    np.testing.assert_allclose(display.node_values[0], flow.inputs)
    np.testing.assert_allclose(display.edges[1].toarray(), flow.edges[0].toarray())
    np.testing.assert_allclose(display.edges[-1].toarray(), flow.to_outputs)
    assert not display.signed
    assert display.heading == "Mean of 20 rows"
    assert_readable(display)


def test_no_rows_show_weights():
    display = FeatureGraphDisplay.from_network(NETWORK, inputs=True)
    assert display.layer_names == ["inputs", "fc0", "fc1", "fc2", "outputs"]
    np.testing.assert_array_equal(display.edges[0].toarray(), NETWORK.encoder_coef_)
    np.testing.assert_array_equal(
        display.edges[1].toarray(), NETWORK.coefs_[0].toarray()
    )
    # A unit of a last feature adds this much to the outputs.
    base = NETWORK.raw_from_features(np.zeros((1, 12)), layer=-1)
    units = NETWORK.raw_from_features(np.eye(12), layer=-1) - base
    np.testing.assert_allclose(display.edges[-1].toarray(), units.T, atol=1e-12)
    assert display.node_values is None
    curved = network(back=[affine(RNG, 5, 3), Step("tanh")])
    assert FeatureGraphDisplay.from_network(curved).layer_names == ["fc0", "fc1", "fc2"]


def with_branches(step):
    """Make a network with a skip connection, then two heads, one with this step."""
    block = Step("add", branches=((affine(RNG, 5, 5),), ()))
    heads = Step("concatenate", branches=((affine(RNG, 5, 2),), (step,)))
    return network(back=[block, heads])


def test_weights_through_branches():
    linear = with_branches(affine(RNG, 5, 3))
    display = FeatureGraphDisplay.from_network(linear)
    base = linear.raw_from_features(np.zeros((1, 12)), layer=-1)
    units = linear.raw_from_features(np.eye(12), layer=-1) - base
    np.testing.assert_allclose(display.edges[-1].toarray(), units.T, atol=1e-12)
    kinked = with_branches(Step("relu"))
    assert FeatureGraphDisplay.from_network(kinked).layer_names == ["fc0", "fc1", "fc2"]
    flows = FeatureGraphDisplay.from_network(kinked, X[0])
    assert flows.layer_names == ["fc0", "fc1", "fc2", "output"]
    value = kinked.predict_raw(X[:1]).max()
    np.testing.assert_allclose(flows.node_values[-1], [value])


def test_a_network_of_one_layer():
    one = network(n_layers=1)
    display = FeatureGraphDisplay.from_network(one, X[0])
    assert display.layer_names == ["fc0", "output"]
    assert_readable(display)


def test_a_row_that_no_feature_is_active_on():
    silent = network()
    silent.encoder_intercept_[:] = -100
    display = FeatureGraphDisplay.from_network(silent, X[0])
    display.figure_.canvas.draw()
    assert display.coverage_ == [1.0] * 3


class Unwrapper(BaseEstimator):
    """What a display needs of an unwrapper, whose model is the network itself."""

    def __init__(self, fitted=None):
        self.fitted = fitted

    def fit(self, X):
        self.fitted_ = True
        return self

    def network(self):
        return self.fitted

    def _model_values(self, X):
        return self.fitted.predict_raw(X)


def test_from_estimator_takes_names_from_the_network():
    labels = ["no", "maybe", "yes", "never"]
    named = network(input_names=list("uvwxyz"), classes=labels)
    with pytest.raises(NotFittedError):
        FeatureGraphDisplay.from_estimator(Unwrapper(named), X)
    est = Unwrapper(named).fit(X)
    display = FeatureGraphDisplay.from_estimator(est, X, inputs=True)
    assert display.node_names[0] == list("uvwxyz")
    assert display.node_names[-1] == labels
    display = FeatureGraphDisplay.from_estimator(
        est, X, inputs=True, input_names=list("ghijkl"), output_names=list("abcd")
    )
    assert display.node_names[0] == list("ghijkl")
    assert display.node_names[-1] == list("abcd")


@pytest.mark.parametrize(
    ("heads", "names"),
    [
        ({"cls": 3, "value": 1}, ["cls[0]", "cls[1]", "cls[2]", "value"]),
        ({"0": 1, "1.a": 3}, ["head 0", "1.a[0]", "1.a[1]", "1.a[2]"]),
    ],
)
def test_outputs_of_heads_have_their_names(heads, names):
    stops = np.cumsum([*heads.values()]).tolist()
    slices = map(slice, [0, *stops[:-1]], stops)
    found = output_names(4, heads=dict(zip(heads, slices, strict=True)))
    assert found == names
    est = Unwrapper(network(output_names=found)).fit(X)
    display = FeatureGraphDisplay.from_estimator(est, X)
    assert display.node_names[-1] == names
    display = FeatureGraphDisplay.from_estimator(est, X[0], output=2)
    assert display.value_name == f"contribution to {names[2]}"


def test_one_logit_is_that_of_the_second_class():
    one = network(back=[affine(RNG, 5, 1)], classes=[3, 8])
    display = FeatureGraphDisplay.from_estimator(Unwrapper(one).fit(X), X[0])
    assert display.node_names[-1] == ["8"]
    assert display.value_name == "contribution to the logit of class 8"
    value = f"{one.predict_raw(X[:1])[0, 0]:.2f}"
    assert display.heading.startswith(f"logit of class 8: {value} = ")
    assert display.heading.endswith(f"\nthe model itself: {value}")


def test_boxes_have_values_beside_whole_names():
    names = [["a name of thirty letters it is", "b"], ["c"]]
    display = FeatureGraphDisplay(
        edges=[[[3.0, -1.0]]],
        node_values=[[7.456, -0.0123], [12.4]],
        node_names=names,
    ).plot()
    texts = [text.get_text() for text in display.texts_]
    # All have the decimals that give the largest before the output three digits.
    assert texts == [f"{names[0][0]}  +7.46", "b  -0.01", "c  +12.40"]
    assert_readable(display)
    plt.close(display.figure_)


def test_boxes_have_the_row_that_excites_a_feature_most():
    display = FeatureGraphDisplay.from_network(
        NETWORK, X, inputs=True, n_edges=8, image_shape=(2, 3)
    )
    inputs, *layers, outputs = display.node_images
    assert inputs is None
    assert outputs is None
    n_images = 0
    for values, images in zip(NETWORK.features(X), layers, strict=True):
        for j, image in enumerate(images):
            if values[:, j].max() > 0:
                strongest = X[values[:, j].argmax()].reshape(2, 3)
                np.testing.assert_array_equal(image, strongest)
            else:
                assert np.isnan(image).all()
    for column, images in zip(display.columns_[1:-1], layers, strict=True):
        n_images += np.isfinite(images[column]).all(axis=(1, 2)).sum()
    assert len(display.images_) == n_images > 8
    assert len({image.get_clim() for image in display.images_}) == 1
    assert_readable(display)
    plt.close(display.figure_)


def test_rows_in_blocks_excite_features_as_all_together(monkeypatch):
    whole = graph_images._strongest(NETWORK, X)
    monkeypatch.setattr(graph_images, "_BLOCK_ROWS", 7)
    for one, other in zip(whole, graph_images._strongest(NETWORK, X), strict=True):
        np.testing.assert_array_equal(one[0], other[0])
        np.testing.assert_allclose(one[1], other[1])


@pytest.mark.parametrize("n_edges", [5, 60])
def test_images_lie_in_their_boxes_beside_the_names(n_edges):
    sizes = [40, 40, 4]
    images = [np.arange(n * 12.0).reshape(n, 3, 4) for n in sizes[:2]] + [None]
    display = FeatureGraphDisplay(
        edges=[sparse_matrix(40, 40, 300), sparse_matrix(4, 40, 100)],
        node_values=[RNG.normal(size=n) for n in sizes],
        node_images=images,
        layer_names=["one", "two", "outputs"],
    ).plot(n_edges=n_edges, im_kw={"cmap": "viridis", "vmin": 0})
    assert_readable(display)
    boxes = boxes_of(display)
    texts = [text.get_window_extent() for text in display.ax_.texts]
    assert len(display.images_) == len(display.texts_) - len(display.columns_[-1])
    for image in display.images_:
        place = image.get_window_extent()
        assert image.get_cmap().name == "viridis"
        assert image.get_clim()[0] == 0
        assert not any(place.overlaps(text) for text in texts)
        (box,) = [box for box in boxes if box.overlaps(place)]
        assert box.x0 < place.x0 < place.x1 < box.x1
        assert box.y0 < place.y0 < place.y1 < box.y1
        assert place.width / place.height == pytest.approx(4 / 3, rel=0.1)
    plt.close(display.figure_)


def test_mean_values_have_no_sign():
    display = FeatureGraphDisplay(
        edges=[[[3.0]]], node_values=[[0.5], [2.0]], signed=False
    ).plot()
    assert [text.get_text() for text in display.texts_] == ["0_0  0.500", "1_0  2.000"]
    plt.close(display.figure_)


def test_colours_are_those_of_inner_nodes():
    """The output, a sum of all, does not bleach what it is a sum of."""
    display = FeatureGraphDisplay(
        edges=[[[2.0, 1.0]]], node_values=[[2.0, 1.0], [50.0]]
    ).plot()
    assert display.colorbar_.vmax == 2.0
    assert display.colorbar_.extend == "max"
    plt.close(display.figure_)


def test_given_axes_open_no_figure_and_plotting_twice_works():
    figure, ax = plt.subplots()
    display = large()
    assert display.plot(ax=ax) is display
    assert plt.get_fignums() == [figure.number]
    assert display.figure_ is figure
    assert display.plot().figure_ is not figure


# ---------------------------------------------------------------- what is refused

TWO = [np.eye(2), np.eye(2)]
BAD = {
    "edges": lambda: FeatureGraphDisplay(edges=[]).plot(),
    "edges one": lambda: FeatureGraphDisplay(edges=np.eye(2)).plot(),
    "edges nan": lambda: FeatureGraphDisplay(edges=[[[np.nan]]]).plot(),
    "edges chain": lambda: FeatureGraphDisplay(edges=[np.eye(2), np.eye(3)]).plot(),
    "node_names": lambda: FeatureGraphDisplay(edges=TWO, node_names=[["a"]]).plot(),
    "node_names few": lambda: FeatureGraphDisplay(
        edges=TWO, node_names=[["a"]] * 3
    ).plot(),
    "layer_names": lambda: FeatureGraphDisplay(edges=TWO, layer_names=["a"]).plot(),
    "node_values": lambda: FeatureGraphDisplay(edges=TWO, node_values=[[1]] * 3).plot(),
    "node_images": lambda: FeatureGraphDisplay(
        edges=TWO, node_images=[np.ones((2, 3))] * 3
    ).plot(),
    "node_images few": lambda: FeatureGraphDisplay(edges=TWO, node_images=[]).plot(),
    "examples": lambda: FeatureGraphDisplay.from_network(
        NETWORK, X[0], image_shape=(2, 3)
    ),
    "image_shape": lambda: FeatureGraphDisplay.from_network(
        NETWORK, X, image_shape=(2, 4)
    ),
    "image_shape none": lambda: FeatureGraphDisplay.from_network(
        NETWORK, X[0], examples=X
    ),
    "n_edges": lambda: FeatureGraphDisplay(edges=TWO).plot(n_edges=0),
    "vmax": lambda: FeatureGraphDisplay(edges=TWO).plot(vmax=0),
    "font_size": lambda: FeatureGraphDisplay(edges=TWO).plot(font_size=-1),
    "input_names": lambda: FeatureGraphDisplay.from_network(
        NETWORK, X, input_names=["a"]
    ),
    "output_names": lambda: FeatureGraphDisplay.from_network(
        NETWORK, X, output_names="abcd"
    ),
    "inputs": lambda: FeatureGraphDisplay.from_network(
        network([Step("relu")]), inputs=True
    ),
    "X": lambda: FeatureGraphDisplay.from_network(
        network(back=[Step("tanh")], n_layers=1)
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_names_the_parameter_and_opens_no_figure(case):
    name = case.split()[0]
    pattern = f"^{name} must be .*Got .* instead"
    with pytest.raises(ValueError, match=pattern):
        BAD[case]()
    assert not plt.get_fignums()


def test_curved_networks_have_no_exact_flows():
    with pytest.raises(ValueError, match="exact only through steps"):
        FeatureGraphDisplay.from_network(network(back=[Step("tanh")]), X[0])
