"""Fit every estimator in many ways, and tell whether another version fits the same.

A change that moves code must not move numbers. Write the fitted arrays of two checkouts
and compare them, on one machine with as many threads::

    PYTHONPATH=../before python benchmarks/fit_fingerprints.py write before.npz
    python benchmarks/fit_fingerprints.py write after.npz
    python benchmarks/fit_fingerprints.py compare before.npz after.npz

``--without-numba`` hides numba, so that the plain code is fitted instead. Only public
names are used, so that the script runs on either checkout.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator

import numpy as np
from scipy import sparse


def sparse_rows(n, d, density=0.1, seed=0):
    """Return non-negative rows most of whose values are zero."""
    rng = np.random.RandomState(seed)
    return np.where(rng.rand(n, d) < density, rng.rand(n, d) + 0.2, 0.0)


def regression(n, d, n_outputs, *, rectified, seed=0):
    """Return sparse rows, and targets that a few of their columns make."""
    rng = np.random.RandomState(seed + 1)
    X = sparse_rows(n, d, seed=seed)
    weights = rng.randn(n_outputs, d) * (rng.rand(n_outputs, d) < 5 / d)
    Y = X @ weights.T + 0.02 * rng.randn(n, n_outputs)
    return X, np.maximum(Y - 0.1, 0) if rectified else Y


def autoencoders() -> Iterator:
    """Yield a name, an estimator and its rows."""
    from skfeat import SparseAutoencoder
    from skfeat.datasets import make_sparse_features

    narrow = make_sparse_features(3000, 24, 64, n_active=4, random_state=0)[0]
    wide = make_sparse_features(2048, 256, 1024, n_active=12, random_state=0)[0]
    wide = wide.astype(np.float32)
    kinds = {
        "topk": {"k": 6},
        "batch_topk": {"k": 6},
        "relu": {"alpha": 0.2},
        "relu-dense": {"activation": "relu", "alpha": 0.01},
        "jumprelu": {"alpha": 0.3},
        "gated": {"alpha": 0.2},
    }
    for name, params in kinds.items():
        params = {"activation": name, **params}
        for tied in (False, True):
            if tied and params["activation"] == "gated":
                continue
            for precision in ("float32", "float64"):
                fit = SparseAutoencoder(
                    96,
                    **params,
                    tied=tied,
                    precision=precision,
                    batch_size=256,
                    max_iter=4,
                    random_state=0,
                )
                tag = "tied" if tied else "untied"
                yield f"sae/{name}/narrow/{tag}/{precision}", fit, (narrow,)
        for precision in ("float32", "bfloat16", "int8"):
            if precision == "int8" and "topk" not in name:
                continue
            fit = SparseAutoencoder(
                2048,
                **{**params, "k": 16},
                precision=precision,
                max_iter=3,
                random_state=0,
            )
            yield f"sae/{name}/wide/{precision}", fit, (wide,)
    options = {
        "prefixes": {"prefixes": (16, 48, 96)},
        "prefixes-batch": {"prefixes": (16, 48, 96), "activation": "batch_topk"},
        "resample": {"activation": "relu", "alpha": 0.5, "dead_features": "resample"},
        "ignore": {"dead_features": "ignore"},
        "l0": {"activation": "jumprelu", "l0": 5.0},
        "stopping": {"early_stopping": True},
        "uncentred": {"center": False, "scale": False},
        "k-large": {"k": 40},
        "k-one": {"k": 1},
        "auto": {"max_iter": "auto", "n_components": 32, "tol": 0.01},
    }
    for name, params in options.items():
        params = {"n_components": 96, "k": 6, "max_iter": 6, **params}
        fit = SparseAutoencoder(**params, random_state=0)
        yield f"sae/{name}", fit, (narrow,)
    weights = np.arange(len(narrow)) % 3
    yield (
        "sae/weights",
        SparseAutoencoder(64, k=5, max_iter=3, random_state=0),
        (
            narrow,
            None,
            weights,
        ),
    )
    few = narrow[:90]
    yield (
        "sae/few-rows",
        SparseAutoencoder(40, k=4, max_iter=20, random_state=0),
        (few,),
    )


def connectors() -> Iterator:
    """Yield a name, an estimator, its rows and its targets."""
    from skfeat import FeatureConnector, FeatureConnectorCV

    sizes = {"small": (300, 20, 6), "large": (4000, 120, 60), "wide": (60, 150, 5)}
    for link in ("identity", "relu"):
        for size, (n, d, n_outputs) in sizes.items():
            X, Y = regression(n, d, n_outputs, rectified=link == "relu")
            budget = 4 * n_outputs
            kinds = {
                "alpha": {"alpha": 0.001},
                "unrefined": {"alpha": 0.003, "refit": False},
                "no-intercept": {"alpha": 0.002, "fit_intercept": False},
                "budget": {"n_nonzero_coefs": budget},
                "each": {"n_nonzero_coefs": [4] * n_outputs},
            }
            if link == "identity":
                kinds["candidates"] = {"n_nonzero_coefs": budget, "candidates": 2.0}
            else:
                kinds["minibatch"] = {
                    "alpha": 0.001,
                    "solver": "minibatch",
                    "max_iter": 8,
                }
            for name, params in kinds.items():
                if name == "each" and size == "wide":
                    continue
                for rows in ("dense", "csr"):
                    data = sparse.csr_array(X) if rows == "csr" else X
                    fit = FeatureConnector(link=link, random_state=0, **params)
                    yield f"connector/{link}/{size}/{name}/{rows}", fit, (data, Y)
        X, Y = regression(500, 20, 4, rectified=link == "relu")
        fit = FeatureConnector(0.001, link=link, random_state=0)
        yield f"connector/{link}/weights", fit, (X, Y, np.arange(500) % 3)
        yield f"connector/{link}/cv", FeatureConnectorCV(alphas=6, link=link), (X, Y)
        X32 = X.astype(np.float32)
        yield f"connector/{link}/float32", fit, (X32, Y.astype(np.float32))
        # Large enough for the compiled loops.
        X, Y = regression(20_000, 128, 128, rectified=link == "relu")
        for name, params in {
            "alpha": {"alpha": 0.001},
            "budget": {"n_nonzero_coefs": 512},
        }.items():
            fit = FeatureConnector(link=link, random_state=0, **params)
            yield f"connector/{link}/compiled/{name}", fit, (X, Y)
    X, Y = regression(500, 20, 4, rectified=True)
    start = (np.full((4, 20), 0.1), np.zeros(4))
    fit = FeatureConnector(0.001, init=start, random_state=0)
    yield "connector/relu/init", fit, (X, Y)


def unwrappers() -> Iterator:
    """Yield a name, an unwrapper of a small network and its rows."""
    from sklearn.datasets import load_diabetes, load_digits
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    from skfeat import FeatureConnector, FeatureUnwrapper, SparseAutoencoder

    X, y = load_digits(return_X_y=True)
    X = X / 16
    mlp = MLPClassifier((24, 16), max_iter=60, random_state=0).fit(X, y)
    sae = SparseAutoencoder(48, k=8, max_iter=8)
    relu = SparseAutoencoder(48, activation="relu", alpha=0.05, max_iter=8)
    kinds = {
        "apart": {"distill": False},
        "budget": {"n_nonzero_coefs": 150},
        "ends": {"connect_input": True, "connect_output": True, "n_nonzero_coefs": 200},
        "shared": {"shared_budget": True, "n_nonzero_coefs": 150},
        "unfaithful": {"faithfulness": 0.0, "n_nonzero_coefs": 150},
        "relu": {"autoencoder": relu, "n_nonzero_coefs": 150},
        "identity": {
            "connector": FeatureConnector(link="identity"),
            "n_nonzero_coefs": 150,
        },
    }
    for name, params in kinds.items():
        params = {"autoencoder": sae, **params}
        yield f"unwrapper/{name}", FeatureUnwrapper(mlp, random_state=0, **params), (X,)
    X, y = load_diabetes(return_X_y=True)
    mlp = MLPRegressor(hidden_layer_sizes=(16, 12), max_iter=200, random_state=0).fit(
        X, y / 100
    )
    sae = SparseAutoencoder(24, k=6, max_iter=20)
    fit = FeatureUnwrapper(mlp, autoencoder=sae, n_nonzero_coefs=60, random_state=0)
    yield "unwrapper/regression", fit, (X,)


def pairs() -> Iterator:
    """Yield a name, an estimator of two layers of rows and the rows."""
    from skfeat import SparseAutoencoder
    from skfeat.language import LayerPair, MLPConnector

    rng = np.random.RandomState(0)
    X = np.maximum(rng.randn(3000, 16) - 0.5, 0).astype(np.float32)
    Y = np.maximum(X @ rng.randn(16, 12).astype(np.float32), 0)
    sae = SparseAutoencoder(48, k=6, max_iter=5)
    yield "pair", LayerPair(sae, sae, min_events=20, random_state=0), (X, Y)
    fit = MLPConnector(24, max_iter=4, random_state=0)
    yield "mlp-connector", fit, (sparse.csr_array(X), Y)


def arrays_of(name: str, value) -> Iterator[tuple[str, np.ndarray]]:
    """Yield all numbers that a fitted attribute holds."""
    if sparse.issparse(value):
        value = value.tocsr()
        for part in ("data", "indices", "indptr"):
            yield f"{name}.{part}", np.asarray(getattr(value, part))
    elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        yield name, value
    elif isinstance(value, (bool, int, float, np.number)):
        yield name, np.asarray(value)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from arrays_of(f"{name}[{i}]", item)
    elif hasattr(value, "get_params") and hasattr(value, "fit"):
        yield from fitted(name, value)


def fitted(name: str, estimator) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the fitted attributes of an estimator and of its parts."""
    for key, value in sorted(vars(estimator).items()):
        if key.endswith("_") and not key.startswith("_"):
            yield from arrays_of(f"{name}.{key}", value)


