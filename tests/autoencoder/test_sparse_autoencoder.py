"""What SparseAutoencoder promises; numbers are lines of the acceptance list."""

import copy
import gc
import pickle
import re
import sys
from math import ceil

import cloudpickle
import joblib
import numpy as np
import psutil
import pytest
import torch
from scipy import sparse
from sklearn import config_context
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.datasets import make_sparse_coded_signal
from sklearn.exceptions import (
    ConvergenceWarning,
    NotFittedError,
    UnsetMetadataPassedError,
)
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils._param_validation import InvalidParameterError

import skfeat
from skfeat import SparseAutoencoder
from skfeat.autoencoder._setup import _AUTO_UPDATES
from skfeat.datasets import make_sparse_features
from skfeat.kernels._limits import LIMITS
from skfeat.metrics import explained_variance
from skfeat.solvers.autoencoder._trainer import SAETrainer

ACTIVATIONS = ["topk", "batch_topk", "relu", "jumprelu", "gated"]
WEIGHTS = ["components_", "intercept_", "encoder_coef_", "encoder_intercept_"]


def make_sae(**params):
    small = {"n_components": 12, "max_iter": 24, "batch_size": 40, "random_state": 0}
    if "topk" in params.get("activation", "topk"):
        small["k"] = 3
    return SparseAutoencoder(**small | params)


def weights(sae):
    return {name: np.array(getattr(sae, name)) for name in WEIGHTS}


def assert_same(first, second):
    for name in WEIGHTS:
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))


def topk(pre, k):
    """Keep the k largest positive entries of each row, in the plainest way."""
    codes = np.zeros_like(pre)
    for row, code in zip(pre, codes, strict=True):
        for j in np.argsort(-row, kind="stable")[:k]:
            code[j] = max(row[j], 0)
    return codes


@pytest.fixture(scope="module")
def X():
    rng = np.random.RandomState(0)
    return np.maximum(rng.randn(160, 5), 0) @ rng.randn(5, 6) + 0.1 * rng.randn(160, 6)


@pytest.fixture(scope="module")
def fitted(X):
    return make_sae().fit(X)


class Callback:
    """Does nothing at the end of an epoch; what follows does something."""

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        if context.task_name == "fit":
            self.max_subtasks = context.max_subtasks

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        if context.task_name == "epoch":
            return self.epoch_end(context.task_id + 1, fitted_estimator)
        return False

    def epoch_end(self, epoch, sae):
        return False


class StopAt(Callback):
    def __init__(self, last):
        self.last = last

    def epoch_end(self, epoch, sae):
        return epoch == self.last


class RaiseAt(Callback):
    def __init__(self, last, error):
        self.last = last
        self.error = error

    def epoch_end(self, epoch, sae):
        if epoch == self.last:
            raise self.error
        return False


class Record(Callback):
    def __init__(self):
        self.seen = []

    def epoch_end(self, epoch, sae):
        self.seen.append(weights(sae))
        return False


def score_as_dict(sae, X, y, sample_weight=None):
    return {"r2": sae.score(X, y, sample_weight=sample_weight)}


def n_epochs_scorer(sae, X, y=None):
    return sae.n_iter_


class TestParameters:
    def test_clone_keeps_parameters_and_drops_the_fit(self, fitted):  # 1
        cloned = clone(fitted)
        assert cloned.get_params() == fitted.get_params()
        assert not [name for name in vars(cloned) if name.endswith("_")]

    @pytest.mark.parametrize("name", SparseAutoencoder().get_params())
    def test_nonsense_is_refused_by_fit_not_by_init(self, name, X):  # 2
        nonsense = object()
        sae = SparseAutoencoder(**{name: nonsense})
        assert getattr(sae, name) is nonsense
        with pytest.raises(InvalidParameterError, match=f"The '{name}' parameter"):
            sae.fit(X)

    @pytest.mark.parametrize("value", [0, 5.0, True])  # 3, 4, 6
    def test_n_components_refused(self, value, X):
        message = (
            "The 'n_components' parameter of SparseAutoencoder must be an int in the "
            f"range [1, inf) or None. Got {value} instead."
        )
        with pytest.raises(InvalidParameterError, match=re.escape(message)):
            SparseAutoencoder(value).fit(X)

    @pytest.mark.parametrize(("value", "expected"), [(np.int64(5), 5), (None, 24)])
    def test_n_components_accepted(self, value, expected, X):  # 5
        sae = make_sae(n_components=value, k=min(6, expected)).fit(X)
        assert sae.components_.shape == (expected, 6)

    @pytest.mark.parametrize("alpha", [float("nan"), -1])
    def test_alpha_refused(self, alpha, X):  # 7
        with pytest.raises(InvalidParameterError, match="'alpha'"):
            make_sae(alpha=alpha).fit(X)

    def test_unknown_parameter(self):  # 8
        with pytest.raises(ValueError, match=r"Invalid parameter 'alfa' for estimator"):
            SparseAutoencoder().set_params(alfa=1)

    @pytest.mark.parametrize(
        "generator",
        [np.random.default_rng(0), torch.Generator()],
        ids=["numpy", "torch"],
    )
    def test_generators_refused(self, generator, X):  # 9
        with pytest.raises(InvalidParameterError, match="RandomState"):
            make_sae(random_state=generator).fit(X)

    def test_k_is_clipped_with_a_warning_when_explicit(self, X):  # 10
        with pytest.warns(UserWarning, match="k=20 is larger than n_components=12"):
            clipped = make_sae(k=20).fit(X)
        assert_same(clipped, make_sae(k=12).fit(X))

    def test_k_is_clipped_silently_when_default(self, X):  # 10
        sae = SparseAutoencoder(12, max_iter=24, batch_size=40, random_state=0)
        assert_same(sae.fit(X), make_sae(k=12).fit(X))

    @pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
    def test_absent_device(self, X):  # 11
        with pytest.raises(ValueError, match="'device' parameter is 'cuda'"):
            make_sae(device="cuda").fit(X)

    def test_unknown_device(self, X):  # 11
        with pytest.raises(InvalidParameterError, match=r"'cpu', 'cuda'.*Got 'gpu'"):
            make_sae(device="gpu").fit(X)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"activation": "gated", "tied": True}, "tied=True is not possible"),
            ({"l0": 4}, "l0=4 is not possible with activation='topk'"),
            ({"k": 2.5}, r"k must be an int with activation='topk'.* Got 2\.5"),
            ({"k": 3, "k_start": 2}, "k_start must be at least k=3.* Got 2 instead"),
            (
                {"activation": "relu", "k_start": 8},
                "k_start=8 is not possible with activation='relu'",
            ),
            (
                {"activation": "relu", "prefixes": [4]},
                "prefixes are not possible with activation='relu'",
            ),
            (
                {"activation": "relu", "precision": "int8"},
                "precision='int8' is not possible with activation='relu'",
            ),
            ({"prefixes": []}, "prefixes must be increasing ints from 1 to"),
            ({"prefixes": [4, 4]}, r"Got \[4, 4\] instead"),
            ({"prefixes": [0, 4]}, "prefixes must be increasing"),
            ({"prefixes": [4, 99]}, "to n_components=12"),
            ({"prefixes": [2.5]}, "prefixes must be increasing ints"),
        ],
    )
    def test_what_does_not_go_together(self, X, options, message):
        with pytest.raises(ValueError, match=message):
            make_sae(n_components=12, **options).fit(X)

    @pytest.mark.parametrize(
        ("name", "value"),
        [("activation", "swish"), ("precision", "float16"), ("dead_features", "no")],
    )
    def test_unknown_choices(self, name, value, X):
        with pytest.raises(InvalidParameterError, match=f"'{name}'.*Got '{value}'"):
            make_sae(**{name: value}).fit(X)

    def test_fit_changes_no_parameter(self, X):  # 14
        sae = make_sae(k=12, learning_rate_init="auto", device=torch.device("cpu"))
        before = sae.get_params()
        sae.fit(X).transform(X)
        assert sae.get_params() == before
        public = {name for name in vars(sae) if name[0] != "_" and name[-1] != "_"}
        assert public == set(before)

    def test_repr(self, fitted):  # 15
        assert "n_components=12" in repr(fitted)
        assert "SparseAutoencoder" in fitted._repr_html_()


