"""A FeatureConnector among scikit-learn's tools: parameters, inputs, persistence."""

import copy
import pickle
import subprocess
import sys

import joblib
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from sklearn.multioutput import RegressorChain
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags

import skfeat
from skfeat import FeatureConnector
from skfeat.connector._setup import solver_of, validated_rows
from skfeat.kernels._limits import LIMITS
from skfeat.utils._sklearn import InvalidParameterError

RNG = np.random.RandomState(0)
X = np.maximum(RNG.randn(80, 6), 0)
Y = np.maximum(X @ RNG.randn(6, 3) + 0.1, 0)
SOLVERS = [
    {"link": "identity"},
    {"solver": "full_batch"},
    {"solver": "minibatch", "max_iter": 30},
]
MINIBATCH = SOLVERS[2]


def make(**options):
    return FeatureConnector(0.01, random_state=0, **options)


@pytest.fixture(scope="module")
def fitted():
    return make().fit(X, Y)


# Parameters

NONSENSE = [-1, 3.5, "helloworld", np.array([1.0]), {}, object()]
# Nonsense for most parameters, but not for these.
VALID = {
    3.5: ("alpha", "candidates", "learning_rate_init", "tol"),
    -1: ("verbose",),
}
CASES = [
    (name, value)
    for name in sorted(FeatureConnector().get_params())
    for value in NONSENSE
    if not (isinstance(value, int | float) and name in VALID[value])
]


@pytest.mark.parametrize(("name", "value"), CASES)
def test_nonsense_is_refused_by_fit_only(name, value):
    model = FeatureConnector(**{name: value})
    assert model.set_params(**{name: value}).get_params()[name] is value
    with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter"):
        model.fit(X, Y)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": float("nan")}, "The 'alpha' parameter"),
        ({"alpha": -1}, "float in the range"),
        ({"n_nonzero_coefs": -1}, "The 'n_nonzero_coefs' parameter"),
        ({"n_nonzero_coefs": 5.0}, "The 'n_nonzero_coefs' parameter"),
        ({"max_iter": 0}, "The 'max_iter' parameter"),
        ({"batch_size": 0}, "The 'batch_size' parameter"),
        ({"learning_rate_init": 0.0}, "The 'learning_rate_init' parameter"),
        ({"random_state": np.random.default_rng(0)}, "RandomState"),
        ({"random_state": torch.Generator()}, "RandomState"),
        ({"device": "gpu", **MINIBATCH}, "'cpu', 'cuda'"),
    ],
)
def test_invalid_parameters(options, message):
    with pytest.raises(InvalidParameterError, match=message):
        FeatureConnector(**options).fit(X, Y)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_absent_device():
    with pytest.raises(ValueError, match="'device' parameter is 'cuda'"):
        FeatureConnector(device="cuda", **MINIBATCH).fit(X, Y)


@pytest.mark.parametrize(
    ("solver", "link", "needs"),
    [
        ("gram", "relu", "identity"),
        ("full_batch", "identity", "relu"),
        ("minibatch", "identity", "relu"),
    ],
)
def test_a_solver_refuses_the_other_link(solver, link, needs):
    message = f"solver='{solver}' solves link='{needs}', got link='{link}'"
    with pytest.raises(ValueError, match=message):
        FeatureConnector(solver=solver, link=link).fit(X, Y)


def test_minibatch_refuses_a_budget_without_refit():
    model = FeatureConnector(n_nonzero_coefs=3, refit=False, solver="minibatch")
    with pytest.raises(ValueError, match="needs refit=True, got refit=False"):
        model.fit(X, Y)


def test_auto_chooses_by_size(monkeypatch):
    rows = validated_rows(make(), X, Y, None, reset=True)
    assert solver_of(make(link="identity"), rows) == "gram"
    assert solver_of(make(), rows) == "full_batch"
    monkeypatch.setattr(LIMITS, "dense_rows", 10)
    assert solver_of(make(), rows) == "minibatch"
    assert solver_of(make(n_nonzero_coefs=3), rows) == "minibatch"
    budget = make(n_nonzero_coefs=3, refit=False)
    assert solver_of(budget, rows) == "full_batch"
    assert solver_of(make(link="identity"), rows) == "gram"


