"""Fits in other processes and threads; numbers are lines of the acceptance list."""

import sys
import threading
import time
import warnings

import numpy as np
import psutil
import pytest
import torch
from _backends import started
from sklearn.model_selection import GridSearchCV, ShuffleSplit

from skfeat import SparseAutoencoder
from tests.unwrapper.test_feature_unwrapper import X as ROWS
from tests.unwrapper.test_feature_unwrapper import unwrapper

on_linux = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads Linux' count of shared pages"
)


@pytest.fixture(scope="module")
def X():
    rng = np.random.RandomState(0)
    return np.maximum(rng.randn(160, 5), 0) @ rng.randn(5, 6) + 0.1 * rng.randn(160, 6)


def search(X):
    sae = SparseAutoencoder(
        12,
        max_iter=24,
        batch_size=40,
        precision="float64",
        sparse_output=True,
        random_state=0,
    )
    grid = {"k": [3, 4], "tied": [False, True]}
    return GridSearchCV(sae, grid, cv=2, return_train_score=True).fit(X)


@pytest.fixture(scope="module")
def serial(X):
    return search(X)


def backend(name):
    if name in ("dask", "ray"):
        pytest.importorskip({"dask": "distributed", "ray": "ray"}[name])
    return started(name)


BACKENDS = pytest.mark.parametrize(
    "name",
    [
        "threading",
        pytest.param("loky", marks=pytest.mark.slow),
        pytest.param("dask", marks=pytest.mark.slow),
        pytest.param("ray", marks=pytest.mark.slow),
    ],
)


@BACKENDS
def test_parallel_search_is_the_serial_one(X, serial, name):  # 94
    threads = torch.get_num_threads()
    with backend(name):
        parallel = search(X)
    assert torch.get_num_threads() == threads
    assert parallel.best_params_ == serial.best_params_
    for kind in ("train", "test"):
        for split in range(2):
            column = f"split{split}_{kind}_score"
            scores = serial.cv_results_[column]
            assert len(set(scores)) == 4
            np.testing.assert_array_equal(parallel.cv_results_[column], scores)
    np.testing.assert_array_equal(
        parallel.best_estimator_.components_, serial.best_estimator_.components_
    )


@BACKENDS
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:.*features are dead:UserWarning")
def test_parallel_unwrapping_is_the_serial_one(name):
    serial = unwrapper(distill=False).fit(ROWS)
    with backend(name):
        parallel = unwrapper(distill=False).fit(ROWS)
    for one, other in zip(serial.autoencoders_, parallel.autoencoders_, strict=True):
        np.testing.assert_array_equal(one.components_, other.components_)
    np.testing.assert_array_equal(
        serial.predict_proba(ROWS), parallel.predict_proba(ROWS)
    )


def test_checkpoints_of_a_call_that_cannot_be_made_again(tmp_path):
    autoencoder = SparseAutoencoder(12, k=3, checkpoint=tmp_path)
    whole = unwrapper(autoencoder=autoencoder, random_state=None)
    with pytest.raises(ValueError, match="random_state=None is not possible with an"):
        whole.fit(ROWS)


class PeakMemory(threading.Thread):
    """Watches the largest private memory of this process and of each of its children.

    Mapped files are not counted: they are shared, and given back when memory is short.
    With `mapped` they are.
    """

    def __init__(self, mapped=False):
        super().__init__(daemon=True)
        self.done = threading.Event()
        self.me = psutil.Process()
        self.mapped = mapped
        self.start_bytes = self.private(self.me)
        self.own, self.children = 0, 0

    def private(self, process):
        memory = process.memory_info()
        return memory.rss - (0 if self.mapped else memory.shared)

    def run(self):
        while not self.done.is_set():
            self.own = max(self.own, self.private(self.me) - self.start_bytes)
            for child in self.me.children(recursive=True):
                try:
                    self.children = max(self.children, self.private(child))
                except psutil.NoSuchProcess:
                    continue
            time.sleep(0.02)

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.join()


def write_rows(path, n_rows, n_features, dtype=np.float32):
    rows = np.lib.format.open_memmap(
        path, mode="w+", dtype=dtype, shape=(n_rows, n_features)
    )
    block = np.random.RandomState(0).randn(4096, n_features).astype(dtype)
    for start in range(0, n_rows, 4096):
        rows[start : start + 4096] = block
    del rows
    return np.load(path, mmap_mode="r")


@pytest.mark.slow
@on_linux
def test_rows_on_disk_are_not_copied(tmp_path):  # 95
    rows = write_rows(tmp_path / "X.npy", 2**16, 1024)
    sae = SparseAutoencoder(64, k=4, max_iter=2, tol=0.5, random_state=0)
    with PeakMemory() as peak:
        score = sae.fit(rows).score(rows)
    assert 0 < score < 1
    # A copy would be 268 MB, one in double precision twice that.
    assert peak.own < 0.5 * rows.nbytes


@pytest.mark.slow
@on_linux
def test_workers_share_a_gigabyte_of_rows(tmp_path):  # 95
    rows = write_rows(tmp_path / "X.npy", 2**18, 1024)
    assert rows.nbytes == 2**30
    sae = SparseAutoencoder(64, k=4, max_iter=2, tol=0.5, random_state=0)
    small = ShuffleSplit(2, train_size=0.05, test_size=0.05, random_state=0)
    with PeakMemory() as peak:
        search = GridSearchCV(sae, {"k": [3, 4]}, cv=small, n_jobs=2, refit=False)
        search.fit(rows)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert peak.own < 0.3 * rows.nbytes
    # Libraries and the few rows of the splits; far from a copy of all rows.
    assert 0 < peak.children < 0.7 * rows.nbytes


@pytest.mark.slow
@on_linux
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_resident_memory_stays_flat_over_rows_on_disk(tmp_path, dtype):
    """Pages of the file count too: they are dropped once read."""
    n_rows = 2**30 // (1024 * np.dtype(dtype).itemsize)
    rows = write_rows(tmp_path / "X.npy", n_rows, 1024, dtype)
    sae = SparseAutoencoder(64, k=4, max_iter=1, batch_size=4096, random_state=0)
    with PeakMemory(mapped=True) as peak, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one epoch is too short, and some die
        sae.fit(rows)
    assert sae.components_.dtype == (np.float32 if dtype == np.float32 else float)
    assert peak.own < 0.4 * rows.nbytes


@on_linux
def test_a_mapped_file_is_validated_in_blocks(tmp_path):
    rows = write_rows(tmp_path / "X.npy", 4096, 3)
    fitted = [
        SparseAutoencoder(
            6, k=2, max_iter=9, tol=0.9, n_iter_no_change=3, random_state=0
        ).fit(X)
        for X in (rows, rows[::1])
    ]
    np.testing.assert_array_equal(fitted[0].components_, fitted[1].components_)
    assert 0 < fitted[0].score(rows) < 1
    broken = np.array(rows)
    broken[4000, 1] = np.nan
    np.save(tmp_path / "broken.npy", broken)
    broken = np.load(tmp_path / "broken.npy", mmap_mode="r")
    for method in (SparseAutoencoder().fit, fitted[0].score, fitted[0].transform):
        with pytest.raises(ValueError, match="Input X contains NaN"):
            method(broken)
