"""What SparseAutoencoder takes and refuses; numbers: lines of the acceptance list."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from scipy import sparse
from sklearn import config_context
from sklearn.compose import ColumnTransformer
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from skfeat import SparseAutoencoder

WEIGHTS = ["components_", "intercept_", "encoder_coef_", "encoder_intercept_"]
ARRAY_API = os.environ.get("SCIPY_ARRAY_API") == "1"
METHODS = ["fit", "partial_fit", "transform", "score"]


def make_sae(**params):
    small = {"n_components": 12, "max_iter": 8, "batch_size": 40, "random_state": 0}
    if "topk" in params.get("activation", "topk"):
        small["k"] = 3
    return SparseAutoencoder(**small | params)


def as_numpy(array):
    return array if isinstance(array, np.ndarray) else np.from_dlpack(array)


def assert_same_weights(sae, other, atol=0.0):
    for name in WEIGHTS:
        np.testing.assert_allclose(
            as_numpy(getattr(sae, name)), getattr(other, name), rtol=0, atol=atol
        )


@pytest.fixture(scope="module")
def X():
    return np.random.RandomState(0).randn(160, 6)


@pytest.fixture(scope="module")
def fitted(X):
    return make_sae().fit(X)


@pytest.fixture
def call(X):
    """Call a method on rows, on an estimator that is fitted where it must be."""

    def call(method, rows):
        sae = make_sae() if "fit" in method else make_sae().fit(X)
        return getattr(sae, method)(rows)

    return call


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda X: X[:, 0], "Expected 2D array, got 1D array instead"),  # 16
        (
            lambda X: X[None],  # 17
            "Found array with dim 3, while dim <= 2 is required by SparseAutoencoder",
        ),
        (lambda X: np.where(X > 2, np.nan, X), "Input X contains NaN"),  # 18
        (lambda X: np.where(X > 2, np.inf, X), "Input X contains infinity"),  # 18
        (
            lambda X: X[:0],  # 19
            r"Found array with 0 sample\(s\) \(shape=\(0, 6\)\) while a minimum of 1",
        ),
        (lambda X: X.astype(str)[:, :1] + "a", "could not convert string to float"),
        (lambda X: X + 1j, "Complex data not supported"),  # 21
    ],
    ids=["1-D", "3-D", "nan", "inf", "empty", "strings", "complex"],
)
def test_refused(call, X, method, change, message):
    with pytest.raises(ValueError, match=message):
        call(method, change(X))


@pytest.mark.parametrize("method", ["partial_fit", "transform", "score"])
def test_wrong_width_later(X, method):  # 20
    message = "X has 3 features, but SparseAutoencoder is expecting 6 features as input"
    with pytest.raises(ValueError, match=message):
        getattr(make_sae().fit(X), method)(X[:, :3])


@pytest.mark.parametrize("method", METHODS)
def test_sparse_refused(call, X, method):  # 22
    message = "Sparse data was passed for X, but dense data is required"
    with pytest.raises(TypeError, match=message):
        call(method, sparse.csr_array(X))


@pytest.mark.parametrize(
    "change",
    [
        lambda X: X.astype(object),
        lambda X: X.astype(">f8"),
        np.asfortranarray,
        lambda X: np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1],
        lambda X: X.tolist(),
    ],
    ids=["object", "big-endian", "Fortran", "negative strides", "lists"],
)
def test_layouts_give_the_same(X, fitted, change):  # 23
    sae = make_sae().fit(change(X))
    assert_same_weights(sae, fitted, atol=1e-6)
    codes = sae.transform(change(X))
    assert codes.dtype == np.float64
    np.testing.assert_allclose(codes, fitted.transform(X), atol=1e-5)


@pytest.mark.parametrize("dtype", ["int64", "int8", "uint8", "float16"])
def test_dtypes_that_become_float64(X, dtype):  # 23
    rows = (X * 10).astype(dtype)
    sae = make_sae().fit(rows)
    assert sae.transform(rows).dtype == np.float64
    assert sae.components_.dtype == np.float64
    assert_same_weights(sae, make_sae().fit(rows.astype(np.float64)))


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtype_of_the_data_is_kept(X, dtype, precision):  # 23
    rows = X.astype(dtype)
    sae = make_sae(precision=precision).fit(rows)
    assert {getattr(sae, name).dtype for name in WEIGHTS} == {np.dtype(dtype)}
    codes = sae.transform(rows)
    assert codes.dtype == dtype
    assert sae.inverse_transform(codes).dtype == dtype


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_read_only_rows(X, fitted, dtype):  # 24
    rows = X.astype(dtype)
    copy = rows.copy()
    rows.setflags(write=False)
    sae = make_sae(early_stopping=True).fit(rows).partial_fit(rows)
    sae.inverse_transform(sae.transform(rows))
    np.testing.assert_array_equal(rows, copy)


def test_memory_map(X, fitted, tmp_path):  # 24
    np.save(tmp_path / "X.npy", X)
    before = (tmp_path / "X.npy").read_bytes()
    rows = np.load(tmp_path / "X.npy", mmap_mode="r")
    assert_same_weights(make_sae().fit(rows), fitted)
    np.testing.assert_array_equal(fitted.transform(rows), fitted.transform(X))
    assert (tmp_path / "X.npy").read_bytes() == before


@pytest.mark.parametrize("method", ["fit", "partial_fit", "transform", "score"])
def test_no_method_writes_to_its_input(call, X, method):  # 24
    rows = X.copy()
    call(method, rows)
    np.testing.assert_array_equal(rows, X)


class TestDataFrames:
    @pytest.fixture
    def pd(self):
        return pytest.importorskip("pandas")

    def test_column_order(self, X, pd):  # 25
        frame = pd.DataFrame(X, columns=list("abcdef"))
        sae = make_sae().fit(frame)
        assert sae.feature_names_in_.tolist() == list("abcdef")
        message = "Feature names must be in the same order as they were in fit"
        with pytest.raises(ValueError, match=message):
            sae.transform(frame[list("fedcba")])

    def test_array_after_dataframe(self, X, pd):  # 26
        sae = make_sae().fit(pd.DataFrame(X, columns=list("abcdef")))
        with pytest.warns(UserWarning, match="X does not have valid feature names"):
            sae.transform(X)

    def test_polars(self, X, fitted):  # 27
        pl = pytest.importorskip("polars")
        frame = pl.DataFrame(X, schema=list("abcdef"))
        sae = make_sae().set_output(transform="polars").fit(frame)
        codes = sae.transform(frame)
        assert isinstance(codes, pl.DataFrame)
        assert codes.columns[0] == "sparseautoencoder0"
        np.testing.assert_allclose(codes.to_numpy(), fitted.transform(X), rtol=1e-9)

    def test_pandas_out_keeps_the_index(self, X, fitted, pd):  # 47
        index = pd.Index([f"row {i}" for i in range(len(X))])
        frame = pd.DataFrame(X, index=index, columns=list("abcdef"))
        with config_context(transform_output="pandas"):  # 83
            codes = make_sae().fit_transform(frame)
        assert codes.index.equals(index)
        names = [f"sparseautoencoder{i}" for i in range(12)]
        assert codes.columns.tolist() == names
        assert fitted.get_feature_names_out().tolist() == names
        np.testing.assert_allclose(codes.to_numpy(), fitted.transform(X), rtol=1e-9)

    @pytest.mark.filterwarnings("ignore:.*max_iter=8")
    def test_column_transformer_prefixes(self, X, pd):  # 83
        frame = pd.DataFrame(X, columns=list("abcdef"))
        columns = ColumnTransformer([("sae", make_sae(), list("abc"))])
        codes = columns.set_output(transform="pandas").fit_transform(frame)
        assert codes.columns[0] == "sae__sparseautoencoder0"


# Such data need few features, and what is learnt of constant rows is rounding error.
@pytest.mark.filterwarnings("ignore:.*features are dead", "ignore:.*still falling")
class TestDegenerateData:
    @pytest.mark.parametrize("activation", ["topk", "relu"])
    @pytest.mark.parametrize(
        "change",
        [
            np.zeros_like,  # 29
            lambda X: np.full_like(X, 0.1),
            lambda X: np.full_like(X, 1e6 + 0.1),
            lambda X: np.c_[X, np.ones(len(X))],
            lambda X: np.repeat(X[:2], 50, axis=0),
            lambda X: X[:1],  # 28
            lambda X: X[:, :1],
        ],
        ids=[
            *("zeros", "constant", "large constant", "constant column"),
            *("repeated rows", "one row", "one column"),
        ],
    )
    def test_finite(self, X, change, activation):
        rows = change(X)
        sae = make_sae(activation=activation).fit(rows)
        codes = sae.transform(rows)
        assert codes.shape == (len(rows), 12)
        for array in (codes, sae.inverse_transform(codes), sae.components_):
            assert np.isfinite(array).all()
        assert sae.score(rows) <= 1

    @pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1e6 + 0.1])
    def test_constant_rows_are_all_explained(self, value):  # 29
        rows = np.full((50, 6), value)
        sae = make_sae().fit(rows)
        assert sae.score(rows) == 1
        np.testing.assert_allclose(sae.inverse_transform(sae.transform(rows)), rows)
        assert sae.score(rows + 1) == 0

    def test_one_row_cannot_be_split(self, X):  # 28
        with pytest.raises(ValueError, match="leaves no row"):
            make_sae(early_stopping=True).fit(X[:1])


class TestTensors:
    def test_tensor_gives_numpy(self, X, fitted):  # 30
        rows = torch.tensor(X, requires_grad=True)
        weight = torch.ones(len(X), dtype=torch.float64, requires_grad=True)
        sae = make_sae().fit(rows, sample_weight=weight)
        assert_same_weights(sae, fitted)
        codes = sae.transform(rows)
        assert type(codes) is np.ndarray
        np.testing.assert_array_equal(codes, fitted.transform(X))
        rebuilt = sae.inverse_transform(torch.tensor(codes, requires_grad=True))
        np.testing.assert_array_equal(rebuilt, fitted.inverse_transform(codes))
        assert sae.score(rows) == fitted.score(X)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda x: x.bfloat16(), "bfloat16.*X.float"),
            (lambda x: x.to_sparse(), "layout torch.sparse_coo.*to_dense"),
        ],
        ids=["bfloat16", "sparse"],
    )
    @pytest.mark.parametrize("method", METHODS)
    def test_tensors_that_numpy_does_not_have(self, call, X, method, change, message):
        with pytest.raises(TypeError, match=message):  # 32
            call(method, change(torch.tensor(X)))


def run_fresh(*arguments, **environ):
    env = {k: v for k, v in os.environ.items() if k != "SCIPY_ARRAY_API"} | environ
    return subprocess.run(
        [sys.executable, *arguments], env=env, capture_output=True, text=True
    )


@pytest.mark.slow
@pytest.mark.skipif(ARRAY_API, reason="SCIPY_ARRAY_API=1: they run in this process")
def test_array_api_in_a_fresh_process():  # 88
    options = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = run_fresh(*options, f"{__file__}::TestArrayAPI", SCIPY_ARRAY_API="1")
    assert done.returncode == 0, done.stdout
    assert "skipped" not in done.stdout.splitlines()[-1]


@pytest.mark.slow
def test_dispatch_without_scipys_support():  # 88
    done = run_fresh(
        "-c",
        "import sklearn\nwith sklearn.config_context(array_api_dispatch=True): pass",
    )
    assert "SCIPY_ARRAY_API" in done.stderr
    assert "RuntimeError" in done.stderr


@pytest.mark.skipif(not ARRAY_API, reason="needs SCIPY_ARRAY_API=1")
class TestArrayAPI:  # 88
    @pytest.fixture(autouse=True)
    def dispatch(self):
        with config_context(array_api_dispatch=True):
            yield

    @pytest.fixture(params=["torch", "array_api_strict"])
    def xp(self, request):
        return pytest.importorskip(request.param)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_arrays_in_arrays_out(self, X, xp, dtype):
        numpy_rows = X.astype(dtype)
        rows = xp.asarray(numpy_rows)
        expected = make_sae().fit(numpy_rows)
        sae = make_sae().fit(rows)
        for name in WEIGHTS:
            assert type(getattr(sae, name)) is type(rows)
            assert getattr(sae, name).dtype == rows.dtype
        assert_same_weights(sae, expected)
        codes = sae.transform(rows)
        assert type(codes) is type(rows)
        assert codes.dtype == rows.dtype
        np.testing.assert_array_equal(as_numpy(codes), expected.transform(numpy_rows))
        rebuilt = sae.inverse_transform(codes)
        assert type(rebuilt) is type(rows)
        assert rebuilt.shape == rows.shape
        assert sae.score(rows) == expected.score(numpy_rows)

    def test_weights_partial_fit_and_warm_start(self, X, xp):
        sample_weight = np.arange(len(X)) % 3 + 0.5
        expected, sae = make_sae(warm_start=True), make_sae(warm_start=True)
        rows = xp.asarray(X)
        for _ in range(2):
            expected.fit(X, sample_weight=sample_weight).partial_fit(X)
            sae.fit(rows, sample_weight=xp.asarray(sample_weight)).partial_fit(rows)
        assert_same_weights(sae, expected)

    @pytest.mark.parametrize("method", ["transform", "score", "inverse_transform"])
    def test_another_namespace_later(self, X, xp, method):
        sae = make_sae().fit(xp.asarray(X))
        with pytest.raises(ValueError, match="must use the same namespace"):
            getattr(sae, method)(X)

    def test_autograd_history_is_dropped(self, X):
        rows = torch.tensor(X, requires_grad=True)
        sae = make_sae().fit(rows)
        assert not sae.transform(rows).requires_grad
        assert not sae.components_.requires_grad

    @pytest.mark.parametrize("change", [torch.Tensor.bfloat16, torch.Tensor.to_sparse])
    def test_tensors_that_numpy_does_not_have(self, X, change):  # 32
        with pytest.raises(TypeError, match="X is a torch tensor"):
            make_sae().fit(change(torch.tensor(X)))

    def test_callbacks_score_in_the_same_namespace(self, X, xp):
        from sklearn.callback import ScoringMonitor

        def score(sae, X, y, sample_weight=None):
            return {"r2": sae.score(X)}

        monitor = ScoringMonitor(scoring=score)
        rows = xp.asarray(X)
        sae = make_sae().set_callbacks(monitor).fit(rows, rows[:, 0])
        assert monitor.get_logs().data[-1]["r2"] == sae.score(rows)

    def test_failed_fit_is_not_fitted(self, X, xp):
        sae = make_sae(learning_rate_init=1e300)
        with pytest.raises(ValueError, match="non-finite"):
            sae.fit(xp.asarray(X))
        with pytest.raises(NotFittedError):
            sae.transform(xp.asarray(X))


def test_the_target_of_a_pipeline_is_ignored(X, fitted):
    one = (None, X[:, 0], X[:, :1], X[:, 0].tolist(), ["a"] * 160, range(160))
    several = (X, X.tolist(), torch.from_numpy(X), sparse.csr_array(X), X[:, :, None])
    for y in (*one, *several, np.nan * X, X[:3], object()):
        assert_same_weights(make_sae().fit(X, y), fitted)
        assert fitted.score(X, y) == fitted.score(X)
    np.testing.assert_array_equal(make_sae().fit_transform(X, X), fitted.transform(X))
    make_sae().partial_fit(X, X)


def test_a_pipeline_predicts_several_targets(X):
    Y = X[:, :3]
    pipeline = make_pipeline(make_sae(n_components=24, max_iter=30), Ridge(1e-6))
    assert pipeline.fit(X, Y).predict(X).shape == Y.shape
    assert pipeline.score(X, Y) == pipeline[-1].score(pipeline[0].transform(X), Y) > 0
