"""The displays: what they draw, what they refuse, what they leave alone."""

import doctest
import importlib
import pkgutil
import subprocess
import sys
import warnings

import matplotlib
import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Lasso
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skfeat.inspection
from skfeat import FeatureConnector, FeatureUnwrapper, SparseAutoencoder
from skfeat.inspection import (
    ActivationDisplay,
    ConnectorDisplay,
    ConnectorHistoryDisplay,
    FeatureGraphDisplay,
    ImageGridDisplay,
    ReconstructionDisplay,
    TopExamplesDisplay,
    TrainingCurveDisplay,
    maximize_activation,
)

matplotlib.use("Agg")
import matplotlib.pyplot as plt

RNG = np.random.default_rng(0)
DENSE = RNG.normal(size=(6, 5))
SPARSE = sparse.random_array((256, 200), density=0.005, random_state=1)
CODES = np.maximum(RNG.normal(size=(30, 12)) - 0.5, 0) * (np.arange(12) != 3)
PIXELS = RNG.random((30, 16))


class Coder(BaseEstimator):
    """Stand-in for a fitted SparseAutoencoder."""

    def fit(self, X, y=None):
        self.components_ = np.eye(12, X.shape[1])
        self.loss_curve_ = [2.0, 1.0, 0.5]
        return self

    def transform(self, X):
        return sparse.csr_array(X @ self.components_.T)

    def inverse_transform(self, F):
        return F @ self.components_


class Connector(BaseEstimator):
    """Stand-in for a fitted FeatureConnector."""

    def fit(self, X=None, y=None):
        self.coef_ = sparse.csr_array(SPARSE)
        return self


DISPLAYS = {
    "connector": lambda: ConnectorDisplay(weights=DENSE),
    "connector-points": lambda: ConnectorDisplay(weights=SPARSE),
    "bars": lambda: ActivationDisplay(activations=CODES[0], threshold=0.3),
    "heatmap": lambda: ActivationDisplay(activations=CODES),
    "reconstruction": lambda: ReconstructionDisplay(
        original=DENSE[0], reconstruction=DENSE[1], threshold=0.3
    ),
    "top": lambda: TopExamplesDisplay(
        indices=[[0, 1], [3, 2]],
        values=[[2.0, 1.0], [0.0, 0.0]],
        examples=PIXELS,
        image_shape=(4, 4),
    ),
    "curve": lambda: TrainingCurveDisplay(loss_curves=[[2.0, 1.0]], names=["a"]),
    "grid": lambda: ImageGridDisplay(images=PIXELS.reshape(-1, 4, 4)),
    "graph": lambda: FeatureGraphDisplay(edges=[DENSE, DENSE.T]),
    "history": lambda: ConnectorHistoryDisplay(frames=[DENSE, -DENSE]),
}


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


@pytest.mark.parametrize("make", DISPLAYS.values(), ids=DISPLAYS)
def test_given_axes_open_no_figure(make):
    figure, ax = plt.subplots()
    display = make()
    assert display.plot(ax=ax) is display
    assert len(plt.get_fignums()) == 1
    assert display.figure_ is figure
    figure.canvas.draw()


@pytest.mark.parametrize("make", DISPLAYS.values(), ids=DISPLAYS)
def test_plot_twice(make):
    display = make()
    first = display.plot().figure_
    second = display.plot().figure_
    assert first is not second
    assert len(plt.get_fignums()) == 2
    second.canvas.draw()


@pytest.mark.parametrize(
    "name", ["top", "grid", "history"], ids=["top", "grid", "history"]
)
def test_panels_take_an_array_of_axes_or_split_one(name):
    display = DISPLAYS[name]()
    _, ax = plt.subplots()
    display.plot(ax=ax)
    assert display.bounding_ax_ is ax
    with pytest.raises(ValueError, match="already used"):
        display.plot(ax=ax)
    same = DISPLAYS[name]().plot(ax=display.axes_)
    assert same.bounding_ax_ is None
    assert same.axes_.shape == display.axes_.shape
    with pytest.raises(ValueError, match=r"Expected ax to have \d+ axes, got 1"):
        display.plot(ax=[display.axes_[0, 0]])
    with pytest.raises(ValueError, match="belong to no subplot grid"):
        display.plot(ax=plt.figure().add_axes((0, 0, 1, 1)))


