"""Sources of rows that are refused, and the sentences that say why."""

import re
import sys

import numpy as np
import pytest
from scipy import sparse

from skfeat.rows import iter_rows

pa = pytest.importorskip("pyarrow")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
datasets = pytest.importorskip("datasets")

from tests.rows.test_row_sources import X, hugging_face, npy, parquet, parts, scalars  # noqa: E402


def with_value(value, dtype="float64"):
    rows = np.ones((50, 2), dtype)
    rows[20, 1] = value
    return parts(7, 8, rows=rows)


def nulls():
    return pa.table({"x": [1.0, None]})


def second(table):
    return pa.table({"x": [[1.0, 2.0], *table]})


REFUSED = [
    (lambda: with_value(np.nan), {}, "source has nan in row 20, feature 1; all values"),
    (lambda: with_value(-np.inf), {}, "source has -inf in row 20, feature 1; all"),
    (
        lambda: with_value(1e300),
        {"dtype": "f4"},
        ("has 1e+300 in row 20, feature 1, but float32 holds up to ±3.403e+38 floats"),
    ),
    (
        lambda: with_value(2**24 + 1, "i8"),
        {"dtype": "f4"},
        (
            "has 16777217 in row 20, "
            "feature 1, but float32 holds up to ±16777216 integers exactly"
        ),
    ),
    (lambda: with_value(-(2**63), "i8"), {}, "float64 holds up to ±9007199254740992"),
    (
        lambda: [X, X[:, :2]],
        {},
        "source has rows of 2 features from row 100 on, and of 3",
    ),
    (
        lambda: [X, X.astype(float)],
        {},
        "is of float64 from row 100 on, which the float32",
    ),
    (list, {}, "source holds no rows; at least one is needed"),
    (lambda: [X[:0]], {}, "source holds no rows"),
    (lambda: X[:0], {}, "source holds no rows"),
    (lambda: scalars()[:0], {}, "source holds no rows"),
    (lambda: X[0], {}, "source has shape (3,); rows are two-dimensional"),
    (lambda: [X, X[0]], {}, "batch 1 of source has shape (3,); rows are"),
    (lambda: [X[:, :0]], {}, "batch 0 of source has shape (100, 0); rows are"),
    (lambda: [X + 1j], {}, "batch 0 of source is of dtype complex64"),
    (lambda: [[["a"]]], {}, "batch 0 of source is of dtype <U1"),
    (lambda: [[[1], [1, 2]]], {}, "batch 0 of source is no array of numbers"),
    (lambda: [sparse.eye_array(3)], {}, "batch 0 of source is sparse"),
    (lambda: [np.ma.masked_less(X, 0)], {}, "batch 0 of source has masked"),
    (lambda: X, {"columns": "a"}, "columns must be None where source holds arrays"),
    (lambda: [X], {"columns": "a"}, "columns must be None where source holds arrays"),
    (nulls, {}, "source has a null in column 'x', row 1"),
    (lambda: second([[None, 1.0]]), {}, "a list with a null in column 'x', row 1"),
    (
        lambda: second([[1.0]]),
        {},
        ("a list of 1 numbers after lists of 2 in column 'x', row 1"),
    ),
    (lambda: second([None]), {}, "source has a null in column 'x', row 1"),
    (lambda: pa.table({"x": pa.array([[]], pa.list_(pa.int8()))}), {}, "an empty list"),
    (lambda: pa.table({"x": ["a"]}), {}, "source has no numeric column"),
    (
        scalars,
        {"columns": ["d"]},
        "columns names 'd', but source has no column of that",
    ),
    (
        lambda: pa.table({"x": ["a"]}),
        {"columns": "x"},
        ("'x', which in source is of type string"),
    ),
    (lambda: pa.table([[1], [2]], ["x", "x"]), {}, "several columns of one name"),
    (lambda: pd.DataFrame({"x": ["a"]}), {}, "source has no numeric column"),
    (
        lambda: pd.DataFrame({"x": [1, 2]}),
        {"columns": "y"},
        "has no column of that name",
    ),
    (lambda: pd.DataFrame([[1, 2]], columns=["x", "x"]), {}, "columns of one name"),
    (lambda: pd.DataFrame({"x": [[1], [1, 2]]}), {}, "lists of different lengths"),
    (lambda: pl.DataFrame({"x": [1.0, None]}), {}, "nan in row 1, feature 0"),
    (lambda: {"x": [1, 2], "y": [1]}, {}, "columns of different lengths"),
    (lambda: X, {"batch_size": 0}, "batch_size must be an int of at least 1. Got 0"),
    (lambda: X, {"batch_size": True}, "batch_size must be an int"),
    (lambda: X, {"dtype": "int8"}, "dtype must be None, 'float16', 'float32' or"),
    (lambda: X, {"dtype": "nonsense"}, "dtype must be None"),
    (scalars, {"columns": []}, "columns must be None, a name or a sequence"),
    (scalars, {"columns": [1]}, "columns must be None, a name or a sequence"),
    (scalars, {"columns": 1}, "columns must be None, a name or a sequence"),
    (scalars, {"columns": ["a", "a"]}, "columns must name each column once"),
]


@pytest.mark.parametrize(("make", "options", "message"), REFUSED)
def test_refused(make, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        list(iter_rows(make(), **options))


@pytest.mark.parametrize("source", [None, 3, sparse.eye_array(3)])
def test_no_source(source):
    with pytest.raises(TypeError, match=r"^source must be .* Got "):
        iter_rows(source)


def test_splits_of_a_dataset():
    splits = datasets.DatasetDict(train=hugging_face(None))
    with pytest.raises(TypeError, match=r"source must be one split.*\['train'\]"):
        iter_rows(splits)


def test_files_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing' does not exist\.$"):
        iter_rows(tmp_path / "nothing")
    with pytest.raises(ValueError, match="is a folder without Parquet files"):
        iter_rows(tmp_path)
    for start in (b"", b"hello", b"\x93NUMPY", b"PAR1", b"ARROW1", b"\xff\xff\xff\xff"):
        (tmp_path / "file").write_bytes(start)
        message = "cannot be read" if len(start) > 3 and start != b"hello" else "format"
        with pytest.raises(ValueError, match=f"source='.*file'.* {message}"):
            list(iter_rows(tmp_path / "file"))
    path = npy(tmp_path)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"rows.npy' cannot be read"):
        list(iter_rows(path))


def test_files_of_a_folder_that_differ(tmp_path):
    parquet(tmp_path, scalars(), "1.parquet")
    parquet(tmp_path, scalars().select(["b", "a"]), "2.parquet")
    with pytest.raises(
        ValueError, match=r"'c', but source='.*2.parquet' has no column"
    ):
        list(iter_rows(tmp_path))
    # By name, wherever they stand.
    rows = np.concatenate([*iter_rows(tmp_path, columns=["a", "b"])])
    np.testing.assert_array_equal(rows, np.concatenate([X[:, :2]] * 2))


def test_without_pyarrow(tmp_path, monkeypatch):
    path = parquet(tmp_path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match=r"pip install 'skfeat\[arrow\]'"):
        iter_rows(path)
    np.testing.assert_array_equal(next(iter_rows(iter([X]))), X)