class TestContract:
    @pytest.mark.parametrize("tied", [False, True])
    @pytest.mark.parametrize("activation", ["topk", "relu"])
    def test_transform_and_inverse_transform_formulas(self, X, activation, tied):
        sae = make_sae(activation=activation, tied=tied).fit(X)
        pre = (X - sae.intercept_) @ sae.encoder_coef_.T + sae.encoder_intercept_
        expected = topk(pre, 3) if activation == "topk" else np.maximum(pre, 0)
        codes = sae.transform(X)
        np.testing.assert_allclose(codes, expected, rtol=1e-9, atol=1e-12)
        np.testing.assert_allclose(
            sae.inverse_transform(codes), codes @ sae.components_ + sae.intercept_
        )

    def test_shapes(self, fitted):
        shapes = {name: getattr(fitted, name).shape for name in WEIGHTS}
        assert shapes == {
            "components_": (12, 6),
            "intercept_": (6,),
            "encoder_coef_": (12, 6),
            "encoder_intercept_": (12,),
        }

    @pytest.mark.parametrize("precision", ["float32", "float64"])
    def test_decoder_rows_have_unit_norm(self, X, precision):
        sae = make_sae(precision=precision).fit(X)
        norms = np.linalg.norm(sae.components_, axis=1)
        atol = 1e-6 if precision == "float32" else 1e-14
        np.testing.assert_allclose(norms, 1, atol=atol, rtol=0)

    def test_tied_encoder_is_the_decoder(self, X):
        tied = make_sae(tied=True).fit(X)
        np.testing.assert_array_equal(tied.encoder_coef_, tied.components_)
        untied = make_sae().fit(X)
        assert not np.array_equal(untied.encoder_coef_, untied.components_)

    def test_score_is_r2(self, X, fitted):
        rebuilt = fitted.inverse_transform(fitted.transform(X))
        expected = 1 - ((X - rebuilt) ** 2).sum() / ((X - X.mean(0)) ** 2).sum()
        assert fitted.score(X) == pytest.approx(expected, rel=1e-10)
        assert 0.3 < expected < 1

    def test_score_weights_rows(self, X, fitted):
        counts = np.arange(len(X)) % 4
        repeated = fitted.score(np.repeat(X, counts, axis=0))
        weighted = fitted.score(X, sample_weight=counts)
        assert weighted == pytest.approx(repeated, rel=1e-10)
        assert abs(weighted - fitted.score(X)) > 1e-6

    def test_score_of_more_rows_than_one_block(self, X, fitted):
        tall = np.tile(X, (15, 1))
        assert fitted.score(tall) == pytest.approx(fitted.score(X), rel=1e-10)

    @pytest.mark.parametrize(
        "method", ["transform", "inverse_transform", "score", "get_feature_names_out"]
    )
    def test_before_fit(self, X, method):  # 33
        sae = make_sae()
        message = "This SparseAutoencoder instance is not fitted yet"
        with pytest.raises(NotFittedError, match=message):
            sae.get_feature_names_out() if "names" in method else getattr(sae, method)(
                X
            )

    def test_y_is_ignored(self, X, fitted):  # 36
        assert_same(make_sae().fit(X, np.arange(len(X))), fitted)

    def test_fit_transform_is_fit_then_transform(self, X, fitted):  # 36
        codes = make_sae().fit_transform(X)
        np.testing.assert_array_equal(codes, fitted.transform(X))

    def test_rows_do_not_depend_on_each_other(self, X, fitted):  # 43
        codes = fitted.transform(X)
        one_by_one = np.vstack([fitted.transform(row[None]) for row in X])
        np.testing.assert_allclose(one_by_one, codes, rtol=1e-9, atol=1e-12)
        order = np.random.RandomState(0).permutation(len(X))
        np.testing.assert_allclose(fitted.transform(X[order]), codes[order], rtol=1e-12)

    def test_at_most_k_codes_under_ties_and_zeros(self, X, fitted):  # 44
        tied = copy.deepcopy(fitted)
        tied.encoder_coef_ = np.ones_like(fitted.encoder_coef_)
        tied.encoder_intercept_ = np.ones_like(fitted.encoder_intercept_)
        rows = np.vstack([X, np.zeros((2, 6)), tied.intercept_[None]])
        for sae in (fitted, tied):
            active = (sae.transform(rows) != 0).sum(axis=1)
            assert active.max() == 3
            assert not (sae.transform(rows) < 0).any()
        # Twelve equal pre-activations: three of them are kept, whichever.
        assert (tied.transform(tied.intercept_[None]) == 1).sum() == 3

    def test_sparse_output(self, X, fitted):  # 45
        sae = make_sae(sparse_output=True).fit(X)
        codes = sae.transform(X)
        assert isinstance(codes, sparse.csr_matrix)
        np.testing.assert_array_equal(codes.toarray(), fitted.transform(X))
        assert codes.nnz <= 3 * len(X)
        with config_context(sparse_interface="sparray"):
            assert isinstance(sae.transform(X), sparse.csr_array)
        sae.set_output(transform="pandas")
        with pytest.raises(ValueError, match="sparse_output"):
            sae.transform(X)

    @pytest.mark.parametrize("make", [sparse.csr_array, sparse.csr_matrix])
    def test_inverse_transform_takes_csr(self, X, fitted, make):  # 46
        codes = fitted.transform(X)
        dense = fitted.inverse_transform(codes)
        assert dense.shape == X.shape
        from_csr = fitted.inverse_transform(make(codes))
        assert isinstance(from_csr, np.ndarray)
        np.testing.assert_allclose(from_csr, dense, rtol=1e-12)

    def test_inverse_transform_names_both_widths(self, fitted):  # 46
        with pytest.raises(ValueError, match=r"X has 5 features.*12 components"):
            fitted.inverse_transform(np.ones((3, 5)))

    def test_recovers_a_known_dictionary(self):  # 49
        # The signal has codes of both signs, hence a feature for each sign of an atom.
        signal, atoms, _ = make_sparse_coded_signal(
            n_samples=2000,
            n_components=24,
            n_features=16,
            n_nonzero_coefs=2,
            random_state=0,
        )
        sae = SparseAutoencoder(48, k=2, max_iter=100, random_state=0).fit(signal)
        assert np.abs(atoms @ sae.components_.T).max(axis=1).mean() > 0.95