@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array])
def test_auto_counts_what_is_nonzero(monkeypatch, container):
    pytest.importorskip("numba")
    monkeypatch.setattr(LIMITS, "compiled_rectified", 0)
    X = np.zeros((40, 30))
    X[:, 0] = 1 + np.arange(40)
    rows = validated_rows(make(), container(X), np.ones((40, 2)), None, reset=True)
    for limit, solver in ((80, "full_batch"), (79, "minibatch")):
        monkeypatch.setattr(LIMITS, "sparse_rows", limit)
        assert solver_of(make(), rows) == solver


def test_unknown_parameter():
    with pytest.raises(ValueError, match=r"Invalid parameter 'alfa' .* Valid param"):
        FeatureConnector().set_params(alfa=1)


@pytest.mark.parametrize("options", SOLVERS)
def test_fit_leaves_parameters_and_data_alone(options):
    init = (np.ones((3, 6)), np.ones(3))
    model = make(init=init, **options)
    before = dict(model.get_params())
    data = [X.copy(), Y.copy(), np.ones(80), *(part.copy() for part in init)]
    model.fit(*data[:3])
    for name, value in model.get_params().items():
        assert value is before[name]
    for now, then in zip((*data[:3], *init), (X, Y, np.ones(80), 1, 1), strict=True):
        assert_array_equal(now, np.broadcast_to(then, now.shape))


def test_numpy_numbers_are_numbers():
    model = FeatureConnector(
        np.float32(0.01), n_nonzero_coefs=np.int64(5), max_iter=np.int64(500)
    )
    assert model.fit(X, Y).coef_.nnz == 5


def test_clone(fitted):
    model = clone(fitted)
    assert model.get_params() == fitted.get_params()
    assert not [name for name in vars(model) if name.endswith("_")]


def test_tags():
    for link in ("relu", "identity"):
        tags = get_tags(FeatureConnector(link=link))
        assert tags.input_tags.sparse
        assert tags.target_tags.multi_output
        assert tags.target_tags.required
        assert tags.regressor_tags.poor_score == (link == "relu")


def test_repr(fitted):
    model = FeatureConnector(n_nonzero_coefs=3)
    assert repr(model) == "FeatureConnector(n_nonzero_coefs=3)"
    assert "n_nonzero_coefs" in model._repr_html_()
    assert "coef_" in fitted._repr_html_()


# Inputs


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ((X, None), "requires y to be passed, but the target y is None"),
        ((X, Y[1:]), r"inconsistent numbers of samples: \[80, 79\]"),
        ((X[:, 0], Y), "Expected 2D array, got 1D array instead"),
        ((X[None], Y), "Found array with dim 3, while dim <= 2 is required"),
        ((X[:0], Y[:0]), r"0 sample\(s\) \(shape=\(0, 6\)\) while a minimum of 1"),
        ((np.where(X > 2, np.nan, X), Y), "Input X contains NaN"),
        ((np.where(X > 2, np.inf, X), Y), "Input X contains infinity"),
        ((X, np.where(Y > 2, np.nan, Y)), "Input y contains NaN"),
        ((X, np.where(Y > 2, np.inf, Y)), "Input y contains infinity"),
        ((np.full(X.shape, "a"), Y), "could not convert string to float"),
        ((X, np.full(Y.shape, "a")), "could not convert string to float"),
        ((X + 1j, Y), "Complex data not supported"),
        ((X, Y + 1j), "Complex data not supported"),
        ((X, Y, np.ones(79)), "sample_weight.shape == "),
        ((X, Y, np.ones((80, 2))), "1D array or scalar"),
        ((X, Y, np.zeros(80)), "at least one non-zero"),
        ((X, Y, -np.ones(80)), "Negative values in data passed to `sample_weight`"),
    ],
)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_invalid_data(method, data, message):
    model = FeatureConnector()
    with pytest.raises(ValueError, match=message):
        getattr(model, method)(*data)
    with pytest.raises(NotFittedError):
        model.predict(X)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (X[:, :3], "X has 3 features, but FeatureConnector is expecting 6 features"),
        (np.where(X > 2, np.nan, X), "Input X contains NaN"),
        (X[0], "Expected 2D array, got 1D array instead"),
    ],
)
def test_invalid_data_later(fitted, data, message):
    with pytest.raises(ValueError, match=message):
        fitted.predict(data)
    with pytest.raises(ValueError, match=message):
        fitted.score(data, Y)


@pytest.mark.parametrize("method", ["predict", "score", "formula"])
def test_before_fit(method):
    arguments = {"predict": (X,), "score": (X, Y), "formula": (0,)}[method]
    with pytest.raises(NotFittedError, match="This FeatureConnector instance is not"):
        getattr(FeatureConnector(), method)(*arguments)


