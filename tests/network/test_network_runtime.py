"""The compiled loops of prediction, beside numpy and scipy."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import sparse

from skfeat.activations import JumpReLU, ReLU, TopK
from skfeat.chain import Chain
from skfeat.kernels import _threads
from skfeat.kernels._limits import LIMITS, Limits
from skfeat.network import SparseFeatureNetwork, _predict
from tests.chain.test_chain_joins import random_steps
from tests.network.test_network import ENDS, NETWORKS, parameters, rows

pytest.importorskip("numba")

from skfeat.kernels.inference import _loops_sparse_layers as _tiles
from skfeat.network import _predict_compiled, _run

TILE = _tiles.TILE


@pytest.fixture(autouse=True)
def compiled_of_any_size(monkeypatch):
    monkeypatch.setattr(LIMITS, "compiled_prediction", 0)


FAST = settings(max_examples=100, deadline=None)


@FAST
@given(
    n_rows=st.sampled_from([1, 2, 9, TILE - 1, TILE, TILE + 1, 3 * TILE]),
    threshold=st.booleans(),
    dtype=st.sampled_from(["f4", "f8"]),
    **NETWORKS,
)
@example(
    n_rows=TILE,
    threshold=True,
    dtype="f8",
    n_layers=4,
    k=None,
    density=0.4,
    seed=3,
    sparse_ends=ENDS[3],
)
def test_computes_what_numpy_computes(n_rows, threshold, dtype, **kwargs):
    p = parameters(**kwargs)
    if threshold and kwargs["k"] is None:
        m = p["encoder_coef"].shape[0]
        p["activation"] = JumpReLU(np.random.default_rng(0).random(m))
    network = SparseFeatureNetwork(**p)
    X = rows(network, n_rows, dtype)
    expected = _predict.predict_plainly(network, X)
    atol = 1e-12 if dtype == "f8" else 1e-4
    for way in (_predict_compiled.predict_tiles, _predict_compiled.predict_few):
        found = way(network, X)
        assert found.dtype == X.dtype
        np.testing.assert_allclose(found, expected, atol=atol, rtol=atol)


@FAST
@given(
    front=random_steps(4),
    back=random_steps(3),
    n_rows=st.sampled_from([1, 9, TILE + 1]),
    ends=st.sampled_from(ENDS),
    seed=st.integers(0, 10_000),
)
def test_ends_with_branches(front, back, n_rows, ends, seed):
    rng = np.random.default_rng(seed)
    p = {
        "encoder_coef": rng.normal(size=(6, front[1])),
        "decoder_coef": rng.normal(size=(5, 3)),
    }
    network = SparseFeatureNetwork(
        front=Chain.from_steps(front[0], 4),
        encoder_intercept=rng.normal(size=6),
        encoder_bias=rng.normal(size=front[1]) * rng.integers(2),
        activation=TopK(3),
        coefs=[rng.normal(size=(5, 6)) * (rng.random((5, 6)) < 0.5)],
        intercepts=[rng.normal(size=5)],
        links=["relu"],
        decoder_intercept=rng.normal(size=3),
        back=Chain.from_steps(back[0], 3),
        layer_names=["a", "b"],
        **{k: sparse.csr_array(v) if k in ends else v for k, v in p.items()},
    )
    X = rows(network, n_rows)
    before = X.copy()
    expected = _predict.predict_plainly(network, X)
    atol = 1e-9 * max(1.0, np.abs(expected).max())
    compact = network.compact()
    for way in (_predict_compiled.predict_tiles, _predict_compiled.predict_few):
        for whose in (network, compact):
            np.testing.assert_allclose(way(whose, X), expected, atol=atol, rtol=1e-9)
    np.testing.assert_array_equal(X, before)


def random_weights(m, n_weights, rng):
    """Draw weights between m features each, of any version of scipy."""
    places = rng.choice(m * m, n_weights, replace=False)
    values = rng.random(n_weights)
    return sparse.csr_array((values, np.divmod(places, m)), (m, m))


def random_network(seed, m, d, n_weights, activation, from_inputs=False, links="relu"):
    rng = np.random.default_rng(seed)
    encoder = rng.normal(size=(m, d))
    if from_inputs:
        encoder = sparse.csr_array(encoder * (rng.random((m, d)) < 0.1))
    coefs = [random_weights(m, n_weights, rng) for _ in range(2)]
    return SparseFeatureNetwork(
        front=Chain.from_steps([], d),
        encoder_coef=encoder,
        encoder_intercept=rng.normal(size=m) - (2 if activation == ReLU() else 0),
        encoder_bias=rng.normal(size=d),
        activation=activation,
        coefs=coefs,
        intercepts=[-0.1 * rng.random(m) for _ in coefs],
        links=[links] * 2,
        decoder_coef=rng.normal(size=(m, 3)),
        decoder_intercept=rng.normal(size=3),
        back=Chain.from_steps([], 3),
        layer_names=list("abc"),
    )


@pytest.mark.parametrize("activation", [ReLU(), TopK(7), TopK(1), TopK(99)])
@pytest.mark.parametrize("from_inputs", [False, True])
@pytest.mark.parametrize("links", ["relu", "identity"])
def test_larger_networks_in_blocks(activation, from_inputs, links, monkeypatch):
    network = random_network(0, 60, 20, 200, activation, from_inputs, links)
    X = rows(network, 5 * TILE + 3)
    expected = _predict.predict_plainly(network, X)
    np.testing.assert_allclose(network.predict_raw(X), expected, atol=1e-11)
    for name in ("_MIN_FAST_BLOCK_ROWS", "_FAST_BLOCK_ELEMENTS"):
        monkeypatch.setattr(_predict_compiled, name, TILE + 5)
    found = _predict_compiled.predict_tiles(network, X)
    np.testing.assert_allclose(found, expected, atol=1e-11)


def test_threads_change_nothing(monkeypatch):
    network = random_network(1, 50, 20, 100, TopK(5), from_inputs=True)
    monkeypatch.setattr(_predict_compiled, "_MIN_FAST_BLOCK_ROWS", TILE)
    monkeypatch.setattr(_predict_compiled, "_FAST_BLOCK_ELEMENTS", TILE)
    X = rows(network, 20 * TILE)
    alone = _predict_compiled.predict_tiles(network, X)
    monkeypatch.setattr(LIMITS, "threaded_work", 1)
    monkeypatch.setattr(_threads, "n_threads", lambda: 3)
    np.testing.assert_array_equal(_predict_compiled.predict_tiles(network, X), alone)


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("n", [3, 40])
def test_ties(k, n):
    """Never more than k features a row, and the largest among them."""
    rng = np.random.default_rng(k)
    m = 12
    tile = np.round(rng.normal(size=(m, TILE)), 0)
    tile[:, 0], tile[:, 1] = 1.0, -1.0
    tile[0, 2] = 1e300  # halving from there takes too long
    work = tile.ravel().copy()
    _tiles.keep_topk(work, m, n, k, np.empty(_tiles.LANES), np.empty(m))
    kept = work.reshape(m, TILE)[:, :n]
    exact = TopK(k).encode(tile[:, :n].T).T
    np.testing.assert_array_equal(np.sort(kept, axis=0), np.sort(exact, axis=0))
    assert ((kept == 0) | (kept == tile[:, :n])).all()
    few = np.ascontiguousarray(tile[:, :n].T)
    _tiles.keep_topk_rows(few, k)
    np.testing.assert_array_equal(np.sort(few, axis=1), np.sort(exact.T, axis=1))
    assert ((few == 0) | (few == tile[:, :n].T)).all()


def test_features_that_no_row_has_are_skipped():
    """One of so many is active: each weight asks for its own."""
    network = random_network(2, 80, 5, 900, TopK(1))
    X = np.repeat(rows(network, 1), 2 * TILE, axis=0)
    expected = _predict.predict_plainly(network, X)
    np.testing.assert_allclose(_predict_compiled.predict_tiles(network, X), expected)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_rows_that_overflow_are_refused(dtype):
    network = random_network(3, 30, 4, 60, ReLU())
    X = np.full((TILE, 4), np.finfo(dtype).max, dtype)
    X[:, 1::2] *= -1
    X[3:] = 1
    # The loops would take NaN for a feature that is inactive.
    for way in (
        _predict.predict_plainly,
        _predict_compiled.predict_tiles,
        _predict_compiled.predict_few,
    ):
        with pytest.raises(_predict.NotModerateError):
            way(network, X)
    with pytest.raises(ValueError, match=r"would be beyond .* the largest number"):
        network.predict_raw(X)
    found = network.predict_raw(X[3:])
    np.testing.assert_allclose(found, network.predict_raw(X[3:].astype(float)), 1e-4)


@pytest.mark.parametrize("layout", ["read-only", "Fortran", "strided", "reversed"])
@pytest.mark.parametrize("n_rows", [2, TILE + 1])
def test_layouts_of_rows(layout, n_rows):
    network = random_network(4, 60, 20, 100, TopK(3), from_inputs=True)
    X = rows(network, n_rows)
    expected = network.predict_raw(X)
    if layout == "read-only":
        X.flags.writeable = False
    elif layout == "Fortran":
        X = np.asfortranarray(X)
    elif layout == "strided":
        X = np.repeat(X, 2, axis=1)[:, ::2]
    else:
        X = X[::-1].copy()[::-1]
    before = X.copy()
    np.testing.assert_allclose(network.predict_raw(X), expected, atol=1e-12)
    np.testing.assert_array_equal(X, before)


@pytest.mark.parametrize("n_rows", [1, 3 * TILE])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_rows_must_be_finite(n_rows, value):
    network = random_network(5, 60, 100, 100, ReLU())
    X = rows(network, n_rows)
    X[-1, 7] = value
    found = "NaN" if np.isnan(value) else "infinity"
    with pytest.raises(ValueError, match=f"Input X contains {found}"):
        network.predict_raw(X)


def test_large_finite_rows_are_no_infinity():
    X = np.full((2, 5000), 3e38, "f4")  # their sum overflows
    _predict.check_finite_rows("X", X)
    X[1, 2] = -np.inf
    with pytest.raises(ValueError, match="infinity"):
        _predict.check_finite_rows("X", X)


def test_changes_of_the_weights_count_at_once():
    network = random_network(6, 60, 20, 200, ReLU())
    X = rows(network, 2 * TILE)
    network.predict_raw(X)
    network.coefs_[1].data[:] = 0
    network.intercepts_[1][:] = 2
    expected = network.decoder_intercept_ + 2 * network.decoder_coef_.sum(axis=0)
    np.testing.assert_allclose(network.predict_raw(X), np.tile(expected, (len(X), 1)))


def test_without_numba(monkeypatch):
    network = random_network(7, 60, 20, 200, TopK(4))
    X = rows(network, 2 * TILE)
    expected = network.predict_raw(X)
    monkeypatch.setattr(_run, "has_numba", lambda: False)
    monkeypatch.setattr(_predict_compiled, "predict_compiled", None)
    np.testing.assert_allclose(network.predict_raw(X), expected, atol=1e-11)


def counted(monkeypatch):
    """Count the calls of compiled loops."""
    calls = []

    def predict_compiled(network, X):
        calls.append(len(X))
        return _predict.predict_plainly(network, X)

    monkeypatch.setattr(_run, "_compiled_predict", lambda: predict_compiled)
    return calls


def test_small_calls_compile_nothing(monkeypatch):
    network = random_network(7, 60, 20, 200, TopK(4))
    X, calls = rows(network, 2000), counted(monkeypatch)
    monkeypatch.setattr(LIMITS, "compiled_prediction", Limits.compiled_prediction)
    network.predict_raw(X)
    assert not calls
    monkeypatch.setattr(LIMITS, "compiled_prediction", 2**20)
    network.predict_raw(X[:100])
    assert not calls
    network.predict_raw(X)
    assert calls == [2000]


def test_a_network_that_is_used_compiles(monkeypatch):
    network = random_network(7, 200, 30, 2000, TopK(4))
    X, calls = rows(network, 20), counted(monkeypatch)
    monkeypatch.setattr(LIMITS, "compiled_prediction", Limits.compiled_prediction)
    for _ in range(8):
        network.predict_raw(X)
    assert not calls
    network.predict_raw(X)
    assert calls == [20]
    # Another network of the same weights begins anew.
    network.compact().predict_raw(X)
    assert calls == [20]


def test_a_network_compiles_when_it_is_told(monkeypatch):
    network = random_network(7, 200, 30, 2000, TopK(4))
    X, calls = rows(network, 20), counted(monkeypatch)
    monkeypatch.setattr(LIMITS, "compiled_prediction", Limits.compiled_prediction)
    assert network.compile() is network
    assert calls == [1, 64]
    network.predict_raw(X)
    assert calls == [1, 64, 20]
    network.compact().predict_raw(X)
    assert len(calls) == 3


def test_compiled_calls_compute_the_same(monkeypatch):
    network = random_network(7, 200, 30, 2000, TopK(4))
    monkeypatch.setattr(LIMITS, "compiled_prediction", Limits.compiled_prediction)
    X = rows(network, 20)
    expected = network.predict_raw(X)
    np.testing.assert_allclose(network.compile().predict_raw(X), expected, atol=1e-11)


def test_compile_needs_numba(monkeypatch):
    monkeypatch.setattr("skfeat.network._network.has_numba", lambda: False)
    with pytest.raises(ImportError, match="compile needs numba"):
        random_network(7, 60, 20, 200, TopK(4)).compile()


def test_number_of_threads_without_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert _threads.n_threads() == 3
    for text in ("", "0", "many"):
        monkeypatch.setenv("OMP_NUM_THREADS", text)
        assert _threads.n_threads() >= 1


def test_compiled_loops_need_no_torch(tmp_path):
    network = random_network(8, 60, 20, 200, TopK(4), from_inputs=True)
    network.save(tmp_path / "net")
    program = f"""
import sys
sys.modules["torch"] = sys.modules["sklearn"] = None
import numpy as np
from skfeat.network import SparseFeatureNetwork, _predict
network = SparseFeatureNetwork.load({str(tmp_path / "net")!r}).compile()
from skfeat.kernels._optional import has_numba
assert has_numba()
rows = np.ones((20_000, 20))  # enough for threads
print(network.predict_raw(rows)[0].tolist())
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    found = np.array(run.stdout.strip("[]\n").split(","), float)
    np.testing.assert_allclose(found, network.predict_raw(np.ones((1, 20)))[0])