class TestTraining:
    def test_failing_fit_leaves_nothing(self, X):  # 34
        sae = make_sae().set_callbacks(RaiseAt(2, RuntimeError("midway")))
        with pytest.raises(RuntimeError, match="midway"):
            sae.fit(X)
        with pytest.raises(NotFittedError):
            sae.transform(X)

    def test_failing_refit_leaves_nothing_of_the_first(self, X):  # 34
        sae = make_sae(early_stopping=True).fit(X)
        sae.set_callbacks(RaiseAt(2, RuntimeError("midway")))
        with pytest.raises(RuntimeError, match="midway"):
            sae.fit(X)
        left = {name for name in vars(sae) if name.endswith("_")}
        assert left <= {"n_features_in_"}
        with pytest.raises(NotFittedError):
            sae.transform(X)

    def test_refit_refused_by_its_device_leaves_nothing(self, X):  # 34
        sae = make_sae().fit(X).set_params(device="gpu")
        with pytest.raises(InvalidParameterError):
            sae.fit(X[:, :3])
        with pytest.raises(NotFittedError):
            sae.transform(X)

    @pytest.mark.parametrize("max_iter", [1, 10])
    @pytest.mark.parametrize("early_stopping", [False, True])
    @pytest.mark.filterwarnings("ignore:.*still falling")
    def test_divergence_is_an_error(self, X, max_iter, early_stopping):  # 35
        sae = make_sae(
            learning_rate_init=1e300, max_iter=max_iter, early_stopping=early_stopping
        )
        with pytest.raises(ValueError, match="non-finite"):
            sae.fit(X)
        with pytest.raises(NotFittedError):
            sae.transform(X)

    @pytest.mark.parametrize("activation", ["topk", "relu"])
    def test_same_seed_same_bits(self, X, activation):  # 37
        assert_same(*(make_sae(activation=activation).fit(X) for _ in range(2)))
        other = make_sae(activation=activation, random_state=1).fit(X)
        first = make_sae(activation=activation).fit(X)
        assert not np.array_equal(other.components_, first.components_)

    def test_global_state_is_untouched(self, X):  # 37, 94
        np.random.seed(3)  # noqa: NPY002
        torch.manual_seed(3)
        before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002
        threads = torch.get_num_threads()
        make_sae(early_stopping=True, random_state=5).fit(X).partial_fit(X).transform(X)
        np.testing.assert_array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), before[1])
        assert torch.get_num_threads() == threads
        assert torch.is_grad_enabled()

    def test_random_state_instance_moves_on(self, X):  # 38
        sae = make_sae(random_state=np.random.RandomState(0))
        first = weights(sae.fit(X))
        assert not np.array_equal(sae.fit(X).components_, first["components_"])

    def test_second_fit_starts_afresh(self, X, fitted):  # 39
        twice = make_sae().fit(X).fit(X)
        assert_same(twice, fitted)
        assert twice.n_iter_ == fitted.n_iter_
        assert twice.loss_curve_ == fitted.loss_curve_

    def test_warm_start_goes_on(self, X):  # 39
        sae = make_sae(warm_start=True).fit(X)
        before, n_iter, last = weights(sae), sae.n_iter_, sae.loss_curve_[-1]
        sae.set_params(learning_rate_init=1e-12).fit(X)
        for name in WEIGHTS:
            np.testing.assert_allclose(getattr(sae, name), before[name], atol=1e-6)
        assert sae.n_iter_ == len(sae.loss_curve_) > n_iter
        assert sae.loss_curve_[n_iter] == pytest.approx(last, rel=0.05)

    @pytest.mark.filterwarnings("ignore:.*max_iter=6")
    def test_warm_start_lowers_the_loss(self, X):  # 39
        sae = make_sae(warm_start=True, max_iter=6).fit(X)
        assert sae.fit(X).loss_curve_[-1] < sae.loss_curve_[5]

    @pytest.mark.parametrize(
        "change", [{"n_components": 7}, {"tied": True}], ids=["n_components", "tied"]
    )
    def test_warm_start_refuses_another_shape(self, X, change):  # 39
        sae = make_sae(warm_start=True).fit(X).set_params(**change)
        with pytest.raises(ValueError, match=next(iter(change))):
            sae.fit(X)

    def test_warm_start_may_change_precision(self, X):
        sae = make_sae(warm_start=True).fit(X)
        score = sae.score(X)
        assert sae.set_params(precision="float64").fit(X).score(X) > score - 0.02

    def test_partial_fit(self, X):  # 40
        sae = make_sae().partial_fit(X[:80])
        first, n_steps, loss = weights(sae), sae.n_steps_, sae.loss_curve_[0]
        for _ in range(60):
            sae.partial_fit(X[:80]).partial_fit(X[80:])
        assert not np.array_equal(sae.components_, first["components_"])
        # Two batches of 40 rows each time.
        assert (n_steps, sae.n_steps_) == (2, 2 * 121)
        assert sae.n_iter_ == len(sae.loss_curve_) == 121
        assert sae.loss_curve_[-1] < 0.8 * loss
        with pytest.raises(ValueError, match="X has 3 features, but SparseAutoencoder"):
            sae.partial_fit(X[:, :3])

    def test_partial_fit_goes_on_after_fit(self, X):  # 40
        sae = make_sae().fit(X)
        score, n_steps = sae.score(X), sae.n_steps_
        sae.partial_fit(X)
        assert sae.n_steps_ == n_steps + 4
        assert sae.score(X) > score - 0.1
        with pytest.raises(ValueError, match="n_components=7 differs"):
            sae.set_params(n_components=7).partial_fit(X)

    def test_partial_fit_split_by_pickle_is_the_same(self, X):  # 40, 89
        through = make_sae().partial_fit(X)
        stopped = pickle.loads(pickle.dumps(make_sae().partial_fit(X)))
        assert_same(through.partial_fit(X), stopped.partial_fit(X))

    def test_one_epoch_warns(self, X):  # 41
        with pytest.warns(ConvergenceWarning, match="max_iter=1 epochs"):
            sae = make_sae(max_iter=1).fit(X)
        assert sae.n_iter_ == 1
        assert sae.n_steps_ == 4

    def test_one_update_learns(self, X):
        with pytest.warns(ConvergenceWarning):
            sae = make_sae(max_iter=1, batch_size=len(X)).fit(X)
        assert sae.n_steps_ == 1
        # Untrained, an encoder equals its decoder.
        assert np.abs(sae.encoder_coef_ - sae.components_).max() > 1e-4

    def test_loss_curve(self, fitted):  # 41
        assert len(fitted.loss_curve_) == fitted.n_iter_ == 24
        assert all(type(loss) is float for loss in fitted.loss_curve_)
        assert fitted.loss_curve_[-1] < 0.7 * fitted.loss_curve_[0]

    def test_tol_stops(self, X):
        sae = make_sae(tol=0.999, n_iter_no_change=20, max_iter=50).fit(X)
        assert sae.n_iter_ == 21  # the first lowers the loss from infinity

    def test_a_few_updates_end_no_fit(self, X):
        # At this rate only the first epoch lowers the loss by so much.
        sae = make_sae(
            tol=0.9, n_iter_no_change=3, max_iter=50, learning_rate_init=1e-2
        ).fit(X)
        assert sae.n_steps_ == 4 + 60

    @pytest.mark.parametrize(
        ("n_times", "batch_size"), [(1, 40), (1, 7), (4, 1)], ids=str
    )
    def test_auto_max_iter_plans_updates(self, X, n_times, batch_size):
        stop = StopAt(1)
        sae = make_sae(max_iter="auto", batch_size=batch_size).set_callbacks(stop)
        sae.fit(np.tile(X, (n_times, 1)))
        epochs_needed = ceil(_AUTO_UPDATES / sae.n_steps_)
        assert stop.max_subtasks == max(5, epochs_needed)
        assert sae.n_steps_ == round(n_times * len(X) / batch_size)

    def test_interruption(self, X):  # 42
        sae = make_sae().set_callbacks(RaiseAt(3, KeyboardInterrupt()))
        with pytest.warns(UserWarning, match="interrupted after 3 epochs"):
            sae.fit(X)
        assert sae.n_iter_ == len(sae.loss_curve_) == 3
        assert np.isfinite(sae.transform(X)).all()
        sae.set_callbacks().partial_fit(X)
        assert sae.n_iter_ == 4

    @pytest.mark.parametrize("early_stopping", [False, True])
    @pytest.mark.parametrize("activation", ["topk", "relu", "jumprelu", "gated"])
    def test_interruption_in_the_first_epoch(
        self, X, activation, early_stopping, monkeypatch
    ):
        step = SAETrainer._step

        def interrupted(trainer, *args):
            if trainer.n_steps == 1:
                raise KeyboardInterrupt
            return step(trainer, *args)

        monkeypatch.setattr(SAETrainer, "_step", interrupted)
        sae = make_sae(
            activation=activation, early_stopping=early_stopping, batch_size=20
        )
        with pytest.warns(UserWarning, match="interrupted after 0 epochs") as told:
            sae.fit(X)
        assert len(told) == 1
        assert sae.n_iter_ == len(sae.loss_curve_) == 0
        assert np.isfinite(sae.transform(X)).all()
        monkeypatch.undo()
        sae.partial_fit(X)
        assert sae.n_iter_ == 1

    @pytest.mark.filterwarnings("ignore:.*features are dead")
    def test_early_stopping_keeps_the_best_weights(self):
        X = np.random.RandomState(0).randn(60, 6)
        record = Record()
        sae = make_sae(
            n_components=40,
            k=6,
            early_stopping=True,
            validation_fraction=0.3,
            learning_rate_init=0.05,
            batch_size=10,
            max_iter=100,
            n_iter_no_change=8,
        ).set_callbacks(record)
        sae.fit(X)
        best = int(np.argmax(sae.validation_scores_))
        assert best < sae.n_iter_ - 1 < 99
        assert len(sae.validation_scores_) == sae.n_iter_
        for name in WEIGHTS:
            np.testing.assert_array_equal(getattr(sae, name), record.seen[best][name])
        # Training goes on from the best weights too, not from the last.
        chosen = weights(sae)
        sae.set_callbacks().set_params(learning_rate_init=1e-12).partial_fit(X)
        np.testing.assert_allclose(sae.components_, chosen["components_"], atol=1e-6)

    def test_early_stopping_ignores_rows_without_weight(self, X):
        good = np.arange(400) % 2 == 0
        rows = np.full((400, 6), 1e3)
        rows[good] = np.tile(X, (2, 1))[:200]
        sae = make_sae(early_stopping=True).fit(rows, sample_weight=good)
        assert 0.3 < max(sae.validation_scores_) < 1

    def test_large_offset(self, X):
        params = {"precision": "float64", "max_iter": 30}
        centred = make_sae(**params).fit(X)
        shifted = make_sae(**params).fit(X + 1e6)
        assert shifted.score(X + 1e6) == pytest.approx(centred.score(X), abs=1e-6)
        np.testing.assert_allclose(
            shifted.intercept_ - 1e6, centred.intercept_, atol=1e-6
        )
        np.testing.assert_allclose(shifted.components_, centred.components_, atol=1e-5)

    @pytest.mark.parametrize("scale", [1e-6, 1e6])
    def test_scale_of_the_data_does_not_matter(self, X, fitted, scale):
        sae = make_sae().fit(X * scale)
        assert sae.score(X * scale) == pytest.approx(fitted.score(X), abs=1e-4)
        np.testing.assert_allclose(
            sae.transform(X * scale), fitted.transform(X) * scale, atol=1e-3 * scale
        )

    def test_centre_and_scale_can_be_left_out(self, X):
        raw = make_sae(center=False, scale=False, learning_rate_init=1e-12).fit(X)
        np.testing.assert_allclose(raw.intercept_, 0, atol=1e-9)
        centred = make_sae(scale=False, learning_rate_init=1e-12).fit(X)
        np.testing.assert_allclose(centred.intercept_, X.mean(axis=0), atol=1e-9)

    @pytest.mark.parametrize(
        ("sample_weight", "message"),
        [
            (np.ones(159), r"sample_weight.shape == \(159,\), expected \(160,\)"),
            (np.ones((160, 2)), "Sample weights must be 1D array or scalar"),
            (np.zeros(160), "at least one non-zero number"),
            (-np.ones(160), "Negative values in data passed to `sample_weight`"),
            (np.full(160, np.nan), "Input sample_weight contains NaN"),
        ],
        ids=["length", "2-D", "zero", "negative", "nan"],
    )
    @pytest.mark.parametrize("method", ["fit", "partial_fit", "score"])
    def test_sample_weight_refused(self, X, method, sample_weight, message):  # 50
        sae = make_sae()
        if method == "score":
            sae.fit(X)
        with pytest.raises(ValueError, match=message):
            getattr(sae, method)(X, sample_weight=sample_weight)

    @pytest.mark.parametrize("activation", ["topk", "relu"])
    def test_rows_without_weight_do_not_matter(self, X, activation):
        # In one batch of all rows, float64, what the generator shuffles plays no role.
        params = {
            "activation": activation,
            "batch_size": 1000,
            "precision": "float64",
            "max_iter": 20,
        }
        junk = np.vstack([X, np.full((40, 6), 1e4)])
        sample_weight = np.r_[np.ones(len(X)), np.zeros(40)]
        weighted = make_sae(**params).fit(junk, sample_weight=sample_weight)
        plain = make_sae(**params).fit(X)
        for name in WEIGHTS:
            np.testing.assert_allclose(
                getattr(weighted, name), getattr(plain, name), rtol=1e-8, atol=1e-10
            )

    def test_integer_weights_are_repeated_rows_in_one_batch(self, X):
        params = {"activation": "relu", "batch_size": 10**4, "precision": "float64"}
        counts = np.arange(len(X)) % 3
        weighted = make_sae(**params, max_iter=20).fit(X, sample_weight=counts)
        repeated = make_sae(**params, max_iter=20).fit(np.repeat(X, counts, axis=0))
        for name in WEIGHTS:
            np.testing.assert_allclose(
                getattr(weighted, name), getattr(repeated, name), rtol=1e-8, atol=1e-10
            )

    def test_dead_features_are_counted_in_a_warning(self, X):  # 51
        with pytest.warns(UserWarning, match="features are dead") as caught:
            sae = make_sae(n_components=200, k=1).fit(X)
        assert sae.n_dead_ > 20
        assert f"{sae.n_dead_} of 200" in str(caught[0].message)
        # The weights hardly move in the last epoch, so they tell the same.
        silent = int((sae.transform(X) == 0).all(axis=0).sum())
        assert abs(silent - sae.n_dead_) < 20

    def test_prints_nothing_by_default(self, X, capfd):  # 98
        make_sae().fit(X)
        assert capfd.readouterr() == ("", "")

    def test_verbose_prints_a_line_an_epoch(self, X, capfd):  # 98
        sae = make_sae(verbose=2, early_stopping=True).fit(X)
        lines = capfd.readouterr().out.splitlines()
        assert len(lines) == sae.n_iter_
        assert re.fullmatch(
            r"\[SparseAutoencoder\] epoch 1: loss \S+, validation score \S+", lines[0]
        )

    def test_memory_is_flat_over_fits(self):  # 99
        rows = np.random.RandomState(0).randn(256, 64).astype(np.float32)
        # A megabyte of weights, so that keeping those of a few fits would show.
        sae = make_sae(n_components=2048, k=8, max_iter=2, n_iter_no_change=10)

        def n_tensors_and_bytes():
            gc.collect()
            # Not isinstance, which would wake torch's deprecated lazy objects.
            kinds = [type(thing) for thing in gc.get_objects()]
            tensors = sum(issubclass(kind, torch.Tensor) for kind in kinds)
            return tensors, psutil.Process().memory_info().rss

        def fit():
            with pytest.warns(UserWarning, match="features are dead|still falling"):
                sae.fit(rows)

        for _ in range(5):
            fit()
        tensors, n_bytes = n_tensors_and_bytes()
        for _ in range(50):
            fit()
        tensors_after, n_bytes_after = n_tensors_and_bytes()
        assert tensors_after == tensors
        assert n_bytes_after - n_bytes < 25e6