# --------------------------------------------------------------- ConnectorDisplay


def test_connector_colours_are_symmetric_and_robust_to_outliers():
    weights = RNG.normal(size=(40, 40))
    weights[3, 4] = 1e6
    display = ConnectorDisplay.from_matrix(weights)
    low, high = display.im_.get_clim()
    assert low == -high
    assert high < 5
    assert display.colorbar_.extend == "both"
    assert display.colorbar_.ax.get_ylabel() == "weight"


def test_connector_kind_follows_density():
    points = ConnectorDisplay.from_estimator(Connector().fit(), threshold=0.5)
    assert isinstance(points.im_, matplotlib.collections.PathCollection)
    assert len(points.im_.get_offsets()) == SPARSE.nnz
    assert min(points.im_.get_sizes()) >= 9
    n_above = np.count_nonzero(SPARSE.data > 0.5)
    shown = np.sort(points.im_.get_array())
    assert points.ax_.get_title() == f"{n_above} of 51,200 weights with |w| > 0.5"
    image = points.plot(kind="image", cmap="PiYG", vmax=2, colorbar=False)
    assert image.im_.get_array().shape == SPARSE.shape
    assert image.im_.get_clim() == (-2, 2)
    assert image.im_.get_cmap().name == "PiYG"
    assert image.colorbar_ is None
    same = ConnectorDisplay.from_matrix(SPARSE.toarray())
    np.testing.assert_array_equal(np.sort(same.im_.get_array()), shown)


def test_connector_points_are_at_column_and_row():
    weights = sparse.csr_array(([-0.4], ([7], [150])), shape=(9, 200))
    display = ConnectorDisplay.from_matrix(weights)
    assert display.im_.get_offsets().tolist() == [[150, 7]]
    assert display.ax_.get_ylim() == (8.5, -0.5)


def test_large_image_is_pooled_and_loses_no_weight():
    rows = np.arange(0, 100_000, 20)
    entries = (np.where(rows % 40, 1.0, -1.0), (rows, rows))
    weights = sparse.coo_array(entries, shape=(100_000, 100_000))
    display = ConnectorDisplay.from_matrix(weights, kind="image")
    image = display.im_.get_array()
    assert max(image.shape) < 1000
    # Every pixel on the diagonal covers at least one weight.
    assert np.count_nonzero(image) >= min(image.shape)
    assert display.im_.get_extent() == [-0.5, 99_999.5, 99_999.5, -0.5]


def test_connector_leaves_its_input_alone():
    weights = sparse.csr_array(([1.0, 0.0, 2.0], ([0, 0, 1], [0, 1, 1])), shape=(2, 2))
    display = ConnectorDisplay.from_matrix(weights)
    assert weights.nnz == 3
    assert display.ax_.get_title() == "2 of 4 weights nonzero"


def test_connector_names_pipeline_and_single_output():
    pipeline = make_pipeline(StandardScaler(), Lasso(0.01))
    pipeline.fit(PIXELS[:, :3], PIXELS[:, 5])
    display = ConnectorDisplay.from_estimator(
        pipeline, input_names=["former", "old", "young"], output_names=["out"]
    )
    labels = [label.get_text() for label in display.ax_.get_xticklabels()]
    assert labels == ["former", "old", "young"]
    assert display.weights.shape == (1, 3)
    with pytest.raises(NotFittedError):
        ConnectorDisplay.from_estimator(Lasso())


