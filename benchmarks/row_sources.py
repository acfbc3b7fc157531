"""Speed of reading and storing rows from files, tables, datasets and a generator.

Writes ``--gigabytes`` GiB of float32 rows of 512 values in each format to the
temporary folder, reads them by `iter_rows` and stores them by `store_rows`, and takes
beside them, in the same run, ``np.load`` and ``np.save`` of the same bytes. The files
have just been written: where memory allows they are read from the system's cache.
Writes ``records/row_sources.json``.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
from _common import print_table, write_record

from skfeat.rows import iter_rows, store_rows

N_FEATURES = 512
BLOCK = 8192
# Random numbers do not compress, nor do activations: nothing is gained by trying.
PARQUET = {"compression": "none", "use_dictionary": False}


def blocks(n_rows):
    """Yield rows made of one block, which is not what is measured."""
    block = np.random.default_rng(0).standard_normal((BLOCK, N_FEATURES), np.float32)
    for start in range(0, n_rows, BLOCK):
        yield block[: n_rows - start]


def list_table(block):
    flat = pa.array(block.reshape(-1))
    return pa.table({"x": pa.FixedSizeListArray.from_arrays(flat, N_FEATURES)})


def scalar_table(block):
    return pa.table({f"x{i}": column for i, column in enumerate(block.T.copy())})


def write_parquet(path, n_rows, table_of):
    schema = table_of(next(blocks(1))).schema
    with pq.ParquetWriter(path, schema, **PARQUET) as writer:
        for block in blocks(n_rows):
            writer.write_table(table_of(block))


def write_arrow(path, n_rows):
    with pa.ipc.new_file(path, list_table(next(blocks(1))).schema) as writer:
        for block in blocks(n_rows):
            writer.write_table(list_table(block))


def write_hugging_face(path, n_rows):
    import datasets

    datasets.disable_progress_bars()
    tables = [list_table(block) for block in blocks(n_rows)]
    datasets.Dataset(pa.concat_tables(tables)).save_to_disk(path)


def read_hugging_face(path):
    import datasets

    return datasets.load_from_disk(path)


def sources(n_rows):
    """Return of each source its name, what writes its file and what opens it."""

    def store(path):
        store_rows(blocks(n_rows), path)

    def mapped(path):
        return np.load(path, mmap_mode="r")

    return [
        (".npy", store, Path),
        (".npy, mapped", store, mapped),
        ("Arrow file, list column", lambda p: write_arrow(p, n_rows), Path),
        ("Parquet, list column", lambda p: write_parquet(p, n_rows, list_table), Path),
        (
            f"Parquet, {N_FEATURES} scalar columns",
            lambda p: write_parquet(p, n_rows, scalar_table),
            Path,
        ),
        (
            "Hugging Face dataset",
            lambda p: write_hugging_face(p, n_rows),
            read_hugging_face,
        ),
        ("generator", lambda p: None, lambda p: blocks(n_rows)),
    ]


def synced_save(path, rows):
    """Save as a file of `store_rows` is: on the disk when it is done."""
    with open(path, "wb") as file:
        np.save(file, rows)
        file.flush()
        os.fsync(file.fileno())


def measure_numpy(path, out):
    """Return the seconds that np.load and np.save of the same rows take."""
    start = time.perf_counter()
    rows = np.load(path)
    loaded = time.perf_counter()
    synced_save(out, rows)
    return loaded - start, time.perf_counter() - loaded


def measure_ours(source, again, n_rows, out):
    """Return the seconds that reading and storing a source take."""
    start = time.perf_counter()
    n_read = sum(len(rows) for rows in iter_rows(source))
    read = time.perf_counter()
    stored = store_rows(again, out)
    assert n_read == len(stored) == n_rows
    return read - start, time.perf_counter() - read


def measure(folder, n_rows):
    """Return a record for each source, the first one of numpy's own functions."""
    path, out = folder / "source", folder / "out.npy"
    found = {}
    for name, write, opened in sources(n_rows):
        write(path)
        if not found:
            found["np.load, np.save"] = measure_numpy(path, out)
            out.unlink()
        found[name] = measure_ours(opened(path), opened(path), n_rows, out)
        out.unlink()
        remove(path)
    megabytes = n_rows * N_FEATURES * 4 / 1e6
    return [
        {"source": name, "read MB/s": megabytes / read, "store MB/s": megabytes / store}
        for name, (read, store) in found.items()
    ]


def remove(path):
    if path.is_dir():
        for file in path.iterdir():
            file.unlink()
        path.rmdir()
    path.unlink(missing_ok=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gigabytes", type=float, default=1.0)
    parser.add_argument("--smoke", action="store_true", help="small, no record")
    options = parser.parse_args()
    gigabytes = 2**-6 if options.smoke else options.gigabytes
    n_rows = int(gigabytes * 2**30 / (4 * N_FEATURES))
    load = psutil.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder:
        records = measure(Path(folder), n_rows)
    print_table(records, list(records[0]))
    if not options.smoke:
        payload = {"pyarrow": pa.__version__, "load before": load}
        write_record("row_sources", {"GiB": gigabytes, **payload, "sources": records})


if __name__ == "__main__":
    main()