class TestCallbacks:
    def test_stop_ends_at_that_epoch(self, X):  # 87
        sae = make_sae().set_callbacks(StopAt(4)).fit(X)
        assert sae.n_iter_ == 4

    def test_callbacks_see_the_weights_of_each_epoch(self, X):  # 87
        record = Record()
        sae = make_sae().set_callbacks(record).fit(X)
        assert len(record.seen) == sae.n_iter_
        for name in WEIGHTS:
            np.testing.assert_array_equal(record.seen[-1][name], getattr(sae, name))
        assert not np.array_equal(
            record.seen[0]["components_"], record.seen[1]["components_"]
        )

    def test_progress_bar_and_monitor(self, X, capfd):  # 87
        pytest.importorskip("rich")
        monitor = ScoringMonitor(scoring=None)
        sae = make_sae().set_callbacks(ProgressBar(), monitor).fit(X)
        assert "SparseAutoencoder" in capfd.readouterr().out
        assert len(monitor.get_logs().data) == sae.n_iter_

    def test_monitor_scores_dataframes_with_weights(self, X):  # 87
        pd = pytest.importorskip("pandas")
        frame = pd.DataFrame(X, columns=list("abcdef"))
        monitor = ScoringMonitor(scoring=score_as_dict)
        sample_weight = np.arange(len(X)) % 3
        sae = make_sae().set_callbacks(monitor)
        # scikit-learn's monitor scores only where there is a y.
        sae.fit(frame, np.zeros(len(X)), sample_weight=sample_weight)
        scores = [entry["r2"] for entry in monitor.get_logs().data]
        assert len(scores) == sae.n_iter_
        assert scores[-1] == pytest.approx(
            sae.score(frame, sample_weight=sample_weight)
        )

    @pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.slow)])
    def test_stop_through_grid_search(self, X, n_jobs):  # 87
        sae = make_sae().set_callbacks(StopAt(3))
        search = GridSearchCV(
            sae, {"k": [2, 3]}, cv=2, n_jobs=n_jobs, scoring=n_epochs_scorer
        ).fit(X)
        assert search.cv_results_["mean_test_score"].tolist() == [3, 3]
        assert search.best_estimator_.n_iter_ == 3

    @pytest.mark.slow
    def test_progress_bar_through_grid_search(self, X, capfd):  # 87
        pytest.importorskip("rich")
        search = GridSearchCV(make_sae(), {"k": [2, 3]}, cv=2, n_jobs=2)
        search.set_callbacks(ProgressBar()).fit(X)
        assert "GridSearchCV" in capfd.readouterr().out
        assert search.best_score_ > 0.2

    @pytest.mark.parametrize(
        "copied", [clone, copy.deepcopy, lambda sae: pickle.loads(pickle.dumps(sae))]
    )
    def test_callbacks_survive_copies(self, X, copied):  # 87
        sae = copied(make_sae().set_callbacks(StopAt(4)))
        assert sae.fit(X).n_iter_ == 4


