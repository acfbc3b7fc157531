"""Rows from files, tables, datasets and generators."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from skfeat.rows import _columns, iter_rows, store_rows

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
datasets = pytest.importorskip("datasets")
import pyarrow.parquet as pq  # noqa: E402

X = np.random.RandomState(0).randn(100, 3).astype(np.float32)
NAMES = ["a", "b", "c"]


def lists(rows=X, kind="fixed"):
    """A column of rows."""
    if kind == "fixed":
        return pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    offsets = np.arange(len(rows) + 1) * rows.shape[1]
    make = pa.ListArray if kind == "list" else pa.LargeListArray
    dtype = "i4" if kind == "list" else "i8"
    return make.from_arrays(pa.array(offsets.astype(dtype)), pa.array(rows.ravel()))


def scalars():
    return pa.table(dict(zip(NAMES, X.T.copy(), strict=True)))


def parts(*sizes, rows=X):
    """Generate rows in parts; the last has what is left."""
    start = 0
    for size in sizes:
        yield rows[start : start + size]
        start += size
    yield rows[start:]


def parquet(folder, table=None, name="x.parquet"):
    pq.write_table(table or pa.table({"x": lists()}), folder / name, row_group_size=32)
    return folder / name


def folder_of_parquet(folder):
    for number, table in enumerate((scalars()[:7], scalars()[7:70], scalars()[70:])):
        parquet(folder, table, f"part-{number}.parquet")
    return str(folder)


def arrow_file(folder, make=pa.ipc.new_file):
    table = pa.table({"x": lists(kind="large"), "text": ["t"] * 100})
    with make(folder / "rows", table.schema) as writer:
        writer.write_table(table, max_chunksize=33)
    return folder / "rows"


def npy(folder, rows=X):
    np.save(folder / "rows.npy", rows)
    return folder / "rows.npy"


def hugging_face(_, rows=X):
    return datasets.Dataset.from_dict({"x": rows, "text": ["t"] * len(rows)})


def parquet_dataset(folder):
    return pa.dataset.dataset(folder_of_parquet(folder))


SOURCES = {
    "array": lambda _: X,
    "Fortran": lambda _: np.asfortranarray(X),
    "tensor": lambda _: torch.from_numpy(X).requires_grad_(),
    "memmap": lambda folder: np.load(npy(folder), mmap_mode="r"),
    "npy": npy,
    "npy Fortran": lambda folder: npy(folder, np.asfortranarray(X)),
    "Parquet list": parquet,
    "Parquet scalars": lambda folder: parquet(folder, scalars()),
    "folder": folder_of_parquet,
    "Arrow file": arrow_file,
    "Arrow stream": lambda folder: arrow_file(folder, pa.ipc.new_stream),
    "Table": lambda _: scalars(),
    "Table of lists": lambda _: pa.table({"x": lists(kind="list")})[0:],
    "sliced lists": lambda _: pa.table(
        {"x": lists(np.concatenate([X[:5], X]), "list")}
    )[5:],
    "sliced fixed lists": lambda _: pa.table({"x": lists(np.concatenate([X[:5], X]))})[
        5:
    ],
    "RecordBatch": lambda _: scalars().to_batches()[0],
    "RecordBatchReader": lambda _: scalars().to_reader(9),
    "pyarrow Dataset": parquet_dataset,
    "datasets": hugging_face,
    "datasets, chosen": lambda _: hugging_face(_, X[::-1]).select(range(99, -1, -1)),
    "IterableDataset": lambda _: hugging_face(_).to_iterable_dataset(),
    "datasets in batches": lambda _: hugging_face(_).iter(30),
    "DataLoader": lambda _: DataLoader(torch.from_numpy(X), batch_size=11),
    "DataLoader of tuples": lambda _: DataLoader(
        TensorDataset(torch.from_numpy(X), torch.arange(100)), batch_size=11
    ),
    "generator": lambda _: parts(7, 0, 50),
    "nested lists": lambda _: [part.tolist() for part in parts(5, 60)],
    "tables": lambda _: iter(scalars().to_batches(max_chunksize=30)),
    "pandas": lambda _: pd.DataFrame(X, columns=NAMES, index=range(200, 100, -1)),
    "pandas in parts": lambda _: (pd.DataFrame(part) for part in parts(5, 60)),
    "polars": lambda _: pl.DataFrame(X, schema=NAMES),
    "polars lists": lambda _: pl.DataFrame({"x": X.tolist(), "t": ["t"] * 100}),
    "dict": lambda _: {"x": X, "text": ["t"] * 100},
    "dicts": lambda _: ({"x": torch.from_numpy(part)} for part in parts(5, 60)),
    "tuples": lambda _: ((part, None) for part in parts(5, 60)),
}


@pytest.mark.parametrize("name", SOURCES)
def test_sources(name, tmp_path):
    for batch_size in (1, 32, 1000):
        batches = list(
            iter_rows(SOURCES[name](tmp_path), batch_size=batch_size, dtype="float32")
        )
        sizes = [len(batch) for batch in batches]
        assert sizes[:-1] == [batch_size] * (len(sizes) - 1)
        assert all(batch.flags.c_contiguous for batch in batches)
        assert not any(batch.flags.writeable for batch in batches)
        assert {batch.dtype for batch in batches} == {np.dtype("float32")}
        np.testing.assert_array_equal(np.concatenate(batches), X)


def test_dask(tmp_path):
    da = pytest.importorskip("dask.array")
    blocks = da.from_array(X, chunks=((30, 70), (2, 1)))
    np.testing.assert_array_equal(np.concatenate([*iter_rows(blocks)]), X)


sizes = st.lists(st.integers(0, 40), max_size=8)


@given(sizes=sizes, batch_size=st.integers(1, 120), reuse=st.booleans())
def test_any_split_gives_the_same_batches(sizes, batch_size, reuse):
    def generate():
        same = np.empty_like(X)
        for part in parts(*sizes):
            same[: len(part)] = part
            yield same[: len(part)] if reuse else part

    for got, expected in zip(
        map(np.array, iter_rows(generate(), batch_size=batch_size)),
        iter_rows(X, batch_size=batch_size),
        strict=True,
    ):
        np.testing.assert_array_equal(got, expected)


@given(sizes=sizes, dtype=st.sampled_from([None, "float16", "float32", "float64"]))
def test_any_split_gives_the_same_file(sizes, dtype):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X.npy"
        mapped = store_rows(parts(*sizes), path, dtype=dtype)
        assert isinstance(mapped, np.memmap)
        assert not mapped.flags.writeable
        np.testing.assert_array_equal(np.load(path), X.astype(dtype or "float32"))
        whole = store_rows(X, Path(folder) / "whole.npy", dtype=dtype)
        assert path.read_bytes() == Path(whole.filename).read_bytes()
        assert sorted(os.listdir(folder)) == ["X.npy", "whole.npy"]


@given(n=st.integers(1, 150), k=st.integers(1, 40), n_buffered=st.integers(1, 4000))
def test_columns_side_by_side(n, k, n_buffered):
    table = np.arange(n * k, dtype=np.float32).reshape(n, k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_columns, "_BUFFER_VALUES", n_buffered)
        rows = _columns.side_by_side(list(table.T))
    np.testing.assert_array_equal(rows, table)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        *(("int8", "float32"), ("uint16", "float32"), ("bool", "float32")),
        *(("float16", "float32"), (">f4", "float32"), ("float64", "float64")),
        *(("int32", "float64"), ("int64", "float64"), ("longdouble", "float64")),
    ],
)
def test_dtype_of_batches(given, found):
    (rows,) = iter_rows(np.ones((2, 2), given))
    assert rows.dtype == np.dtype(found)
    assert rows.dtype.isnative
    assert next(iter_rows(torch.ones(2, 2, dtype=torch.bfloat16))).dtype == "float32"


def test_columns(tmp_path):
    table = pa.table(
        {"id": range(100), "x": lists(), "y": lists(X[:, :2]), "t": [""] * 100}
    )
    path = parquet(tmp_path, table)
    for source in (table, path, hugging_face(None).add_column("id", range(100))):
        columns = ["id", "x"]
        rows = np.concatenate([*iter_rows(source, columns=columns, batch_size=30)])
        np.testing.assert_array_equal(rows, np.column_stack([np.arange(100), X]))
        np.testing.assert_array_equal(next(iter_rows(source, columns="x")), X)
        with pytest.raises(
            ValueError, match=r"columns of numbers \('id'\) and of rows"
        ):
            list(iter_rows(source))
    both = np.concatenate([*iter_rows(path, columns=["y", "x"])])
    np.testing.assert_array_equal(both, np.column_stack([X[:, :2], X]))
    flags = pa.table({"on": [True, False], "x": [1.0, 2.0]})
    assert next(iter_rows(flags)).tolist() == [[1], [2]]
    assert next(iter_rows(flags, columns=["x", "on"])).tolist() == [[1, 1], [2, 0]]
