"""Checkpoints with callbacks, seeds, warm starts, clones and searches."""

import pickle

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPRegressor

from skfeat import FeatureUnwrapper
from skfeat.solvers.autoencoder import _trainer
from skfeat.utils import _checkpoint
from tests.autoencoder.test_sparse_autoencoder import (
    Callback,
    RaiseAt,
    StopAt,
    make_sae,
)
from tests.checkpoints import IGNORED, assert_same_fit, kill_and_resume, make_rows

pytest.importorskip("safetensors")

pytestmark = IGNORED


@pytest.fixture(scope="module")
def X():
    return make_rows()


class TestCallbacks:
    def test_they_see_the_epochs_to_come(self, tmp_path, X):
        class Count(Callback):
            n_epochs = 0

            def epoch_end(self, epoch, sae):
                self.n_epochs += 1
                return False

        path = tmp_path / "a.safetensors"
        sae = make_sae(checkpoint=path).set_callbacks(RaiseAt(5, KeyboardInterrupt()))
        with pytest.warns(UserWarning, match="interrupted after 5 epochs"):
            sae.fit(X)
        count = Count()
        sae.set_callbacks(count).fit(X)
        assert (count.max_subtasks, count.n_epochs) == (19, 19)
        assert sae.n_iter_ == 24

    def test_one_that_stops_ends_the_fit(self, tmp_path, X):
        path = tmp_path / "a.safetensors"
        stopped = make_sae(checkpoint=path).set_callbacks(StopAt(4)).fit(X)
        assert stopped.n_iter_ == 4
        assert_same_fit(make_sae(checkpoint=path).fit(X), stopped)


class TestRandomState:
    @pytest.mark.parametrize("kind", [None, np.random.RandomState], ids=str)
    def test_the_drawn_seed_is_kept(self, tmp_path, X, kind):
        def make(**params):
            random_state = None if kind is None else kind(0)
            return make_sae(**params).set_params(random_state=random_state)

        path = tmp_path / "a.safetensors"
        found, n_kills = kill_and_resume(make, path, X, 7, sample_weight=None)
        assert n_kills > 5
        seed = _checkpoint._read(path)[1]["seed"]

        class Drawn(np.random.RandomState):
            def randint(self, *args, **kwargs):
                return seed

        assert_same_fit(found, make_sae().set_params(random_state=Drawn()).fit(X))

    def test_a_generator_moves_on_as_always(self, tmp_path, X):
        states = []
        for checkpoint in (
            None,
            tmp_path / "a.safetensors",
            tmp_path / "a.safetensors",
        ):
            rng = np.random.RandomState(3)
            make_sae(checkpoint=checkpoint).set_params(random_state=rng).fit(X)
            states.append(rng.randint(2**31))
        assert len(set(states)) == 1


class TestWarmStart:
    def test_goes_on_from_where_it_started(self, tmp_path, X):
        first = pickle.dumps(make_sae(max_iter=5, warm_start=True).fit(X))

        def make(checkpoint=None):
            return pickle.loads(first).set_params(checkpoint=checkpoint, max_iter=8)

        expected = make().fit(X)
        assert expected.n_iter_ == 13
        found, n_kills = kill_and_resume(make, tmp_path / "a.safetensors", X)
        assert n_kills > 5
        assert_same_fit(found, expected)

    def test_another_start_is_another_fit(self, tmp_path, X):
        sae = make_sae(warm_start=True, checkpoint=tmp_path / "a.safetensors").fit(X)
        with pytest.raises(ValueError, match=r": start \(warm_start\) differs\. Name"):
            sae.fit(X)
        sae.set_params(checkpoint=tmp_path / "b.safetensors").fit(X)
        assert sae.n_iter_ == 48


class TestManyFits:
    GRID = {"k": [2, 3]}  # noqa: RUF012

    def test_one_file_is_for_one_fit(self, tmp_path, X):
        sae = make_sae(max_iter=3, checkpoint=tmp_path / "a.safetensors")
        search = GridSearchCV(sae, self.GRID, cv=2, refit=False)
        with (
            pytest.warns(
                FitFailedWarning, match="holds another fit: k is 2 there and 3 here"
            ),
            pytest.warns(UserWarning, match="non-finite"),
        ):
            search.fit(X)
        assert np.isfinite(search.cv_results_["split0_test_score"]).tolist() == [1, 0]

    def test_in_a_folder_each_has_its_own(self, tmp_path, X, monkeypatch):
        search = GridSearchCV(make_sae(max_iter=3), self.GRID, cv=2).fit(X)
        kept = GridSearchCV(make_sae(max_iter=3, checkpoint=tmp_path), self.GRID, cv=2)
        kept.fit(X)
        names = sorted(path.name for path in tmp_path.iterdir())
        assert len(names) == 5
        assert all(name.startswith("SparseAutoencoder-") for name in names)
        monkeypatch.setattr(_trainer.SAETrainer, "_step", None)
        again = clone(kept).fit(X)
        assert_same_fit(again.best_estimator_, search.best_estimator_)
        assert sorted(path.name for path in tmp_path.iterdir()) == names

    def test_the_autoencoders_of_an_unwrapper(self, tmp_path, X):
        net = MLPRegressor(
            hidden_layer_sizes=(6, 6), solver="lbfgs", tol=1.0, random_state=0
        )
        net.fit(X / 9, X[:, 0])
        part = make_sae(n_components=8, k=2, max_iter=2, checkpoint=tmp_path)
        unwrapper = FeatureUnwrapper(
            net, autoencoder=part, distill=False, random_state=0
        )
        unwrapper.fit(X / 9)
        assert len(list(tmp_path.iterdir())) == 2

    def test_clone_and_pickle_keep_the_name(self, tmp_path, X):
        sae = make_sae(checkpoint=tmp_path / "a.safetensors").fit(X)
        assert clone(sae).get_params()["checkpoint"] == sae.checkpoint
        assert_same_fit(pickle.loads(pickle.dumps(sae)), sae)