class TestComposition:
    def test_grid_search_without_scoring(self, X):  # 48
        search = GridSearchCV(make_sae(), {"k": [3, 12]}, cv=2).fit(X)
        assert search.best_params_ == {"k": 12}

    def test_pipeline_memory(self, X, tmp_path, monkeypatch):  # 82
        def build():
            return make_pipeline(
                make_sae(), FunctionTransformer(), memory=str(tmp_path)
            )

        codes = build().fit_transform(X)
        monkeypatch.setattr(SparseAutoencoder, "fit", None)  # calling it would raise
        np.testing.assert_array_equal(build().fit_transform(X), codes)

    def test_metadata_routing(self, X):  # 84
        sample_weight = np.r_[np.ones(80), np.zeros(80)]
        with config_context(enable_metadata_routing=True):
            pipeline = make_pipeline(make_sae())
            with pytest.raises(UnsetMetadataPassedError):
                pipeline.fit(X, sample_weight=sample_weight)
            asking = make_sae().set_fit_request(sample_weight=True)
            delivered = make_pipeline(asking).fit(X, sample_weight=sample_weight)[0]
        assert_same(delivered, make_sae().fit(X, sample_weight=sample_weight))

    def test_frozen(self, X):  # 85
        sae = make_sae().fit(X)
        before = weights(sae)
        pipeline = clone(make_pipeline(FrozenEstimator(sae))).fit(X + 3)
        assert pipeline[0].estimator is sae
        for name in WEIGHTS:
            np.testing.assert_array_equal(getattr(sae, name), before[name])
        np.testing.assert_array_equal(pipeline.transform(X), sae.transform(X))

    def test_cross_validation_reports_a_bad_parameter(self, X):  # 86
        message = r"All the 2 fits failed(.|\n)*'k' parameter of SparseAutoencoder"
        with pytest.raises(ValueError, match=message):
            cross_val_score(make_sae(k=0), X, cv=2)