def test_all_zero_weights_are_drawn():
    for kind in ("image", "points"):
        display = ConnectorDisplay.from_matrix(np.zeros((3, 3)), kind=kind)
        display.figure_.canvas.draw()
        assert display.ax_.get_title() == "0 of 9 weights nonzero"


def test_user_style_wins_under_any_alias():
    display = ConnectorDisplay.from_matrix(SPARSE, im_kw={"ec": "k", "vmax": 3})
    assert display.im_.get_clim()[1] == 3
    ConnectorDisplay.from_matrix(SPARSE, im_kw={"linewidths": 2, "edgecolors": "k"})
    bars = ActivationDisplay.from_activations([1, 2], bar_kw={"colors": "k", "lw": 3})
    assert bars.bars_[0].get_linewidth().tolist() == [3]
    norm = matplotlib.colors.CenteredNorm()
    assert ConnectorDisplay.from_matrix(DENSE, im_kw={"norm": norm}).im_.norm is norm


# -------------------------------------------------------------- ActivationDisplay


def test_bars_count_as_the_article_does():
    codes = np.zeros(256)
    codes[[3, 8, 20]] = [0.5, -0.4, 0.1]
    display = ActivationDisplay.from_activations(codes, threshold=0.3, name="F1")
    assert display.ax_.get_title() == "F1: 2 of 256 above 0.3"
    assert len(display.bars_[0].get_segments()) == 3
    few = ActivationDisplay.from_activations(CODES[:3])
    assert len(few.bars_) == 3
    assert few.im_ is None


def test_heatmap_orders_and_caps_features():
    display = ActivationDisplay.from_activations(
        sparse.csr_array(CODES), max_features=5
    )
    image = display.im_.get_array()
    assert image.shape == (30, 5)
    counts = (image > 0).sum(axis=0)
    assert (np.diff(counts) <= 0).all()
    assert counts[0] == (CODES > 0).sum(axis=0).max()
    assert display.colorbar_ is not None
    assert display.plot(kind="heatmap", colorbar=False).colorbar_ is None


def test_frequency_counts_dead_features():
    display = ActivationDisplay.from_activations(CODES, kind="frequency")
    assert display.ax_.get_yscale() == "log"
    assert display.ax_.get_title() == "1 of 12 features dead in 30 rows"
    rates = np.sort((CODES > 0).mean(axis=0))[::-1]
    np.testing.assert_allclose(display.line_.get_ydata(), rates[:11])
    ActivationDisplay.from_activations(np.zeros((9, 4)), kind="frequency")


def test_activations_from_estimator_and_pipeline():
    coder = Coder().fit(PIXELS)
    display = ActivationDisplay.from_estimator(coder, PIXELS)
    assert display.im_.get_array().shape == (30, 12)
    pipeline = make_pipeline(StandardScaler(), PCA(4)).fit(PIXELS)
    signed = ActivationDisplay.from_estimator(pipeline, PIXELS)
    low, high = signed.im_.get_clim()
    assert low == -high


# ---------------------------------------------------------- ReconstructionDisplay


@pytest.mark.parametrize("shape", [(16,), (1, 16)])
def test_reconstruction_from_estimator(shape):
    pca = PCA(5).fit(PIXELS)
    x = PIXELS[0].reshape(shape)
    display = ReconstructionDisplay.from_estimator(pca, x, threshold=0.5)
    rebuilt = pca.inverse_transform(pca.transform(PIXELS[:1]))[0]
    np.testing.assert_allclose(display.reconstruction_.get_ydata(), rebuilt)
    error = ((PIXELS[0] - rebuilt) ** 2).sum()
    r2 = 1 - error / ((PIXELS[0] - PIXELS[0].mean()) ** 2).sum()
    title = display.ax_.get_title()
    assert title.startswith(f"R² = {r2:.3f}, relative error = ")
    assert title.endswith(f"{(PIXELS[0] > 0.5).sum()} of 16 above 0.5")


