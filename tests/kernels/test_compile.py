"""What compiled loops may call: they compile beside libraries that replace `math`'s."""

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("numba")

from skfeat import kernels
from skfeat.kernels._compile import compile_loop, integers_below, magnitude
from skfeat.kernels.selection._loops_row import keep_largest
from skfeat.kernels.simd._library import SelfContained

# Known to compile when nothing in `math` is what it was.
ALLOWED = {
    *("dot", "empty", "empty_like", "full", "ones", "zeros"),
    *("float32", "float64", "int8", "int32", "int64", "uint8", "uint16", "uint32"),
    *("uint64", "bool_", "ndarray", "inf", "nan"),
    *("rint", "searchsorted", "sign", "sqrt"),
}
MODULES = sorted(Path(kernels.__file__).parent.rglob("_loops_*.py"))

# Puts a function in the place of each of `math`'s that is written in C, and fits.
PROGRAM = """
import math
import numba
numba.njit(lambda x: x + 1)(1.0)
import skfeat.kernels.sae._loops_sparse
def stand_in(function):
    return lambda *args: function(*args)
for name, value in list(vars(math).items()):
    if callable(value):
        setattr(math, name, stand_in(value))
import warnings
import numpy as np
from scipy import sparse
from skfeat import FeatureConnector, SparseAutoencoder
from skfeat.kernels._limits import LIMITS
LIMITS.compiled_gram = LIMITS.compiled_rectified = LIMITS.compiled_training = 0
rng = np.random.default_rng(0)
X = sparse.random_array((400, 40), density=0.05, random_state=0, format="csr")
Y = np.maximum(X @ rng.standard_normal((40, 30)), 0)
warnings.simplefilter("ignore")
for link in ("identity", "relu"):
    FeatureConnector(1e-3, link=link).fit(X, Y)
rows = rng.standard_normal((300, 16)).astype(np.float32)
for activation in ("topk", "relu"):
    sae = SparseAutoencoder(64, activation=activation, k=4, max_iter=1)
    sae.fit(rows).transform(rows)
"""

# Fits by kernels that sum floats, on small problems and in the order of the arguments,
# and prints digests of what they hold.
FITS = """
import hashlib
import sys
import warnings
import numpy as np
from scipy import sparse
from skfeat import FeatureConnector, SparseAutoencoder
from skfeat.kernels._limits import LIMITS
LIMITS.compiled_gram = LIMITS.compiled_rectified = LIMITS.compiled_moments = 0
LIMITS.compiled_training = 0
rng = np.random.default_rng(0)
X = rng.standard_normal((700, 64)).clip(0).astype(np.float32)
S = sparse.random_array((600, 60), density=0.08, random_state=0, format="csr")
W = rng.standard_normal((60, 30))
def autoencoder(m, rows=X, batch_size=64, **params):
    params = {"max_iter": 2, "random_state": 0} | params
    fitted = SparseAutoencoder(m, batch_size=batch_size, **params).fit(rows)
    return fitted, fitted.transform(rows)
def connector(rows, alpha, link):
    Y = np.maximum(rows @ W, 0)
    fitted = FeatureConnector(alpha, link=link, random_state=0).fit(rows, Y)
    return fitted, fitted.predict(rows)
narrow = X[:, :48].astype(np.float64)
fits = {
    "narrow": lambda: autoencoder(192, narrow, 512, k=24, max_iter=3),
    "prefixes": lambda: autoencoder(800, k=6, prefixes=(200,)),
    "relu": lambda: autoencoder(128, activation="relu", alpha=3.0),
    "identity": lambda: connector(X[:, :60], 0.1, "identity"),
    "rectified": lambda: connector(S, 1e-3, "relu"),
}
warnings.simplefilter("ignore")
digests = {}
for name in sys.argv[1:]:
    fitted, result = fits[name]()
    arrays = [v for v in vars(fitted).values() if isinstance(v, np.ndarray)]
    arrays += [v.toarray() for v in vars(fitted).values() if sparse.issparse(v)]
    digest = hashlib.sha256()
    for array in [*arrays, np.asarray(result)]:
        digest.update(np.ascontiguousarray(array).tobytes())
    digests[name] = digest.hexdigest()
print(sorted(digests.items()))
"""


def called(node):
    """Return what a call calls: a name, or an attribute of numpy's."""
    if isinstance(node.func, ast.Name):
        return node.func.id
    value = node.func.value if isinstance(node.func, ast.Attribute) else None
    return node.func.attr if isinstance(value, ast.Name) and value.id == "np" else None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_loops_call_what_is_known_to_compile(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    assert not [node.lineno for node in calls if called(node) in ("abs", "round")]
    of_numpy = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "np"
    }
    assert of_numpy <= ALLOWED


@pytest.mark.slow
def test_compiles_where_math_is_replaced(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_loaded_loops_compute_what_compiled_ones_do(tmp_path):
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    names = ["narrow", "prefixes", "relu", "identity", "rectified"]

    def fit(names):
        return subprocess.run(
            [sys.executable, "-c", FITS, *names],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    compiled = fit(names)
    stored = sorted(tmp_path.rglob("*.nbc"))
    assert fit(names) == compiled
    # In another order, loops are in memory already that others call.
    assert fit(names[::-1]) == compiled
    assert stored == sorted(tmp_path.rglob("*.nbc")), "something was compiled again"


@compile_loop
def total(values):
    out = values.dtype.type(0)
    for value in values:
        out += value
    return out


@compile_loop
def totals(rows, out):
    for i in range(len(rows)):
        out[i] = total(rows[i].copy())


def test_a_loop_calls_only_what_it_brings_along():
    out = np.empty(2)
    totals(np.ones((2, 3)), out)
    np.testing.assert_array_equal(out, 3)
    totals.recompile()  # what is loaded has no module to look at
    (code,) = (overload.library for overload in totals.overloads.values())
    functions = list(code.get_defined_functions())
    assert any("totals" in function.name for function in functions)
    weak = [f.name for f in functions if "odr" in f.linkage.name]
    assert not weak, "a function of this name that is in memory would take its place"


def test_interrupt_waits_until_a_loop_is_compiled(monkeypatch):
    @compile_loop
    def twice(value):
        return 2 * value

    define, compiled = SelfContained.define_pipelines, []

    def interrupted(pipeline):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)  # nor does a second one break the code
        compiled.append(1)
        return define(pipeline)

    monkeypatch.setattr(SelfContained, "define_pipelines", interrupted)
    # A shell starts what it runs in the background with this signal ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        twice.recompile()  # whatever is cached
        with pytest.raises(KeyboardInterrupt):
            twice(1.5)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert twice(1.5) == 3
    finally:
        signal.signal(signal.SIGINT, before)
    assert compiled == [1]


@given(st.lists(st.integers(0, 6), max_size=30), st.integers(0, 35))
def test_keeps_the_largest_in_their_order(sizes, k):
    sizes = np.array(sizes, dtype=float)
    items = np.arange(len(sizes))
    n = keep_largest(items, sizes, len(sizes), k) if k else 0
    expected = np.sort(np.argsort(-sizes, kind="stable")[:k])
    np.testing.assert_array_equal(items[:n], expected)


@given(st.floats(width=32))
def test_magnitude(value):
    np.testing.assert_array_equal(magnitude(value), np.abs(value))


def test_integers_below():
    np.testing.assert_array_equal(integers_below(5), range(5))
    assert integers_below(0).shape == (0,)
