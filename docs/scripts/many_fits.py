"""Many fits on one machine or on many: docs/many_fits.md explains it.

python many_fits.py                                   # two processes here
python many_fits.py --engine dask                     # a Dask cluster, here
python many_fits.py --engine dask --address tcp://scheduler:8786
python many_fits.py --engine ray --address auto       # a Ray cluster that runs
"""

import argparse
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from joblib import parallel_config
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neural_network import MLPClassifier

from skfeat import FeatureUnwrapper, SparseAutoencoder


@contextmanager
def engine(name, address, n_workers):
    """Send joblib's jobs to an engine: the one place where engines differ."""
    if name == "dask":
        from distributed import Client, LocalCluster

        here = {"threads_per_worker": 1, "dashboard_address": None}
        where = address or LocalCluster(n_workers=n_workers, **here)
        with Client(where) as client, parallel_config("dask"):
            yield
        if address is None:
            client.cluster.close()
    elif name == "ray":
        import ray
        from ray.util.joblib import register_ray

        # A cluster knows its processors; one that starts here is told.
        here = {"num_cpus": n_workers, "include_dashboard": False}
        ray.init(address or "local", **({} if address else here))
        register_ray()
        with parallel_config("ray", n_jobs=n_workers):
            yield
        ray.shutdown()
    else:
        with parallel_config(name, n_jobs=n_workers):
            yield


def search(X, folder):
    """Fit each point of a grid on each fold: each is a job of its own."""
    autoencoder = SparseAutoencoder(128, max_iter=20, random_state=0, checkpoint=folder)
    return GridSearchCV(autoencoder, {"k": [4, 8, 16]}, cv=2, refit=False).fit(X)


def unwrap(model, X, folder):
    """Fit the autoencoder of each layer: each is a job of its own."""
    autoencoder = SparseAutoencoder(96, k=8, checkpoint=folder)
    return FeatureUnwrapper(
        model, autoencoder=autoencoder, n_nonzero_coefs=200, random_state=0
    ).fit(X)


def main():
    """Search and unwrap with the engine that the command line names."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--engine", default="loky")
    parser.add_argument("--address")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("many_fits"))
    arguments = parser.parse_args()

    X, y = load_digits(return_X_y=True)
    X_train, X_test, y_train, _ = train_test_split(X / 16, y, random_state=0)
    model = MLPClassifier((24, 24), max_iter=400, random_state=0).fit(X_train, y_train)

    # Checkpoints, in a folder that all workers see: a run that was killed goes on.
    checkpoints = arguments.folder.absolute() / "checkpoints"
    checkpoints.mkdir(parents=True, exist_ok=True)

    # Rows that processes of one machine share: each maps the file.
    np.save(arguments.folder / "rows.npy", X_train.astype(np.float32))
    rows = np.load(arguments.folder / "rows.npy", mmap_mode="r")

    with engine(arguments.engine, arguments.address, arguments.workers):
        found = search(rows, checkpoints)
        unwrapper = unwrap(model, X_train, checkpoints)
    for params, score in zip(
        found.cv_results_["params"], found.cv_results_["mean_test_score"], strict=True
    ):
        print(f"k = {params['k']}: R2 {score:.4f}")
    agreement = np.mean(unwrapper.predict(X_test) == model.predict(X_test))
    print(f"network of features: {agreement:.3f} agree with the model")


if __name__ == "__main__":
    main()