def test_a_fit_that_fails_leaves_it_unfitted(fitted):
    model = copy.deepcopy(fitted)
    with pytest.raises(ValueError, match="solves link"):
        model.set_params(solver="gram").fit(X[:, :3], Y)
    with pytest.raises(NotFittedError):
        model.predict(X)


@pytest.mark.parametrize("options", SOLVERS)
@pytest.mark.parametrize("shape", [(80,), (80, 1), (80, 3)])
def test_predictions_have_the_shape_of_y(options, shape):
    y = Y[:, 0].reshape(shape) if len(shape) == 1 or shape[1] == 1 else Y
    model = make(**options).fit(X, y)
    assert model.predict(X).shape == shape
    assert model.predict(X).dtype == np.float64
    n_outputs = 1 if len(shape) == 1 else shape[1]
    assert model.coef_.shape == (n_outputs, 6)
    assert model.intercept_.shape == (n_outputs,)
    assert model.n_features_in_ == 6


def kinds():
    flipped = np.ascontiguousarray(X[:, ::-1])[:, ::-1]
    return {
        "list": X.tolist(),
        "fortran": np.asfortranarray(X),
        "strides": flipped,
        "big-endian": X.astype(">f8"),
        "object": X.astype(object),
        "tensor": torch.tensor(X),
        "gradient": torch.tensor(X, requires_grad=True),
    }


@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("options", SOLVERS)
def test_kinds_of_arrays(options, kind):
    data = kinds()[kind]
    plain = make(**options).fit(X, Y)
    model = make(**options).fit(data, torch.tensor(Y) if "tensor" in kind else Y)
    assert_allclose(model.coef_.toarray(), plain.coef_.toarray(), atol=1e-9)
    predicted = model.predict(data)
    assert type(predicted) is np.ndarray
    assert_allclose(predicted, plain.predict(X), atol=1e-9)


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float16, bool])
@pytest.mark.parametrize("options", SOLVERS)
def test_dtypes(options, dtype):
    data = (2 * X).astype(dtype)
    model = make(**options).fit(data, Y)
    plain = make(**options).fit(data.astype(float), Y)
    assert_allclose(model.coef_.toarray(), plain.coef_.toarray(), atol=1e-9)
    assert model.predict(data).dtype == np.float64


def test_tensors_that_numpy_cannot_hold():
    with pytest.raises(TypeError, match="bfloat16"):
        FeatureConnector().fit(torch.tensor(X).bfloat16(), Y)
    with pytest.raises(TypeError, match="layout"):
        FeatureConnector().fit(torch.tensor(X).to_sparse(), Y)


@pytest.mark.parametrize("options", SOLVERS)
def test_read_only_and_memory_mapped(options, tmp_path):
    joblib.dump((X, Y), tmp_path / "data")
    mapped = joblib.load(tmp_path / "data", mmap_mode="r")
    assert not mapped[0].flags.writeable
    model = make(**options).fit(*mapped)
    plain = make(**options).fit(X, Y)
    assert_array_equal(model.predict(mapped[0]), plain.predict(X))
    assert_array_equal(mapped[0], X)


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_dataframes(library, fitted):
    frames = pytest.importorskip(library)
    names = [f"f{i}" for i in range(6)]
    frame = frames.DataFrame({name: X[:, i] for i, name in enumerate(names)})
    target = frames.DataFrame({name: Y[:, i] for i, name in enumerate("abc")})
    model = make().fit(frame, target)
    assert list(model.feature_names_in_) == names
    assert_allclose(model.predict(frame), fitted.predict(X))
    with pytest.raises(ValueError, match="Feature names must be in the same order"):
        model.predict(frame[names[::-1]])
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        model.predict(X)


# Seeds


@pytest.mark.parametrize("options", SOLVERS)
def test_one_seed_gives_one_result(options):
    torch_state = torch.get_rng_state()
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    first, second = make(**options).fit(X, Y), make(**options).fit(X, Y)
    assert joblib.hash(first) == joblib.hash(second)
    assert joblib.hash(first) == joblib.hash(make(**options).fit(X, Y).fit(X, Y))
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


def test_random_state_instances_go_on():
    state = np.random.RandomState(0)
    model = FeatureConnector(0.01, random_state=state, **MINIBATCH)
    first = model.fit(X, Y).coef_.toarray()
    assert np.abs(model.fit(X, Y).coef_.toarray() - first).max() > 0


