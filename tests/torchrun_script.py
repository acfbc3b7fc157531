"""Run by two processes of torchrun: what they compute together is what one computes."""

import sys
import warnings

import numpy as np
import pytest
import torch
import torch.distributed as dist
from scipy import sparse
from sklearn.model_selection import GridSearchCV

from skfeat import FeatureConnector, FeatureUnwrapper, SparseAutoencoder
from skfeat.solvers.autoencoder._trainer import SAETrainer

warnings.simplefilter("ignore")  # of dead features, and of the few epochs
rng = np.random.RandomState(0)
X = np.maximum(rng.randn(161, 5), 0) @ rng.randn(5, 6) + 0.1 * rng.randn(161, 6)
F = np.maximum(rng.randn(161, 8), 0)
Y = np.maximum(F @ rng.randn(8, 3) + 0.1, 0)
WEIGHTS = np.arange(161) % 3
MANY = {"precision": "float64", "max_iter": 8, "random_state": 0, "batch_size": 23}

# Not k=1, where the first gradients of the encoder are rounding errors of zero, which
# Adam makes as large as any.
AUTOENCODERS = {
    "topk": {"n_components": 13, "k": 3},
    "tied": {"n_components": 13, "k": 3, "tied": True},
    "batch_topk": {"n_components": 13, "k": 3, "activation": "batch_topk"},
    "relu": {"n_components": 12, "activation": "relu", "tied": True},
    "jumprelu": {"n_components": 12, "activation": "jumprelu", "l0": 3},
    "gated": {"n_components": 12, "activation": "gated"},
    "prefixes": {"n_components": 13, "k": 3, "prefixes": [3, 9]},
    "dead": {"n_components": 90, "k": 2, "max_iter": 6},
    "resample": {"n_components": 60, "k": 2, "dead_features": "resample"},
    "early": {"n_components": 12, "k": 3, "early_stopping": True},
    "early penalty": {
        "n_components": 12,
        "activation": "relu",
        "early_stopping": True,
    },
    "early batch": {
        "n_components": 12,
        "k": 3,
        "activation": "batch_topk",
        "early_stopping": True,
    },
    # A rank that gets no row of a batch at all, or fewer features than others.
    "single": {"n_components": 12, "k": 3, "batch_size": 1, "max_iter": 1},
    "few": {"n_components": 3, "k": 2},
}
ARRAYS = (
    *("components_", "encoder_coef_", "encoder_intercept_", "intercept_"),
    *("threshold_", "loss_curve_", "n_dead_", "validation_scores_"),
)


def fit_autoencoders(**more):
    """Fit all, then go on in both ways; return what they hold."""
    found = {}
    for name, params in AUTOENCODERS.items():
        if name == "resample" and more:
            continue
        weights = None if name == "topk" else WEIGHTS
        sae = SparseAutoencoder(**MANY | params | more).fit(X, sample_weight=weights)
        for array in ARRAYS:
            if hasattr(sae, array):
                found[name, array] = np.asarray(getattr(sae, array), dtype=float)
        found[name, "partial_fit"] = sae.partial_fit(X).components_
        sae.set_params(warm_start=True).fit(X)
        found[name, "warm_start"] = sae.encoder_coef_
    assert found["dead", "n_dead_"] > 5
    return found


def fit_connectors():
    """Fit every solver, whole and in parts."""
    found = {}
    cases = {
        "gram": {"link": "identity", "alpha": 0.01},
        "gram budget": {"link": "identity", "n_nonzero_coefs": 7},
        "full batch": {"alpha": 0.01, "solver": "full_batch"},
        "minibatch": {"solver": "minibatch", "max_iter": 8, "batch_size": 23},
        "minibatch budget": {
            "solver": "minibatch",
            "max_iter": 8,
            "batch_size": 23,
            "n_nonzero_coefs": 9,
        },
    }
    for name, params in cases.items():
        connector = FeatureConnector(random_state=0, **params)
        connector.fit(F, Y, sample_weight=WEIGHTS)
        found[name, "coef"] = connector.coef_.toarray()
        found[name, "intercept"] = connector.intercept_
    linear = FeatureConnector(link="identity", alpha=0.01)
    for part in (slice(0, 1), slice(1, 100), slice(100, 161)):
        linear.partial_fit(F[part], Y[part])
    found["parts", "coef"] = linear.coef_.toarray()
    return found