def test_reconstruction_of_zero_has_no_fit_to_report():
    display = ReconstructionDisplay.from_arrays(np.zeros(4), np.ones(4))
    assert display.ax_.get_title() == ""


# ------------------------------------------------------------- TopExamplesDisplay


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_top_examples_break_ties_by_index(container):
    codes = np.zeros((6, 4))
    codes[[1, 4, 5], 2] = [1, 3, 1]
    codes[[0, 3], 1] = [2, 2]
    display = TopExamplesDisplay.from_activations(
        container(codes), PIXELS[:6], n_features=3, n_examples=3, image_shape=(4, 4)
    )
    assert display.feature_names == ["feature 2", "feature 1", "feature 0"]
    assert display.indices.tolist() == [[4, 1, 5], [0, 3, 1], [0, 1, 2]]
    shown = [[len(ax.images) for ax in row] for row in display.axes_]
    assert shown == [[1, 1, 1], [1, 1, 0], [0, 0, 0]]
    assert display.axes_[0, 0].get_xlabel() == "3"
    assert display.axes_[2, 0].texts[0].get_text() == "never active"
    np.testing.assert_array_equal(
        display.axes_[0, 0].images[0].get_array(), PIXELS[4].reshape(4, 4)
    )


def test_top_examples_as_lines_and_from_estimator():
    coder = Coder().fit(PIXELS)
    display = TopExamplesDisplay.from_estimator(
        coder, PIXELS, features=2, n_examples=4, examples=sparse.csr_array(PIXELS)
    )
    assert display.axes_.shape == (1, 4)
    assert len(display.axes_[0, 0].lines) == 1
    assert display.indices[0, 0] == PIXELS[:, 2].argmax()


# ----------------------------------------------------------- TrainingCurveDisplay


def test_training_curves_of_several_estimators():
    first, second = Coder().fit(PIXELS), make_pipeline(Coder()).fit(PIXELS)
    display = TrainingCurveDisplay.from_estimators(
        [first, second], yscale="log", curve_kwargs=[{"c": "k"}, {"ls": ":"}]
    )
    assert [line.get_label() for line in display.line_] == ["Coder 0", "Coder 1"]
    assert display.line_[0].get_color() == "k"
    assert display.line_[1].get_linestyle() == ":"
    assert display.ax_.get_yscale() == "log"
    TrainingCurveDisplay.from_estimator(first, name="third", ax=display.ax_)
    assert len(display.ax_.lines) == 3


# ----------------------------------------------- ImageGridDisplay, history display


def test_image_grid():
    display = ImageGridDisplay.from_rows(
        PIXELS[:5] - 0.5,
        image_shape=(4, 4),
        titles=list("abcde"),
        n_cols=3,
        symmetric=True,
        colorbar=True,
    )
    assert display.axes_.shape == (2, 3)
    assert len({image.get_clim() for image in display.im_}) == 1
    low, high = display.im_[0].get_clim()
    assert low == -high
    assert display.axes_[1, 1].get_title() == "e"
    assert not display.axes_[1, 2].images


def test_image_grid_of_decoder_directions():
    coder = Coder().fit(DENSE)
    projection = RNG.normal(size=(5, 6))
    display = ImageGridDisplay.from_estimator(
        coder, features=[1, 0], projection=projection, image_shape=(2, 3)
    )
    assert display.titles == ["1", "0"]
    np.testing.assert_allclose(display.images[0].ravel(), projection[1])