# Composition


def test_regressor_chain_and_transformed_target():
    linear = FeatureConnector(0.001, link="identity")
    assert RegressorChain(linear).fit(X, Y).score(X, Y) > 0.5
    assert TransformedTargetRegressor(linear, transformer=StandardScaler()).fit(
        X, Y
    ).score(X, Y) == pytest.approx(linear.fit(X, Y).score(X, Y), abs=0.01)


def test_cross_validation_and_pipeline():
    pipeline = make_pipeline(StandardScaler(), make())
    predicted = cross_val_predict(pipeline, X, Y, cv=4)
    assert predicted.shape == Y.shape
    assert (predicted >= 0).all()
    assert cross_val_score(pipeline, X, Y, cv=4).min() > 0.8
    search = GridSearchCV(make(), {"alpha": [0.001, 10.0]}, cv=2).fit(X, Y)
    assert search.best_params_ == {"alpha": 0.001}


def test_one_report_for_all_failed_fits():
    with pytest.raises(ValueError, match=r"All the 2 fits failed[\s\S]*'alpha' param"):
        cross_val_score(FeatureConnector(-1), X, Y, cv=2)


@pytest.mark.slow
def test_grid_search_in_two_processes_gives_the_serial_result():
    scores = [
        GridSearchCV(make(), {"alpha": [0.001, 0.1]}, cv=2, n_jobs=n_jobs)
        .fit(X, Y)
        .cv_results_["mean_test_score"]
        for n_jobs in (1, 2)
    ]
    assert_allclose(scores[0], scores[1], rtol=1e-9)


# Persistence


def by_cloudpickle(model):
    cloudpickle = pytest.importorskip("cloudpickle")
    return pickle.loads(cloudpickle.dumps(model))


def by_skops(model):
    sio = pytest.importorskip("skops.io")
    data = sio.dumps(model)
    return sio.loads(data, trusted=sio.get_untrusted_types(data=data))


def by_pickle(model):
    return pickle.loads(pickle.dumps(model))


@pytest.mark.parametrize(
    "copied", [by_pickle, by_cloudpickle, by_skops, copy.deepcopy, copy.copy]
)
@pytest.mark.parametrize("options", SOLVERS)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_copies_predict_the_same(options, copied, method):
    model = getattr(make(**options), method)(X, Y)
    other = copied(model)
    assert_array_equal(other.predict(X), model.predict(X))
    assert other.get_params() == model.get_params()
    assert other.n_iter_ == model.n_iter_
    if method == "partial_fit":
        again = [one.partial_fit(X, Y).predict(X) for one in (other, model)]
        assert_allclose(again[0], again[1])


def test_memory_mapped_weights(fitted, tmp_path):
    joblib.dump(fitted, tmp_path / "model")
    mapped = joblib.load(tmp_path / "model", mmap_mode="r")
    assert isinstance(mapped.coef_.data, np.memmap)
    assert_array_equal(mapped.predict(X), fitted.predict(X))


def test_another_version_warns(fitted, monkeypatch):
    data = pickle.dumps(fitted)
    here = skfeat.__version__
    monkeypatch.setattr("skfeat._version.__version__", "99.0")
    with pytest.warns(UserWarning, match=rf"skfeat {here} and is loaded by skfeat 99"):
        pickle.loads(data)


# Quiet


def test_verbosity(capfd):
    for options in SOLVERS:
        make(**options).fit(X, Y).predict(X)
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    model = FeatureConnector(0, verbose=2, random_state=0, **MINIBATCH).fit(X, Y)
    lines = capfd.readouterr().out.splitlines()
    assert len(lines) == model.n_iter_ == len(model.loss_curve_) == 30
    assert lines[0].startswith("[FeatureConnector] epoch 1: loss ")


def test_fit_imports_and_prints_nothing():
    code = (
        "import sys, numpy as np, torch\n"
        "from skfeat import FeatureConnector\n"
        "X = np.eye(4)\n"
        "FeatureConnector(0.1, link='identity').fit(X, X).predict(X)\n"
        # scikit-learn itself loads pandas and rich where they are installed.
        "bad = {'matplotlib', 'polars'} & set(sys.modules)\n"
        "assert not bad, bad\n"
        "assert not torch.cuda.is_initialized()\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        capture_output=True,
        text=True,
        cwd=str(skfeat.__path__[0] + "/.."),
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
