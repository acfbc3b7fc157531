"""Rows that are stored before a fit, by hand or by the fit, or never are."""

import errno
import os
import re
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from skfeat import FeatureConnector, SparseAutoencoder
from skfeat.rows import iter_rows, store_rows
from skfeat.utils import _files

pytest.importorskip("pyarrow")
pytest.importorskip("pandas")
pytest.importorskip("polars")
pytest.importorskip("datasets")

from tests.rows.test_row_sources import (
    X,
    hugging_face,
    npy,
    parquet,
    parquet_dataset,
    parts,
    scalars,
)

WEIGHTS = ["components_", "intercept_", "encoder_coef_", "encoder_intercept_"]


def make_sae(**params):
    small = {"n_components": 8, "k": 2, "max_iter": 3, "batch_size": 40}
    return SparseAutoencoder(**{**small, "random_state": 0, **params})


class TestStore:
    @pytest.fixture
    def old(self, tmp_path):
        path = tmp_path / "rows.npy"
        path.write_bytes(b"as it was")
        yield path
        assert path.read_bytes() == b"as it was"
        assert os.listdir(tmp_path) == ["rows.npy"]

    def test_refuses_to_overwrite(self, old):
        with pytest.raises(
            FileExistsError, match=r"rows.npy' exists; set overwrite=True"
        ):
            store_rows(X, old)

    @pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, GeneratorExit])
    def test_an_error_of_the_source(self, old, error):
        def failing():
            yield from [X] * 200
            raise error

        with pytest.raises(error):
            store_rows(failing(), old, overwrite=True)

    def test_nothing_to_store(self, old):
        with pytest.raises(ValueError, match="source holds no rows"):
            store_rows([], old, overwrite=True)

    def test_full_disk(self, old, monkeypatch):
        write = _files.open if hasattr(_files, "open") else open

        class Full:
            def __init__(self, *args):
                self.file = write(*args)

            def __enter__(self):
                return self

            def __exit__(self, *error):
                self.file.close()

            def write(self, content):
                if self.file.tell() > 10_000:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                return self.file.write(content)

            def flush(self):
                self.file.flush()

        monkeypatch.setattr(_files, "open", Full, raising=False)
        message = r"path='.*rows.npy' cannot be written \(No space left on device\)"
        with pytest.raises(OSError, match=message) as error:
            store_rows([X] * 200, old, overwrite=True)
        assert error.value.errno == errno.ENOSPC

    def test_overwrites_its_own_source(self, tmp_path):
        path = npy(tmp_path)
        for source in (path, np.load(path, mmap_mode="r")):
            rows = store_rows(source, path, overwrite=True)
            np.testing.assert_array_equal(rows, X)
        assert os.listdir(tmp_path) == ["rows.npy"]

    def test_other_refusals(self, tmp_path):
        with pytest.raises(IsADirectoryError, match="is a folder; name a file"):
            store_rows(X, tmp_path)
        with pytest.raises(FileNotFoundError, match="in a folder that does not exist"):
            store_rows(X, tmp_path / "no" / "rows.npy")
        with pytest.raises(ValueError, match="overwrite must be a bool"):
            store_rows(X, tmp_path / "rows.npy", overwrite=1)
        assert os.listdir(tmp_path) == []

    def test_verbose_is_checked_first(self, tmp_path):
        with pytest.raises(
            ValueError, match="verbose must be a bool or an int of at least 0"
        ):
            store_rows(np.ones((3, 2)), tmp_path / "rows.npy", verbose="x")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without pipes")
    def test_what_is_no_file_stays(self, tmp_path):
        pipe, link, file = (tmp_path / name for name in ("pipe", "link", "file"))
        os.mkfifo(pipe)
        with pytest.raises(ValueError, match="is not a regular file"):
            store_rows(np.ones((3, 2)), pipe, overwrite=True)
        assert pipe.is_fifo()
        link.symlink_to(file)
        store_rows(np.ones((3, 2)), link)
        assert link.is_symlink()
        assert np.load(file).shape == (3, 2)

    def test_calls_at_once_do_not_share_a_file(self, tmp_path):
        path, barrier = tmp_path / "rows.npy", threading.Barrier(3)

        def batches(value):
            yield np.full((5, 2), value, np.float32)
            barrier.wait()

        def store(value):
            try:
                return store_rows(batches(value), path)[0, 0] == value
            except FileExistsError:
                return None

        with ThreadPoolExecutor(3) as pool:
            found = list(pool.map(store, range(3)))
        assert sorted(found, key=str) == [None, None, True]
        assert [p.name for p in tmp_path.iterdir()] == ["rows.npy"]

    def test_verbose(self, tmp_path, capsys):
        store_rows(parts(50), tmp_path / "1.npy")
        assert capsys.readouterr().out == ""
        store_rows([X] * 200, tmp_path / "2.npy", verbose=2)
        lines = capsys.readouterr().out.splitlines()
        assert [line.split(",")[0] for line in lines[:2]] == [
            "[store_rows] 8",
            "[store_rows] 16",
        ]
        assert lines[-1].startswith("[store_rows] 20,000 rows, 0 MiB, ")


STREAMS = {
    "generator": lambda _: parts(7, 50),
    "RecordBatchReader": lambda _: scalars().to_reader(9),
    "pyarrow Dataset": parquet_dataset,
    "datasets": lambda _: hugging_face(_),
    "IterableDataset": lambda _: hugging_face(_).to_iterable_dataset(),
    "DataLoader": lambda _: DataLoader(torch.from_numpy(X), batch_size=11),
    "iter_rows": lambda folder: iter_rows(parquet(folder), batch_size=9),
}


