"""joblib's backends, started on this machine and stopped again."""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import warnings
from contextlib import ExitStack, contextmanager

from joblib import parallel_config


@contextmanager
def started(name, n_workers=2):
    """Let joblib use a backend with so many workers of one core each.

    Parameters
    ----------
    name : {"serial", "threading", "loky", "dask", "ray"}
    n_workers : int, default=2
    """
    with ExitStack() as stack:
        if name == "dask":
            _start_dask(stack, n_workers)
        elif name == "ray":
            _start_ray(stack, n_workers)
        if name != "serial":
            stack.enter_context(parallel_config(name, n_jobs=n_workers))
        yield


def _start_dask(stack, n_workers):
    from distributed import Client, LocalCluster

    # None would still listen on one fixed port, which another run may hold.
    cluster = stack.enter_context(
        LocalCluster(
            n_workers=n_workers, threads_per_worker=1, dashboard_address="127.0.0.1:0"
        )
    )
    stack.enter_context(Client(cluster))


def _start_ray(stack, n_workers):
    # Before the import, which reads it: nobody is told of this run.
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray
    from ray.util.joblib import register_ray

    register_ray()
    # Workers import what this process can, from wherever they run.
    path = os.pathsep.join(filter(None, sys.path))
    # Sockets lie in the folder: their paths may have a hundred letters.
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="ray", dir="/tmp"))
    stack.callback(_stop_ray, ray)
    ray.init(
        address="local",
        num_cpus=n_workers,
        num_gpus=0,
        include_dashboard=False,
        object_store_memory=128 * 2**20,
        log_to_driver=False,
        logging_level="error",
        _node_ip_address="127.0.0.1",
        _temp_dir=folder,
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )


def _stop_ray(ray):
    # It does not wait for all processes that it ends, which shows on a busy machine.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        ray.shutdown()
        gc.collect()