class TestPersistence:
    @pytest.mark.parametrize(
        "copied",
        [
            lambda sae: pickle.loads(pickle.dumps(sae)),
            lambda sae: cloudpickle.loads(cloudpickle.dumps(sae)),
            copy.deepcopy,
        ],
        ids=["pickle", "cloudpickle", "deepcopy"],
    )
    def test_copies_give_the_same(self, X, copied):  # 89
        sae = make_sae().fit(X)
        other = copied(sae)
        np.testing.assert_array_equal(other.transform(X), sae.transform(X))
        assert_same(other.partial_fit(X), sae.partial_fit(X))

    def test_joblib_memory_map(self, X, fitted, tmp_path):  # 89
        joblib.dump(fitted, tmp_path / "sae.joblib")
        mapped = joblib.load(tmp_path / "sae.joblib", mmap_mode="r")
        assert isinstance(mapped.components_, np.memmap)
        np.testing.assert_array_equal(mapped.transform(X), fitted.transform(X))
        # Weights on disk that cannot be written to are no obstacle to going on.
        assert_same(mapped.partial_fit(X), copy.deepcopy(fitted).partial_fit(X))

    def test_holds_no_tensor(self, fitted):  # 90: nothing that needs a device to load
        found = []

        class Pickler(pickle.Pickler):
            def persistent_id(self, thing):
                if isinstance(thing, torch.Tensor | torch.Generator):
                    found.append(thing)

        with open("/dev/null", "wb") as sink:
            Pickler(sink).dump(fitted)
        assert not found

    @pytest.mark.gpu
    @pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
    def test_cuda_agrees_with_cpu(self, X):  # 31, 90
        on_cuda = make_sae(device="cuda", precision="float64").fit(X)
        on_cpu = make_sae(precision="float64").fit(X)
        for name in WEIGHTS:
            np.testing.assert_allclose(
                getattr(on_cuda, name), getattr(on_cpu, name), atol=1e-8
            )
        tensor = torch.tensor(X, device="cuda")
        np.testing.assert_array_equal(on_cuda.transform(tensor), on_cuda.transform(X))

    def test_skops(self, X, fitted):  # 91
        sio = pytest.importorskip("skops.io")
        data = sio.dumps(fitted)
        untrusted = sio.get_untrusted_types(data=data)
        assert all(name.startswith("skfeat.") for name in untrusted)
        loaded = sio.loads(data, trusted=untrusted)
        np.testing.assert_array_equal(loaded.transform(X), fitted.transform(X))
        assert_same(loaded.partial_fit(X), copy.deepcopy(fitted).partial_fit(X))

    def test_another_version_warns(self, X, fitted, monkeypatch):  # 92
        data = pickle.dumps(fitted)
        own = re.escape(skfeat.__version__)
        monkeypatch.setattr("skfeat._version.__version__", "99.0")
        with pytest.warns(UserWarning, match=f"by skfeat {own}.*by skfeat 99.0"):
            loaded = pickle.loads(data)
        np.testing.assert_array_equal(loaded.transform(X), fitted.transform(X))

    def test_equal_fits_hash_equally(self, X, fitted):  # 93
        assert joblib.hash(make_sae().fit(X)) == joblib.hash(make_sae().fit(X))
        other = make_sae(random_state=1).fit(X).set_params(random_state=0)
        assert joblib.hash(other) != joblib.hash(fitted)