def test_history_shares_one_colour_scale(tmp_path):
    frames = [scale * DENSE for scale in range(1, 10)]
    display = ConnectorHistoryDisplay.from_matrices(frames, max_frames=4)
    assert [ax.get_title() for ax in display.axes_.flat] == [
        "epoch 1",
        "epoch 4",
        "epoch 6",
        "epoch 9",
    ]
    assert len({im.get_clim() for im in display.im_}) == 1
    assert display.colorbar_ is not None
    n_figures = len(plt.get_fignums())
    path = display.save_animation(tmp_path / "history.gif", fps=8, dpi=40)
    assert len(plt.get_fignums()) == n_figures
    from PIL import Image

    with Image.open(path) as film:
        assert film.n_frames == 9
        assert film.info["duration"] == 120  # GIF counts in steps of 10 ms


def test_history_from_estimators_decides_kind_for_each_frame():
    display = ConnectorHistoryDisplay.from_matrices([np.ones(SPARSE.shape), SPARSE])
    assert isinstance(display.im_[0], matplotlib.image.AxesImage)
    assert isinstance(display.im_[1], matplotlib.collections.PathCollection)
    connectors = [Connector().fit(), Connector().fit()]
    assert len(ConnectorHistoryDisplay.from_estimators(connectors).im_) == 2


# ------------------------------------------------------------ maximize_activation


WEIGHTS = torch.tensor(RNG.normal(size=(4, 16)), dtype=torch.float32)


def linear(X):
    return X @ WEIGHTS.T


def test_maximize_activation_finds_the_corner_of_the_box():
    x = maximize_activation(
        linear, 16, feature=2, bounds=(-0.1, 0.3), regularization=0.0, random_state=0
    )
    expected = np.where(WEIGHTS[2].numpy() > 0, 0.3, -0.1)
    np.testing.assert_allclose(x, expected, atol=1e-6)
    assert x.min() == -0.1
    assert x.max() == 0.3


def test_maximize_activation_is_deterministic_and_touches_no_global_state():
    state = torch.random.get_rng_state()
    model = torch.nn.utils.skip_init(torch.nn.Linear, 16, 4)
    with torch.no_grad():
        model.weight.copy_(WEIGHTS)
        model.bias.zero_()
    with torch.no_grad():
        both = maximize_activation(model, 16, feature=[3, 1], random_state=5)
    alone = maximize_activation(model, 16, feature=1, random_state=5)
    # A batch of another size rounds otherwise, which the scaled steps amplify.
    np.testing.assert_allclose(both[1], alone, atol=0.01)
    again = maximize_activation(model, 16, feature=[3, 1], random_state=5)
    np.testing.assert_array_equal(both, again)
    assert torch.equal(state, torch.random.get_rng_state())
    assert model.weight.grad is None


def test_maximize_activation_penalties():
    def roughness(x):
        return np.square(np.diff(x.reshape(4, 4), axis=0)).sum()

    options = {"feature": 0, "random_state": 0, "bounds": (-1, 1)}
    free = maximize_activation(linear, 16, regularization=0.0, **options)
    small = maximize_activation(linear, 16, regularization=2.0, **options)
    smooth = maximize_activation(
        linear, 16, regularization=2.0, image_shape=(4, 4), **options
    )
    # Of a linear feature the optimum is known: w / (2 * regularization).
    np.testing.assert_allclose(small, np.clip(WEIGHTS[0].numpy() / 4, -1, 1), atol=0.02)
    assert np.linalg.norm(small) < np.linalg.norm(free)
    assert roughness(smooth) < roughness(small)


# -------------------------------------------------------------- what is refused


def maximize(**changes):
    return maximize_activation(linear, 16, **({"feature": 0} | changes))