@pytest.mark.parametrize("name", STREAMS)
def test_fit(name, tmp_path, monkeypatch):
    used, given = tmp_path / "temporary", tmp_path / "given"
    used.mkdir()
    given.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(used))
    stored = store_rows(STREAMS[name](given), tmp_path / "stored.npy", dtype=None)
    weights = np.arange(100.0)
    for sample_weight in (None, weights):
        expected = make_sae().fit(stored, sample_weight=sample_weight)
        sae = make_sae().fit(STREAMS[name](given), sample_weight=sample_weight)
        for attribute in WEIGHTS:
            got, wanted = getattr(sae, attribute), getattr(expected, attribute)
            assert got.dtype == wanted.dtype
            np.testing.assert_array_equal(got, wanted)
    assert not list(used.glob("*.npy"))
    with pytest.raises(ValueError, match=r"sample_weight.shape == \(7,\)"):
        make_sae().fit(STREAMS[name](given), sample_weight=np.ones(7))
    assert not list(used.glob("*.npy"))


def test_fit_keeps_the_type_of_the_rows():
    for dtype in ("float32", "float64"):
        assert (
            make_sae().fit(parts(30, rows=X.astype(dtype))).components_.dtype == dtype
        )


def test_fit_of_a_bad_iterator_names_X():
    with pytest.raises(ValueError, match="X has nan in row 20, feature 1"):
        make_sae().fit(parts(7, rows=np.where(X[20, 1] == X, np.nan, X)))
    with pytest.raises(ValueError, match="X holds no rows"):
        make_sae().fit(iter([]))


def test_fit_full_disk(monkeypatch):
    class Full:
        def __init__(self, **_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def write(self, _):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    message = r"temporary file in .*, for X, cannot be written \(No space left"
    with pytest.raises(OSError, match=message):
        make_sae().fit(iter([X]))


@pytest.mark.parametrize("batch_size", [13, 100])
def test_partial_fit_of_a_connector(batch_size):
    rows = np.random.RandomState(1).randn(300, 7)
    Y = np.column_stack([rows[:, :2].sum(axis=1), rows[:, 3] - rows[:, 4]])
    both = np.column_stack([rows, Y + 0.1 * np.random.RandomState(2).randn(300, 2)])
    model = FeatureConnector(link="identity", alpha=0.01, tol=1e-12)
    whole = model.fit(both[:, :7], both[:, 7:])
    streamed = FeatureConnector(link="identity", alpha=0.01, tol=1e-12)
    for batch in iter_rows(parts(50, 1, 99, rows=both), batch_size=batch_size):
        streamed.partial_fit(batch[:, :7], batch[:, 7:])
    np.testing.assert_allclose(
        streamed.coef_.toarray(), whole.coef_.toarray(), rtol=0, atol=1e-10
    )
    np.testing.assert_allclose(streamed.intercept_, whole.intercept_, atol=1e-10)
    once = FeatureConnector(link="identity", alpha=0.01)
    once.partial_fit(both[:, :7], both[:, 7:])
    for name, value in vars(once._state).items():
        np.testing.assert_allclose(
            vars(streamed._state)[name], value, rtol=1e-10, atol=1e-10, err_msg=name
        )


def test_partial_fit_over_blocks_of_dask():
    da = pytest.importorskip("dask.array")
    blocks = da.from_array(X, chunks=(40, 3))
    sae, expected = make_sae(), make_sae()
    for batch in iter_rows(blocks, batch_size=40):
        sae.partial_fit(batch)
    for block in (X[:40], X[40:80], X[80:]):
        expected.partial_fit(block)
    np.testing.assert_array_equal(sae.components_, expected.components_)


def test_incremental_of_dask_ml():
    wrappers = pytest.importorskip("dask_ml.wrappers")
    da = pytest.importorskip("dask.array")
    sae = wrappers.Incremental(make_sae(), shuffle_blocks=False)
    sae.fit(da.from_array(X, chunks=(50, 3)))
    expected = make_sae().partial_fit(X[:50]).partial_fit(X[50:])
    np.testing.assert_array_equal(sae.estimator_.components_, expected.components_)


@pytest.mark.slow
def test_script_of_the_page(tmp_path):
    page = Path(__file__).parents[2] / "docs" / "more_rows.md"
    if not page.is_file():
        pytest.skip("the tests run outside a checkout")
    parts = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)
    script = "\n".join(parts)  # a later part goes on from the first
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(page.parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shape, same, streamed, connector, *weights, contexts = done.stdout.splitlines()
    assert len(weights) == 2
    assert all(re.fullmatch(r"\[[1-9]\d*\]", found) for found in weights)
    assert contexts == "10"
    assert shape.startswith("(10000, 16) 0.9")
    assert (same, streamed, connector) == ("True", "(32, 16)", "(8, 8)")
    assert sorted(os.listdir(tmp_path)) == ["fed", "rows.npy"]


@pytest.mark.slow
def test_memory_is_bounded(tmp_path):
    psutil = pytest.importorskip("psutil")
    block = np.random.RandomState(0).rand(5000, 512).astype(np.float32)
    process = psutil.Process()
    store_rows(iter([block]), tmp_path / "warm.npy")
    before = process.memory_info().rss
    peak = [before]

    def watched(source):
        for rows in source:
            peak[0] = max(peak[0], process.memory_info().rss)
            yield rows

    stored = store_rows(watched(block for _ in range(30)), tmp_path / "rows.npy")
    assert stored.nbytes > 300e6
    sums = sum(rows.sum() for rows in watched(iter_rows(tmp_path / "rows.npy")))
    assert sums == pytest.approx(30 * block.sum(), rel=1e-4)
    assert peak[0] - before < 60e6