class TestDiagnostics:
    def test_what_a_fit_measures(self, X):
        sae = make_sae().fit(X)
        codes = sae.transform(X)
        np.testing.assert_allclose(sae.feature_density_, (codes != 0).mean(axis=0))
        assert sae.l0_ == pytest.approx((codes != 0).sum(axis=1).mean())
        assert sae.explained_variance_ == pytest.approx(sae.score(X), rel=1e-6)

    @pytest.mark.filterwarnings("ignore:.*max_iter=12")
    def test_a_long_mean_without_centring_is_warned_of(self, X):
        spread = np.sqrt(np.square(X - X.mean(axis=0)).sum(axis=1).mean())
        offset = 5 * spread / np.sqrt(X.shape[1])
        far = X - X.mean(axis=0) + offset
        # Features do die of it.
        with (
            pytest.warns(UserWarning, match="mean of X is 5.0 times.*center=True"),
            pytest.warns(UserWarning, match="features are dead"),
        ):
            make_sae(center=False).fit(far)
        make_sae(center=True).fit(far)
        make_sae(center=False).fit(X - X.mean(axis=0))


@pytest.mark.filterwarnings("ignore:.*(max_iter=|features are dead)")
class TestActivations:
    @pytest.mark.parametrize("name", ["batch_topk", "relu", "jumprelu", "gated"])
    def test_codes_are_those_of_the_fitted_weights(self, X, name):
        sae = make_sae(activation=name, max_iter=10).fit(X)
        pre = (X - sae.intercept_) @ sae.encoder_coef_.T + sae.encoder_intercept_
        threshold = getattr(sae, "threshold_", np.zeros(len(sae.components_)))
        assert hasattr(sae, "threshold_") == (name != "relu")
        assert (threshold >= 0).all()
        codes = sae.transform(X)
        np.testing.assert_allclose(codes, np.where(pre > threshold, pre, 0), atol=1e-9)
        norms = np.linalg.norm(sae.components_, axis=1)
        np.testing.assert_allclose(norms, 1, atol=1e-6)

    @pytest.mark.parametrize(
        "name", ["topk", "batch_topk", "relu", "jumprelu", "gated"]
    )
    def test_codes_do_not_depend_on_the_batch(self, X, name):
        sae = make_sae(activation=name, max_iter=5).fit(X)
        whole = sae.transform(X)
        rows = np.vstack([sae.transform(row[None]) for row in X[:40]])
        np.testing.assert_allclose(rows, whole[:40], atol=1e-12)
        order = np.random.RandomState(0).permutation(len(X))
        np.testing.assert_allclose(sae.transform(X[order]), whole[order], atol=1e-12)

    @pytest.mark.parametrize("name", ["relu", "jumprelu", "gated"])
    def test_l0_is_reached(self, X, name):
        sae = make_sae(activation=name, l0=3, max_iter=300).fit(X)
        assert sae.n_iter_ == 300
        assert sae.l0_ == pytest.approx(3, rel=0.2)

    @pytest.mark.parametrize("name", ["topk", "batch_topk"])
    def test_first_features_of_a_matryoshka_do_more(self, name):
        X, _, _ = make_sparse_features(
            2000, 16, 32, n_active=4, frequency_exponent=1.0, random_state=0
        )
        shares = {}
        for prefixes in (None, [4]):
            sae = SparseAutoencoder(
                32, activation=name, k=4, prefixes=prefixes, random_state=0
            ).fit(X)
            codes = sae.transform(X)
            codes[:, 4:] = 0
            shares[prefixes is None] = explained_variance(
                X, sae.inverse_transform(codes)
            )
        assert shares[False] > 0.1 + shares[True]

    @pytest.mark.parametrize("name", ["batch_topk", "jumprelu", "gated"])
    def test_training_goes_on(self, X, name):
        sae = make_sae(activation=name, max_iter=5, warm_start=True).fit(X)
        before = sae.components_.copy()
        sae.partial_fit(X).fit(X)
        assert not np.array_equal(sae.components_, before)
        sae.set_params(activation="relu")
        with pytest.raises(ValueError, match="'relu' differs from"):
            sae.fit(X)

    @pytest.mark.parametrize("name", ["batch_topk", "jumprelu", "gated"])
    def test_same_seed_same_bits(self, X, name):
        assert_same(*(make_sae(activation=name, max_iter=6).fit(X) for _ in range(2)))

    @pytest.mark.parametrize(
        ("name", "precision"),
        [
            *((name, "bfloat16") for name in ("topk", "batch_topk", "relu")),
            *((name, "int8") for name in ("topk", "batch_topk")),
        ],
    )
    def test_rounded_is_close(self, X, name, precision, monkeypatch):
        # As if weights were too many for a cache.
        monkeypatch.setattr(LIMITS, "narrow_bytes", 0)
        monkeypatch.setattr(LIMITS, "compiled_training", 0)
        if precision == "int8":
            vectors = pytest.importorskip("skfeat.kernels.simd._integers")
            if not vectors.is_supported():
                pytest.skip("the processor has no instruction for it")
        exact, rounded = (
            make_sae(activation=name, precision=p, n_components=60, max_iter=40).fit(X)
            for p in ("float32", precision)
        )
        assert rounded.components_.dtype == exact.components_.dtype
        assert not np.array_equal(rounded.components_, exact.components_)
        assert rounded.score(X) == pytest.approx(exact.score(X), abs=0.03)

    @pytest.mark.parametrize("precision", ["bfloat16", "int8"])
    def test_what_is_narrow_is_not_rounded(self, X, precision, monkeypatch):
        pytest.importorskip("numba")
        monkeypatch.setattr(LIMITS, "compiled_training", 0)
        assert_same(
            make_sae(precision="float32").fit(X), make_sae(precision=precision).fit(X)
        )

    def test_integers_are_float32_where_nothing_multiplies_them(self, X, monkeypatch):
        vectors = pytest.importorskip("skfeat.kernels.simd._integers")
        monkeypatch.setattr(LIMITS, "narrow_bytes", 0)
        monkeypatch.setattr(LIMITS, "compiled_training", 0)
        monkeypatch.setattr(vectors, "is_supported", lambda: False)
        fits = [make_sae(precision=p).fit(X) for p in ("float32", "int8")]
        monkeypatch.setattr("skfeat.kernels.sae._choose.has_numba", lambda: False)
        plain = [make_sae(precision=p).fit(X) for p in ("float32", "int8")]
        assert_same(*fits)
        assert_same(*plain)

    @pytest.mark.parametrize(
        "name", ["topk", "batch_topk", "relu", "jumprelu", "gated"]
    )
    def test_small_fits_compile_nothing(self, X, name, monkeypatch):
        pytest.importorskip("numba")
        monkeypatch.setattr(LIMITS, "compiled_training", 0)
        fast = make_sae(activation=name, precision="float64", max_iter=5).fit(X)
        monkeypatch.undo()
        monkeypatch.setattr("skfeat.kernels.sae._choose.has_numba", pytest.fail)
        plain = make_sae(activation=name, precision="float64", max_iter=5).fit(X)
        for key in WEIGHTS:
            np.testing.assert_allclose(
                getattr(fast, key), getattr(plain, key), rtol=1e-6, atol=1e-8
            )

    @pytest.mark.parametrize("k", [3, 24])
    def test_small_fits_do_not_depend_on_threads(self, k):
        X = np.random.RandomState(0).rand(900, 48).astype(np.float32)
        threads = torch.get_num_threads()
        fits = []
        try:
            for n_threads in (1, 3):
                torch.set_num_threads(n_threads)
                fits.append(
                    make_sae(n_components=192, k=k, max_iter=3, batch_size=450).fit(X)
                )
        finally:
            torch.set_num_threads(threads)
        assert_same(*fits)

    @pytest.mark.parametrize("name", ["relu", "jumprelu", "gated"])
    def test_early_stopping_watches_the_objective(self, name):
        """The best reconstruction is that of early, dense codes."""
        X, _, _ = make_sparse_features(600, 16, 32, random_state=0)
        options = {"activation": name, "alpha": 1.0, "max_iter": 60, "tol": 0.0}
        with_all, held_out = (
            SparseAutoencoder(32, random_state=0, early_stopping=e, **options).fit(X)
            for e in (False, True)
        )
        assert held_out.l0_ < 1.5 * with_all.l0_

    def test_l0_and_early_stopping(self, X):
        with pytest.raises(ValueError, match="not possible with l0=3"):
            make_sae(activation="relu", l0=3, early_stopping=True).fit(X)
        with pytest.raises(ValueError, match="l0=13 is larger than n_components=12"):
            make_sae(activation="relu", l0=13).fit(X)


