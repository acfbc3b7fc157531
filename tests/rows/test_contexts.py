"""Contexts, of one length or of several, become rows in order."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from skfeat import SparseAutoencoder
from skfeat.rows import iter_rows, store_rows

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
datasets = pytest.importorskip("datasets")
import pyarrow.parquet as pq  # noqa: E402

A = np.arange(5 * 7 * 3, dtype=np.float32).reshape(5, 7, 3)
RAGGED = [A[i, :n] for i, n in enumerate([2, 7, 1, 0, 4])]
FILLED = [rows for rows in RAGGED if len(rows)]


def rows_of(source, **options):
    batches = list(iter_rows(source, batch_size=4, **options))
    assert all(len(batch) == 4 for batch in batches[:-1])
    return np.concatenate(batches)


def npy(folder, array=A):
    np.save(folder / "a.npy", array)
    return folder / "a.npy"


def hugging_face(contexts=A, shape=(7, 3), **columns):
    features = {"a": datasets.Array2D(shape, "float32")}
    features |= {name: datasets.List(datasets.Value("int32")) for name in columns}
    return datasets.Dataset.from_dict(
        {"a": contexts, **columns}, features=datasets.Features(features)
    )


def ids():
    return [[1] * 7] * 5


ONE_LENGTH = {
    "array": lambda folder: A,
    "tensor": lambda folder: torch.from_numpy(A).bfloat16(),
    "npy": npy,
    "Fortran order": lambda folder: npy(folder, np.asfortranarray(A)),
    "mapped": lambda folder: np.load(npy(folder), mmap_mode="r"),
    "generator": lambda folder: (A[i : i + 2] for i in range(0, 5, 2)),
    "DataLoader": lambda folder: DataLoader(torch.from_numpy(A), batch_size=2),
    "with labels": lambda folder: DataLoader(
        TensorDataset(torch.from_numpy(A), torch.arange(5)), batch_size=2
    ),
    "lists": lambda folder: [A.tolist()],
    "dict": lambda folder: {"a": A},
    "dicts": lambda folder: [{"a": A[:2]}, {"a": A[2:]}],
    "pandas": lambda folder: pd.DataFrame({"a": list(A)}),
    "polars": lambda folder: pl.DataFrame({"a": A.tolist()}),
    "polars array": lambda folder: pl.DataFrame({"a": A}),
    "arrow": lambda folder: pa.table({"a": A.tolist()}),
    "Array2D": lambda folder: hugging_face(),
    "with ids": lambda folder: hugging_face(ids=ids()).select_columns("a"),
    "streamed": lambda folder: hugging_face().to_iterable_dataset(),
}
SEVERAL_LENGTHS = {
    "list": lambda folder: FILLED,
    "generator": lambda folder: iter(RAGGED),
    "object array": lambda folder: objects(),
    "nested lists": lambda folder: [[rows.tolist() for rows in RAGGED]],
    "nested tensor": lambda folder: nested(),
    "dict": lambda folder: {"a": objects()},
    "pandas": lambda folder: pd.DataFrame({"a": RAGGED}),
    "polars": lambda folder: pl.DataFrame({"a": [rows.tolist() for rows in RAGGED]}),
    "arrow": lambda folder: arrow(),
    "parquet": lambda folder: pq.write_table(arrow(), folder / "a") or folder / "a",
    "Array2D": lambda folder: hugging_face(FILLED, (None, 3)),
}


def objects():
    found = np.empty(5, object)
    found[:] = RAGGED
    return found


def nested():
    parts = [torch.from_numpy(rows) for rows in FILLED]
    return torch.nested.nested_tensor(parts, layout=torch.jagged)


def arrow():
    return pa.table({"a": [rows.tolist() for rows in RAGGED]})


@pytest.mark.parametrize("make", ONE_LENGTH.values(), ids=ONE_LENGTH)
def test_contexts_of_one_length(make, tmp_path):
    np.testing.assert_array_equal(rows_of(make(tmp_path)), A.reshape(-1, 3))


@pytest.mark.parametrize("make", SEVERAL_LENGTHS.values(), ids=SEVERAL_LENGTHS)
def test_contexts_of_several_lengths(make, tmp_path):
    np.testing.assert_array_equal(rows_of(make(tmp_path)), np.concatenate(RAGGED))


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=6),
    st.integers(1, 20),
    st.sampled_from(["array", "arrow", "dict"]),
)
def test_any_lengths_in_any_batches(lengths, batch_size, kind):
    rows = np.arange(2.0 * sum(lengths)).reshape(-1, 2)
    contexts = np.split(rows, np.cumsum(lengths)[:-1])
    column = np.empty(len(contexts), object)
    column[:] = contexts
    lists = pa.array([c.tolist() for c in contexts], pa.list_(pa.list_(pa.float64())))
    make = {"array": column, "dict": {"a": column}, "arrow": pa.table({"a": lists})}
    if not sum(lengths):
        with pytest.raises(ValueError, match="holds no rows"):
            list(iter_rows(make[kind], batch_size=batch_size))
        return
    found = list(iter_rows(make[kind], batch_size=batch_size))
    assert {len(batch) for batch in found[:-1]} <= {batch_size}
    np.testing.assert_array_equal(np.concatenate(found), rows)


def test_columns_of_contexts_side_by_side():
    both = np.hstack([A.reshape(-1, 3)] * 2)
    np.testing.assert_array_equal(rows_of({"a": A, "b": A}), both)
    np.testing.assert_array_equal(
        rows_of(pa.table({"a": A.tolist(), "b": A.tolist()})), both
    )
    np.testing.assert_array_equal(
        rows_of(hugging_face(ids=ids()), columns="a"), A.reshape(-1, 3)
    )


@pytest.mark.parametrize(
    ("source", "options", "match"),
    [
        (lambda: hugging_face(ids=ids()), {}, r"of rows \('ids'\) and of contexts"),
        (lambda: {"a": A, "n": np.arange(5)}, {}, "of numbers .*and of contexts"),
        (
            lambda: {"a": A, "n": np.arange(5)},
            {"columns": ["a", "n"]},
            "columns names 'a', 'n', but .* take those of one kind",
        ),
        (lambda: {"a": A, "b": A[:, :3]}, {}, "contexts of different lengths side by"),
        (lambda: A[None], {}, r"shape \(1, 5, 7, 3\); rows are two-dim.*by context"),
        (lambda: [A[None]], {}, r"shape \(1, 5, 7, 3\); rows are two-dim.*by context"),
        (lambda: [[A[0], A[1, :2]]], {}, "list of arrays of 7, 2 .* one by one"),
        (
            lambda: pa.table({"a": [[[1.0, 2.0]], [None]]}),
            {},
            "a context with a null in column 'a', row 1",
        ),
        (
            lambda: pa.table({"a": [[[1.0, 2.0]], [[None, 1.0]]]}),
            {},
            "a list with a null in column 'a', row 1",
        ),
        (
            lambda: pa.table({"a": [[[1.0, 2.0]], [[1.0, 2.0], [3.0]]]}),
            {},
            "a list of 1 numbers after lists of 2 in column 'a', row 1",
        ),
        (lambda: pd.DataFrame({"a": [A[0], A[1, :, :2]]}), {}, "no numeric column"),
    ],
)
def test_refused(source, options, match):
    with pytest.raises(ValueError, match=match):
        rows_of(source(), **options)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:.*features are dead")
def test_an_autoencoder_fits_contexts(tmp_path):
    contexts = np.random.default_rng(0).normal(size=(8, 5, 3)).astype(np.float32)
    sae = SparseAutoencoder(6, k=2, max_iter=2, random_state=0)
    expected = sae.fit(iter_rows(contexts.reshape(-1, 3))).components_
    for X in (
        hugging_face(contexts, (5, 3)),
        iter_rows(contexts),
        iter(contexts),
        DataLoader(torch.from_numpy(contexts), batch_size=2),
        store_rows(contexts, tmp_path / "x.npy"),
    ):
        np.testing.assert_array_equal(sae.fit(X).components_, expected)
    with pytest.raises(ValueError, match=r"Found array with dim 3.*skfeat\.rows\.iter"):
        sae.fit(contexts)