BAD = {
    "weights": lambda: ConnectorDisplay.from_matrix([1.0, 2.0]),
    "weights nan": lambda: ConnectorDisplay.from_matrix([[np.nan]]),
    "weights str": lambda: ConnectorDisplay.from_matrix([["a"]]),
    "threshold": lambda: ConnectorDisplay.from_matrix(DENSE, threshold=-1),
    "threshold bool": lambda: ConnectorDisplay.from_matrix(DENSE, threshold=True),
    "kind": lambda: ConnectorDisplay.from_matrix(DENSE, kind="pie"),
    "vmax": lambda: ConnectorDisplay.from_matrix(DENSE, vmax=0),
    "input_names": lambda: ConnectorDisplay.from_matrix(DENSE, input_names=["a"]),
    "activations": lambda: ActivationDisplay.from_activations(np.zeros((2, 2, 2))),
    "kind rows": lambda: ActivationDisplay.from_activations(CODES, kind="bars"),
    "max_features": lambda: ActivationDisplay.from_activations(CODES, max_features=0),
    "original": lambda: ReconstructionDisplay.from_arrays(DENSE, DENSE),
    "reconstruction": lambda: ReconstructionDisplay.from_arrays([1, 2], [1]),
    "x": lambda: ReconstructionDisplay.from_estimator(PCA().fit(DENSE), DENSE),
    "features": lambda: TopExamplesDisplay.from_activations(
        CODES, PIXELS, features=[12]
    ),
    "examples": lambda: TopExamplesDisplay.from_activations(CODES, PIXELS[:3]),
    "n_examples": lambda: TopExamplesDisplay.from_activations(
        CODES, PIXELS, n_examples=0
    ),
    "image_shape": lambda: TopExamplesDisplay.from_activations(
        CODES, PIXELS, image_shape=(5, 5)
    ),
    "indices": lambda: TopExamplesDisplay(
        indices=[[99]], values=[[1.0]], examples=PIXELS
    ).plot(),
    "loss_curves": lambda: TrainingCurveDisplay.from_curves([[]]),
    "loss_curves log": lambda: TrainingCurveDisplay.from_curves([[1, 0]], yscale="log"),
    "names": lambda: TrainingCurveDisplay.from_curves([[1, 2]], names=["a", "b"]),
    "curve_kwargs": lambda: TrainingCurveDisplay.from_curves([[1]], curve_kwargs=[]),
    "images": lambda: ImageGridDisplay(images=PIXELS).plot(),
    "colorbar": lambda: ImageGridDisplay(images=PIXELS[None]).plot(colorbar=True),
    "image_shape none": lambda: ImageGridDisplay.from_rows(PIXELS, image_shape=None),
    "frames": lambda: ConnectorHistoryDisplay.from_matrices([DENSE, DENSE.T]),
    "max_frames": lambda: ConnectorHistoryDisplay.from_matrices([DENSE], max_frames=0),
    "path": lambda: ConnectorHistoryDisplay(frames=[DENSE]).save_animation("a.mp4"),
    "fps": lambda: ConnectorHistoryDisplay(frames=[DENSE]).save_animation(
        "a.gif", fps=0
    ),
    "feature": lambda: maximize(feature=4),
    "bounds": lambda: maximize(bounds=(1, 0)),
    "n_steps": lambda: maximize(n_steps=0),
    "learning_rate": lambda: maximize(learning_rate=0),
    "regularization": lambda: maximize(regularization=-1),
    "forward": lambda: maximize_activation(lambda X: linear(X.detach()), 16, feature=0),
    "forward shape": lambda: maximize_activation(
        lambda X: linear(X).sum(), 16, feature=0
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_names_the_parameter_and_opens_no_figure(case):
    name = case.split()[0]
    pattern = f"^{name} must be .*Got .* instead"
    with pytest.raises(ValueError, match=pattern):
        BAD[case]()
    assert not plt.get_fignums()


# ------------------------------------------------------------------- the package


def test_import_loads_no_matplotlib():
    code = "import sys, skfeat.inspection; print('matplotlib' in sys.modules)"
    command = [sys.executable, "-W", "error", "-c", code]
    assert subprocess.check_output(command, text=True).strip() == "False"


def test_missing_matplotlib_is_said_plainly(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for make in DISPLAYS.values():
        display = make()
        message = f"{type(display).__name__}.plot requires matplotlib"
        with pytest.raises(ImportError, match=message):
            display.plot()


@pytest.mark.parametrize(
    "name", [module.name for module in pkgutil.iter_modules(skfeat.inspection.__path__)]
)
def test_docstring_examples(name):
    module = importlib.import_module(f"skfeat.inspection.{name}")
    for example in doctest.DocTestFinder().find(module):
        runner = doctest.DocTestRunner(verbose=False)
        runner.run(example)
        plt.close("all")
        assert not runner.failures, example.name


def test_everything_public_is_exported():
    public = {name for name in vars(skfeat.inspection) if name[0] != "_"}
    assert set(skfeat.inspection.__all__) == public


# ------------------------------------------------------------- layers of unwrappers


@pytest.fixture(scope="module")
def unwrapper():
    pd = pytest.importorskip("pandas")
    X = pd.DataFrame(RNG.normal(size=(80, 4)), columns=["a", "b", "c", "d"])
    y = (X["a"] > 0).astype(int)
    mlp = MLPClassifier((6, 5), solver="lbfgs", max_iter=20, tol=0.5, random_state=0)
    part = SparseAutoencoder(8, k=3, max_iter=5, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = FeatureUnwrapper(
            mlp.fit(X, y),
            autoencoder=part,
            n_nonzero_coefs=20,
            max_iter=10,
            random_state=0,
        ).fit(X)
    return fitted, X


def test_connector_of_a_layer(unwrapper):
    display = ConnectorDisplay.from_estimator(unwrapper[0])
    assert display.ax_.get_title().startswith("hidden_0 to hidden_1: ")
    assert display.input_names[0] == "F1_0"
    with pytest.raises(ValueError, match="layer must be another than the first"):
        ConnectorDisplay.from_estimator(unwrapper[0], layer="hidden_0")


@pytest.mark.parametrize(("layer", "name"), [(0, "hidden_0"), (None, "hidden_1")])
def test_activations_of_a_layer(unwrapper, layer, name):
    fitted, X = unwrapper
    display = ActivationDisplay.from_estimator(fitted, X, layer=layer)
    assert display.ax_.get_title().startswith(f"{name}: ")
    codes = fitted.transform(X, layer=-1 if layer is None else layer)
    np.testing.assert_array_equal(display.activations, codes)


@pytest.mark.parametrize("layer", ["hidden_0", -1])
def test_reconstruction_of_a_layer(unwrapper, layer):
    fitted, X = unwrapper
    display = ReconstructionDisplay.from_estimator(fitted, X.iloc[:1], layer=layer)
    at = 0 if layer == "hidden_0" else 1
    assert display.ax_.get_title().startswith(f"hidden_{at}: R")
    mlp, values = fitted.model, X.iloc[:1].to_numpy()
    for coef, bias in list(zip(mlp.coefs_, mlp.intercepts_, strict=True))[: at + 1]:
        values = np.maximum(values @ coef + bias, 0)
    np.testing.assert_allclose(display.original, values[0], rtol=1e-5, atol=1e-6)
    coder = fitted.autoencoders_[at]
    rebuilt = coder.inverse_transform(coder.transform(values))
    np.testing.assert_allclose(display.reconstruction, rebuilt, rtol=1e-4, atol=1e-5)


def test_dictionary_of_a_layer(unwrapper):
    display = ImageGridDisplay.from_estimator(
        unwrapper[0], layer=0, image_shape=(2, 3), features=[2, 5]
    )
    assert display.titles == ["F1_2", "F1_5"]
    rows = unwrapper[0].autoencoders_[0].components_[[2, 5]]
    np.testing.assert_array_equal(display.images, rows.reshape(2, 2, 3))


def test_top_examples_of_a_layer_are_a_small_table(unwrapper):
    fitted, X = unwrapper
    display = TopExamplesDisplay.from_estimator(
        fitted, X, layer=0, n_features=2, n_examples=3
    )
    assert display.axes_[0, 0].get_title(loc="left") == "hidden_0"
    first = display.axes_[0, 0]
    assert [label.get_text() for label in first.get_yticklabels()] == list("abcd")
    assert first.get_ylabel().startswith("F1_")
    row = X.iloc[display.indices[0][0]]
    assert [text.get_text() for text in first.texts] == [f"{v:.3g}" for v in row]
    lengths = [bar.get_width() for bar in first.patches]
    wanted = np.clip((row - X.mean()) / X.std(ddof=0), -3, 3)
    np.testing.assert_allclose(lengths, wanted)


def test_of_a_wide_table_the_columns_that_stand_out_are_shown():
    rows = RNG.normal(size=(50, 30))
    rows[:5, 17] += 40
    names = [f"c{j}" for j in range(30)]
    display = TopExamplesDisplay.from_activations(
        (np.arange(50) < 5)[:, None] * 1.0, rows, value_names=names, n_examples=5
    )
    shown = [label.get_text() for label in display.axes_[0, 0].get_yticklabels()]
    assert len(shown) == 8
    assert "c17" in shown
    assert shown == sorted(shown, key=names.index)


def test_no_column_names_no_table():
    display = TopExamplesDisplay.from_activations(CODES, PIXELS, n_features=1)
    assert not display.axes_[0, 0].patches
    with pytest.raises(ValueError, match="value_names must be a sequence of 16 names"):
        TopExamplesDisplay.from_activations(CODES, PIXELS, value_names=["a"])


@pytest.mark.parametrize(
    "draw",
    [
        lambda e, **k: ConnectorDisplay.from_estimator(e, **k),
        lambda e, **k: ActivationDisplay.from_estimator(e, PIXELS[:, :4], **k),
        lambda e, **k: ReconstructionDisplay.from_estimator(e, PIXELS[0, :4], **k),
        lambda e, **k: ImageGridDisplay.from_estimator(e, image_shape=(2, 3), **k),
        lambda e, **k: TopExamplesDisplay.from_estimator(e, PIXELS[:, :4], **k),
    ],
)
def test_layers_that_are_not_there(draw, unwrapper):
    with pytest.raises(ValueError, match="layer must be an int from -2 to 1 or one"):
        draw(unwrapper[0], layer=2)
    with pytest.raises(ValueError, match="layer must be None, as the estimator"):
        draw(PCA(4).fit(PIXELS[:, :4]), layer=0)


# ------------------------------------------------------------------ pruning phases


def test_pruned_epochs_are_shaded(unwrapper):
    display = TrainingCurveDisplay.from_estimator(unwrapper[0])
    (span,) = display.spans_
    assert unwrapper[0].pruning_epochs_ == pytest.approx((1.0, 7.0))
    assert (span.get_x(), span.get_x() + span.get_width()) == pytest.approx((1, 7))
    labels = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert labels == ["FeatureUnwrapper", "pruning"]


def test_a_connector_says_when_it_pruned():
    X = np.maximum(RNG.normal(size=(200, 6)), 0)
    options = {"solver": "minibatch", "max_iter": 20, "random_state": 0}
    pruned = FeatureConnector(n_nonzero_coefs=3, **options).fit(X, X[:, :2])
    assert pruned.pruning_epochs_ == pytest.approx((2.0, 14.0))
    pruned.set_params(n_nonzero_coefs=None, alpha=0.0).fit(X, X[:, :2])
    assert not hasattr(pruned, "pruning_epochs_")
    assert TrainingCurveDisplay.from_estimator(pruned).spans_ == []


@pytest.mark.parametrize("spans", [[(1, 2), None], [(3, 1)], [(0, 1, 2)], ["a"], [5]])
def test_spans_that_are_none(spans):
    with pytest.raises(ValueError, match="pruned must be None or 1 pairs"):
        TrainingCurveDisplay(loss_curves=[[2.0, 1.0]], pruned=spans).plot()