class TestWhatIsWarnedOf:
    def test_a_missed_l0(self, X):
        with pytest.warns(ConvergenceWarning) as caught:
            make_sae(activation="relu", l0=0.5, max_iter=2).fit(X)
        texts = [str(warning.message) for warning in caught]
        assert any("active a row, not l0=0.5" in text for text in texts)

    def test_warnings_point_to_the_caller(self, X):
        with pytest.warns(UserWarning, match="k=99 is larger") as caught:
            make_sae(k=99).fit(X)
        assert caught[0].filename == __file__

    def test_splits_that_leave_nothing(self, X):
        with pytest.raises(ValueError, match=r"validation_fraction=0\.99999 leaves"):
            make_sae(early_stopping=True, validation_fraction=0.99999).fit(X)

    @pytest.mark.parametrize("weight", [np.nan, np.inf])
    def test_weights_that_are_not_finite(self, X, weight):
        with pytest.raises(ValueError, match="sample_weight must be finite"):
            make_sae().fit(X, sample_weight=weight)


def test_rows_without_weight_wake_no_feature(X):
    weights = np.zeros(len(X))
    weights[:20] = 1
    far = X.copy()
    far[20:] *= 30
    sae = make_sae(max_iter=30).fit(far, sample_weight=weights)
    alone = (sae.transform(X[:20]) != 0).mean(axis=0)
    np.testing.assert_allclose(sae.feature_density_, alone)
    score = sae.score(far, sample_weight=weights)
    assert sae.explained_variance_ == pytest.approx(score)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs longdouble")
def test_a_mapped_file_of_long_doubles(X, tmp_path):
    np.save(tmp_path / "long.npy", X.astype(np.longdouble))
    mapped = np.load(tmp_path / "long.npy", mmap_mode="r")
    np.testing.assert_allclose(
        make_sae().fit(mapped).components_, make_sae().fit(X).components_
    )


@pytest.mark.parametrize("n_rows", [300, 500])
def test_a_larger_penalty_leaves_a_sparser_code(n_rows):
    """While thresholds climb the objective rises: that is no reason to end the fit."""
    rows = np.random.RandomState(0).randn(n_rows, 20)
    found = [
        SparseAutoencoder(
            32, activation="jumprelu", alpha=alpha, dead_features="ignore", max_iter=900
        )
        .set_params(random_state=0)
        .fit(rows)
        .l0_
        for alpha in (0.3, 1, 3, 10)
    ]
    assert found[1] < 0.2 * found[0]
    assert found[2] < found[1] < 1.2
    assert found[3] < 1.1 * found[2]


def test_a_penalty_that_leaves_nothing_is_named():
    sae = make_sae(activation="relu", alpha=30.0, max_iter=600)
    rows = np.random.RandomState(0).randn(100, 8)
    with pytest.warns(UserWarning, match=r"alpha=30 is too large .* Lower alpha\."):
        sae.fit(rows)


@pytest.mark.parametrize("activation", ["relu", "jumprelu", "gated"])
def test_a_penalty_beyond_range_is_refused(activation):
    sae = make_sae(activation=activation, alpha=1e160)
    with pytest.raises(ValueError, match=r"alpha must be at most 1e\+06 .* 1e\+160"):
        sae.fit(np.eye(30))
    sae.set_params(learning_rate_init=1e30, alpha=1.0)
    with pytest.raises(ValueError, match="lower 'learning_rate_init' or 'alpha'"):
        sae.fit(np.random.RandomState(0).randn(100, 8))