def outputs(name: str, estimator, data) -> Iterator[tuple[str, np.ndarray]]:
    """Yield what a fitted estimator computes from its rows."""
    X = data[0][:200]
    for method in ("transform", "predict", "decision_function"):
        if hasattr(estimator, method):
            yield from arrays_of(f"{name}.{method}()", getattr(estimator, method)(X))
    if hasattr(estimator, "network"):
        network = estimator.network()
        yield f"{name}.network()", network.predict_raw(X)
        yield f"{name}.compact()", network.compact().predict_raw(X)
        for method, found in (
            ("attribute", network.attribute(X[:5], 0)),
            ("ablate", network.ablate(X[:20], {0: [0, 1]})),
        ):
            for key in sorted(vars(found)):
                yield from arrays_of(f"{name}.{method}().{key}", vars(found)[key])
        report = estimator.report(X)
        for key, column in report.items():
            values = np.array([v if v is not None else np.nan for v in column], object)
            if all(isinstance(v, (int, float)) for v in values):
                yield f"{name}.report.{key}", values.astype(float)


def write(path: str, only: str) -> None:
    """Fit all whose name begins with `only`, and write every number."""
    found: dict[str, np.ndarray] = {}
    for make in (autoencoders, connectors, unwrappers, pairs):
        for name, estimator, data in make():
            if not name.startswith(only):
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                estimator.fit(*data)
                found.update(fitted(name, estimator))
                found.update(outputs(name, estimator, data))
            print(name, flush=True)
    np.savez(path, **{key.replace("/", "|"): value for key, value in found.items()})