def fit_whole():
    """Fit what runs several fits; in a group it has to do without workers."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        *(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8)),
        *(torch.nn.ReLU(), torch.nn.Linear(8, 3)),
    )
    unwrapper = FeatureUnwrapper(
        model,
        autoencoder=SparseAutoencoder(12, k=3, precision="float64", max_iter=4),
        connector=FeatureConnector(alpha=0.01),
        distill=False,
        n_jobs=2 if dist.is_initialized() else None,
        random_state=0,
    ).fit(X.astype(np.float32))
    search = GridSearchCV(SparseAutoencoder(12, **MANY), {"k": [2, 3]}, cv=2).fit(X)
    return {
        ("unwrapper", "components"): unwrapper.autoencoders_[1].components_,
        ("unwrapper", "coef"): unwrapper.connectors_[0].coef_.toarray(),
        ("search", "scores"): search.cv_results_["mean_test_score"],
    }


def fit_jointly():
    """Train all parts of a network together, in float32, which is all there is."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        *(torch.nn.Linear(6, 8), torch.nn.ReLU(), torch.nn.Linear(8, 8)),
        *(torch.nn.ReLU(), torch.nn.Linear(8, 3)),
    )
    found = {}
    cases = {
        "topk": ({"k": 3}, 0.1),
        "relu": ({"activation": "relu"}, 0.1),
        "weights chosen again": ({"k": 3}, 1.0),
    }
    for name, (params, faithfulness) in cases.items():
        unwrapper = FeatureUnwrapper(
            model,
            autoencoder=SparseAutoencoder(
                12, precision="float64", max_iter=4, **params
            ),
            n_nonzero_coefs=30,
            faithfulness=faithfulness,
            max_iter=6,
            batch_size=23,
            random_state=0,
        ).fit(X.astype(np.float32))
        found[name, "components"] = unwrapper.autoencoders_[1].components_
        found[name, "coef"] = unwrapper.connectors_[0].coef_.toarray()
        found[name, "losses"] = np.asarray(unwrapper.loss_curve_)
    convolutional = torch.nn.Sequential(
        *(torch.nn.Conv2d(1, 6, 3), torch.nn.ReLU(), torch.nn.Conv2d(6, 5, 3)),
        *(torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(20, 3)),
    )
    maps = np.random.default_rng(0).random((46, 1, 6, 6)).astype(np.float32)
    unwrapper = FeatureUnwrapper(
        convolutional,
        autoencoder=SparseAutoencoder(10, k=3, max_iter=4),
        n_nonzero_coefs=60,
        max_iter=6,
        batch_size=23,
        random_state=0,
    ).fit(maps)
    found["maps", "coef"] = unwrapper.connectors_[0].coef_.toarray()
    found["maps", "intercept"] = unwrapper.connectors_[0].intercept_
    found["maps", "losses"] = np.asarray(unwrapper.loss_curve_)
    return found


def compare(alone, together, most=1e-12):
    """Fail where a number of one process and of many differ by more than `most`."""
    assert alone
    for name, value in together.items():
        error = np.abs(value - alone[name]).max()
        assert error <= most, (name, error)


def all_fits():
    """Return everything that is to be equal."""
    return fit_autoencoders() | fit_connectors() | fit_whole()


def refused(what, fit):
    """Check that all ranks get the same sentence."""
    with pytest.raises(ValueError, match=f"fit with different {what}[.]"):
        fit()


def main(n_processes):
    """Compare what one process computes with what the group does."""
    if n_processes > 2:
        # What more processes can change are shares of different lengths.
        for name in set(AUTOENCODERS) - {
            "topk",
            "batch_topk",
            "prefixes",
            "dead",
            "few",
        }:
            del AUTOENCODERS[name]

    alone, alone_jointly = all_fits(), fit_jointly()
    dist.init_process_group("gloo")
    assert dist.get_world_size() == n_processes
    # That ranks share the work is seen in the calls; the results could not tell.
    calls, reduce = [], dist.all_reduce
    dist.all_reduce = lambda tensor, **kwargs: (
        calls.append(1),
        reduce(tensor, **kwargs),
    )
    compare(alone, all_fits())
    assert len(calls) > 1000, "nothing was reduced"
    n_calls = len(calls)
    compare(alone_jointly, fit_jointly(), 1e-5)
    assert len(calls) > n_calls + 100, "nothing was reduced"

    held, plan = [], SAETrainer.plan
    SAETrainer.plan = lambda trainer, *args: (
        held.append(len(trainer.params["decoder"]) / trainer.settings.n_components),
        plan(trainer, *args),
    )
    compare(alone, fit_autoencoders(distribute="features"))
    assert max(held) < 0.7, "a rank holds more than its share"

    rank = dist.get_rank()
    sae = SparseAutoencoder(**MANY)
    refused("X, sample_weight", lambda: sae.fit(X[rank:]))
    refused("X", lambda: sae.partial_fit(X + rank))
    refused("k", lambda: SparseAutoencoder(k=2 + rank).fit(X))
    start = SparseAutoencoder(**MANY).fit(X)
    start.components_ = start.components_ * (1 + rank)
    refused("components_", lambda: start.partial_fit(X))
    refused("alpha", lambda: FeatureConnector(alpha=0.1 * (1 + rank)).fit(F, Y))
    refused("y", lambda: FeatureConnector(link="identity").partial_fit(F, Y + rank))
    refused("X", lambda: FeatureConnector().fit(sparse.csr_array(F * (1 + rank)), Y))

    # Seeds that each rank draws for itself have to be one.
    drawn = SparseAutoencoder(12, k=3, max_iter=2).fit(X).components_
    first = [drawn]
    dist.broadcast_object_list(first, src=0)
    np.testing.assert_array_equal(drawn, first[0])
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]))
