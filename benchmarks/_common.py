"""What the benchmarks share: data, the small network, records and tables."""

from __future__ import annotations

import json
import os
import platform
import statistics
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.datasets import fetch_openml
from torch import nn

import skfeat
from skfeat.kernels._optional import has_numba
from skfeat.kernels.sae._choose import approximate_in

RECORDS = Path(__file__).parent / "records"


def precisions_for(activation):
    """Return those that the processor has instructions for: others take minutes."""
    found = ["float32"]
    cpu = torch.cpu
    if cpu._is_amx_tile_supported() or cpu._is_avx512_bf16_supported():
        found.append("bfloat16")
    selects = has_numba() and activation in ("topk", "batch_topk")
    if selects and approximate_in("int8") is not None:
        found.append("int8")
    return found


def load_mnist():
    """Return MNIST in its original order.

    From ``mnist.npz`` in the folder that the environment variable ``SKFEAT_DATA``
    names, else from scikit-learn's data home, where OpenML's copy is downloaded to.

    Returns
    -------
    X_train : ndarray of shape (60000, 784), float32 in [0, 1]
    y_train : ndarray of shape (60000,), int64
    X_test : ndarray of shape (10000, 784), float32 in [0, 1]
    y_test : ndarray of shape (10000,), int64

    Raises
    ------
    FileNotFoundError
        If it is in neither place and cannot be downloaded.
    """
    folder = os.environ.get("SKFEAT_DATA")
    if folder and (Path(folder) / "mnist.npz").is_file():
        return read_mnist(Path(folder) / "mnist.npz")
    try:
        X, y = fetch_openml("mnist_784", version=1, return_X_y=True, as_frame=False)
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            "MNIST was not found: set SKFEAT_DATA to a folder with mnist.npz, or let "
            "sklearn.datasets.fetch_openml('mnist_784') download it."
        ) from error
    X, y = as_pixels(X), y.astype(np.int64)
    return X[:60_000], y[:60_000], X[60_000:], y[60_000:]


def read_mnist(path):
    """Return the four arrays of an ``mnist.npz``, as `load_mnist` does."""
    with np.load(path) as data:
        return (
            as_pixels(data["X_train"]),
            data["y_train"].astype(np.int64),
            as_pixels(data["X_test"]),
            data["y_test"].astype(np.int64),
        )


def as_pixels(X):
    """Return bytes 0..255 as float32 in [0, 1]."""
    return X.astype(np.float32) / np.float32(255)


def train_mlp(
    X,
    y,
    *,
    hidden=(64, 64, 64),
    n_classes=10,
    epochs=20,
    learning_rate=6e-3,
    weight_decay=0.3,
    batch_size=256,
    seed,
):
    """Train the multi-layer perceptron that the benchmarks unwrap.

    AdamW with a one-cycle learning rate, on the cross-entropy. The same seed gives
    the same network; the global random state of torch stays as it was.

    Parameters
    ----------
    X : array-like of shape (n, d)
    y : array-like of shape (n,), classes 0 to ``n_classes - 1``
    hidden : sequence of int, widths of the hidden layers
    learning_rate : float, the largest of the cycle
    seed : int, for initial weights and shuffling

    Returns
    -------
    torch.nn.Sequential
        Linear and ReLU layers, in evaluation mode, giving logits.
    """
    X = torch.as_tensor(np.asarray(X, dtype=np.float32))
    y = torch.as_tensor(np.asarray(y, dtype=np.int64))
    widths = [X.shape[1], *hidden, n_classes]
    # Only the CPU's generator is drawn from: seeding it alone leaves GPUs untouched.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        layers = [m for pair in pairwise(widths) for m in (nn.Linear(*pair), nn.ReLU())]
        model = nn.Sequential(*layers[:-1])
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=learning_rate, weight_decay=weight_decay
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=learning_rate,
            epochs=epochs,
            steps_per_epoch=-(-len(X) // batch_size),
            pct_start=0.2,
        )
        for _ in range(epochs):
            for rows in torch.randperm(len(X)).split(batch_size):
                loss = nn.functional.cross_entropy(model(X[rows]), y[rows])
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    return model.eval()


def machine():
    """Return what a reader needs to judge a time: processor, versions, date."""
    return {
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "sklearn": sklearn.__version__,
        "numpy": np.__version__,
        "skfeat": skfeat.__version__,
        "date": datetime.now(UTC).date().isoformat(),
    }


def _cpu_name():
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def write_record(name, payload):
    """Write `payload` and `machine()` to ``benchmarks/records/<name>.json``."""
    RECORDS.mkdir(exist_ok=True)
    path = RECORDS / f"{name}.json"
    record = {"machine": machine(), **payload}
    # NumPy's scalars and arrays both have tolist, which gives Python's own.
    text = json.dumps(record, indent=2, default=lambda value: value.tolist())
    path.write_text(text + "\n", encoding="utf-8")
    return path


def read_record(name):
    """Return what a record holds beside the machine's description; {} if not there."""
    path = RECORDS / f"{name}.json"
    record = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    record.pop("machine", None)
    return record


def kept_of(name, part, plan, key):
    """Return the list that a part of a record has, if it was measured by this plan."""
    kept = read_record(name).get(part, {})
    run = json.loads(json.dumps(asdict(plan)))
    return kept[key] if kept.get("run") == run else []


def keep(name, part, plan, key, values):
    """Write a part to a record, which other runs may have written to meanwhile.

    Parameters
    ----------
    name, part : str
    plan : dataclass
        How it was measured; `kept_of` returns it to the same plan alone.
    key : str
    values : list
    """
    run = {"run": asdict(plan), "threads": torch.get_num_threads()}
    write_record(name, {**read_record(name), part: {key: values, **run}})


def print_table(rows, columns):
    """Print dicts as a table, numbers to the right.

    Parameters
    ----------
    rows : list of dict
        One a line; a missing key or None leaves its cell empty.
    columns : list of str
        The keys to print, in order; they are the headings too.
    """
    cells = [
        ["" if row.get(c) is None else _text(row[c]) for c in columns] for row in rows
    ]
    widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
    number = (int, float, np.number, type(None))
    right = [all(isinstance(row.get(c), number) for row in rows) for c in columns]
    rule = ["-" * width for width in widths]
    for line in (columns, rule, *cells):
        padded = (
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(line, widths, right, strict=True)
        )
        print("  ".join(padded).rstrip())


def _text(value):
    if not isinstance(value, (float, np.floating)):
        return str(value)
    return f"{value:.4g}" if abs(value) < 10_000 else f"{value:.0f}"


def mean_and_spread(values):
    """Return "mean ± sample standard deviation"; one value has no spread."""
    mean = f"{statistics.fmean(values):.4f}"
    return mean if len(values) < 2 else f"{mean} ± {statistics.stdev(values):.4f}"