def compare(before: str, after: str) -> int:
    """Print what differs, with the largest difference; return how many names do."""
    old, new = np.load(before), np.load(after)
    missing = sorted(set(old.files) ^ set(new.files))
    for key in missing:
        print("only in", "before" if key in old.files else "after", key)
    differing = 0
    for key in sorted(set(old.files) & set(new.files)):
        a, b = old[key], new[key]
        if a.shape == b.shape and np.array_equal(a, b, equal_nan=True):
            continue
        differing += 1
        if a.shape != b.shape:
            print(f"{key}: shape {a.shape} became {b.shape}")
        else:
            scale = np.abs(a).max() or 1.0
            gap = np.abs(a.astype(float) - b.astype(float)).max() / scale
            print(f"{key}: differs by {gap:.1e} of the largest")
    n_same = len(set(old.files) & set(new.files)) - differing
    print(
        f"{n_same} arrays equal to the bit, {differing} differ, {len(missing)} missing"
    )
    return differing + len(missing)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("action", choices=["write", "compare"])
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--only", default="", help="names that begin so")
    parser.add_argument("--without-numba", action="store_true")
    arguments = parser.parse_args()
    if arguments.without_numba:
        sys.modules["numba"] = None  # type: ignore[assignment]
    if arguments.action == "write":
        write(arguments.paths[0], arguments.only)
    else:
        sys.exit(bool(compare(*arguments.paths)))
