"""Rows in blocks and batches, from memory and from mapped files."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skfeat.utils import _rows
from skfeat.utils._rows import batches_of_rows, mapped_file, row_blocks
from skfeat.utils._torch import make_generator


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "X.npy"
    np.save(path, np.arange(300, dtype=np.float32).reshape(100, 3))
    return np.load(path, mmap_mode="r")


def test_which_pages_may_be_dropped(mapped, tmp_path):
    assert mapped_file(mapped) is not None
    assert mapped_file(np.asarray(mapped)[5:]) is not None
    assert mapped_file(np.array(mapped)) is None
    np.save(tmp_path / "own.npy", np.zeros((4, 2)))
    private = np.load(tmp_path / "own.npy", mmap_mode="c")
    private[0] = 7
    assert mapped_file(private) is None
    for _, rows in row_blocks(private):
        assert rows[0].tolist() == [7, 7]
    # What is written to a shared mapping stays written.
    shared = np.load(tmp_path / "own.npy", mmap_mode="r+")
    shared[1] = 5
    list(row_blocks(shared))
    assert shared[1].tolist() == [5, 5]


@given(
    run_bytes=st.integers(1, 200),
    n_runs=st.integers(1, 9),
    batch_size=st.integers(1, 120),
    subset=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_row_once(mapped, run_bytes, n_runs, batch_size, subset, seed):
    rows = np.arange(7, 90, 2) if subset else None
    wanted = np.arange(100) if rows is None else rows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_rows, "_RUN_BYTES", run_bytes)
        patch.setattr(_rows, "_RUNS", n_runs)
        for X in (mapped, np.array(mapped)):
            batches = list(batches_of_rows(X, batch_size, make_generator(seed), rows))
            ids = np.concatenate([batch.ids for batch in batches])
            assert sorted(ids) == wanted.tolist()
            sizes = [len(batch.ids) for batch in batches]
            assert max(sizes) - min(sizes) <= 1
            assert len(batches) == max(1, round(len(wanted) / batch_size))
            for batch in batches:
                np.testing.assert_array_equal(batch.source[batch.local], X[batch.ids])
            # An epoch that goes on has the same batches from there on.
            first = seed % (len(batches) + 2)
            left = batches_of_rows(X, batch_size, make_generator(seed), rows, first)
            for batch, other in zip(left, batches[first:], strict=True):
                np.testing.assert_array_equal(batch.ids, other.ids)
                np.testing.assert_array_equal(batch.source[batch.local], X[other.ids])
        blocks = list(row_blocks(mapped))
        np.testing.assert_array_equal(np.concatenate([b for _, b in blocks]), mapped)


def test_rows_at(mapped):
    ids = np.arange(99, -1, -1)
    for X in (mapped, np.array(mapped)):
        np.testing.assert_array_equal(_rows.rows_at(X, ids), mapped[ids])


def test_windows_are_shuffled(mapped):
    first, second = (
        np.concatenate([b.ids for b in batches_of_rows(mapped, 10, make_generator(s))])
        for s in (0, 1)
    )
    assert not np.array_equal(first, np.arange(100))
    assert not np.array_equal(first, second)
