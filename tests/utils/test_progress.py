"""What a fit prints under verbose=1: how far it is, in about thirty lines."""

import re

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.callback import ProgressBar

from skfeat import FeatureConnector, FeatureConnectorCV, SparseAutoencoder
from skfeat.language import LayerPair, MLPConnector
from skfeat.utils import _progress
from skfeat.utils._progress import (
    SILENT,
    EpochLines,
    Share,
    own_progress,
    progress_of,
    say,
    share_of,
    stage,
    tick,
)
from skfeat.utils._warnings import warnings_of

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning",
    "ignore:.*features are dead:UserWarning",
)


class Clock:
    """A clock that goes on by a step whenever it is read, or when told to."""

    def __init__(self, step=0.0):
        self.now, self.step = 100.0, step

    def __call__(self):
        self.now += self.step
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(_progress.time, "perf_counter", clock)
    return clock


@pytest.fixture
def printed(capsys):
    return lambda: capsys.readouterr().out.splitlines()


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = np.maximum(rng.standard_normal((200, 6)), 0)
    return X, np.maximum(X[:, :3] - X[:, 3:], 0)


def test_epochs_of_a_part(clock, printed):
    with progress_of(Share("Owner", 4), "part"):
        lines = EpochLines("Inner", 40, 0)
        for epoch in range(1, 41):
            clock.now += 2
            lines.add(epoch, 1 / epoch)
    assert printed() == [
        "[Owner] part: epoch 1: loss 1, 78 s left to epoch 40",
        "[Owner] part: epoch 10: loss 0.1, 60 s left to epoch 40",
        "[Owner] part: epoch 20: loss 0.05, 40 s left to epoch 40",
        "[Owner] part: epoch 30: loss 0.0333333, 20 s left to epoch 40",
        "[Owner] part: epoch 40: loss 0.025",
    ]


def test_short_parts_print_no_epochs(clock, printed):
    with progress_of(Share("Owner", 4), "part"):
        lines = EpochLines("Inner", 40, 0)
        for epoch in range(1, 41):
            clock.now += 0.02
            lines.add(epoch, 1.0)
    assert printed() == []


def test_what_is_verbose_itself_prints_its_own(clock, printed):
    own = own_progress("Inner", 1)
    with progress_of(Share("Owner", 1), "part"), warnings_of("part"), own:
        lines = EpochLines("Inner", 3, 1)
        for epoch in (1, 2, 3):
            lines.add(epoch, 1.0, 0.5)
    assert printed() == [
        f"[Inner] part: epoch {epoch}: loss 1, validation score 0.5"
        for epoch in (1, 2, 3)
    ]


@pytest.mark.parametrize("n_parts", [1, 3, 7, 40])
def test_lines_are_shared(n_parts):
    owner, n_lines = share_of("Owner", 1, n_parts)
    assert owner == "Owner"
    assert n_parts <= n_parts * n_lines <= max(30, n_parts)
    assert share_of("Owner", 0, n_parts).n_lines == 0


def test_steps_are_told_of_after_some_silence(clock, printed):
    with progress_of(Share("Owner", 8), "part"):
        for done in range(1, 101):
            clock.now += 0.5
            tick("output", done, 100)
    # After 5 seconds, then each time after half as long again.
    assert printed() == [
        "[Owner] part: output 10 of 100, 45 s left",
        "[Owner] part: output 25 of 100, 38 s left",
        "[Owner] part: output 48 of 100, 26 s left",
        "[Owner] part: output 82 of 100, 9 s left",
    ]


def test_stages_tell_the_time_for_all_of_them(clock, printed):
    with progress_of(Share("Owner", 8), "part"):
        for number in (1, 2, 3):
            stage("candidate", number, 3)
            for done in (1, 2, 3):
                clock.now += 4
                tick("iteration", done)
        stage("refit")
        clock.now += 40
        tick("output", 1, 2)
    assert printed() == [
        "[Owner] part: candidate 1 of 3: iteration 2",
        "[Owner] part: candidate 2 of 3: iteration 1, 24 s left",
        "[Owner] part: candidate 3 of 3: iteration 1, 12 s left",
        "[Owner] part: refit: output 1 of 2",
    ]


def test_nothing_is_said_outside(clock, printed):
    def work():
        stage("candidate", 1, 2)
        clock.now += 100
        tick("output", 1, 2)
        EpochLines("Inner", 3, 0).add(1, 1.0)

    work()
    with progress_of(SILENT, "part"):
        work()
    with own_progress("Inner", 0):
        work()
    # A part that nobody asked about is silent within one that somebody did.
    with progress_of(Share("Owner", 3)), progress_of(SILENT, "part"):
        work()
    assert printed() == []


def test_steps_of_what_is_verbose_itself(clock, printed):
    with progress_of(Share("Owner", 3), "part"), own_progress("Inner", 0):
        clock.now += 9
        tick("output", 1)
    with own_progress("Inner", 1):
        clock.now += 9
        tick("output", 1)
    say("Inner", "done")
    assert printed() == [
        "[Owner] part: output 1",
        "[Inner] output 1",
        "[Inner] done",
    ]


# ---------------------------------------------------------------------------
# Estimators, on a clock on which everything takes long


@pytest.fixture
def slow_clock(clock):
    clock.step = 0.3
    return clock


SLOW = {
    "autoencoder": lambda: SparseAutoencoder(8, k=2, max_iter=3, batch_size=10),
    "minibatch": lambda: FeatureConnector(solver="minibatch", max_iter=40),
    "gram": lambda: FeatureConnector(n_nonzero_coefs=5, link="identity"),
    "candidates": lambda: FeatureConnector(
        n_nonzero_coefs=5, link="identity", candidates=3
    ),
    "full batch": lambda: FeatureConnector(1e-3, solver="full_batch", refit=False),
    "pruned": lambda: FeatureConnector(n_nonzero_coefs=4, solver="full_batch"),
    "mlp": lambda: MLPConnector(4, max_iter=70),
}


@pytest.mark.parametrize("name", SLOW)
def test_a_long_fit_says_how_far_it_is(name, rows, slow_clock, printed):
    estimator = SLOW[name]()
    X, Y = rows
    targets = [] if name == "autoencoder" else [Y]
    estimator.fit(X, *targets)
    assert printed() == []
    estimator.set_params(verbose=1).fit(X, *targets)
    lines = printed()
    assert 1 <= len(lines) <= 40
    assert all(line.startswith(f"[{type(estimator).__name__}] ") for line in lines)
    # Of the clock nothing depends that is fitted.
    weights = "components_" if name == "autoencoder" else "coef_"
    quiet = estimator.set_params(verbose=0, random_state=0).fit(X, *targets)
    expected = getattr(quiet, weights)
    found = getattr(estimator.set_params(verbose=1).fit(X, *targets), weights)
    assert abs(found - expected).max() == 0


def make_pair(**options):
    parts = [SparseAutoencoder(8, k=2, max_iter=20) for _ in "xy"]
    return LayerPair(*parts, min_events=1, random_state=0, **options)


@pytest.mark.parametrize("n_jobs", [None, 2])
@pytest.mark.parametrize("joint", [False, True])
def test_a_pair_speaks_for_its_parts(rows, joint, n_jobs, slow_clock, printed):
    options = {"nonlinear_connector": MLPConnector(4, max_iter=9), "joint": joint}
    make_pair(**options).fit(*rows)
    assert printed() == []
    with parallel_config("threading"):
        make_pair(verbose=1, n_jobs=n_jobs, **options).fit(*rows)
    lines = printed()
    assert len(lines) <= 40
    assert all(line.startswith("[LayerPair] ") for line in lines)
    parts = ["input_autoencoder", "output_autoencoder", "nonlinear_connector"]
    for part in [*parts, *["training together"] * joint]:
        of_part = [line for line in lines if line.startswith(f"[LayerPair] {part}: ")]
        assert any(" epoch " in line and " left to " in line for line in of_part)
    assert any(
        re.fullmatch(r".* connector: \d+ weights, .* an output", x) for x in lines
    )


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_folds_say_how_far_they_are(rows, n_jobs, slow_clock, printed):
    search = FeatureConnectorCV(alphas=4, cv=3, n_jobs=n_jobs, link="identity")
    with parallel_config("threading"):
        quiet = search.fit(*rows).mse_path_
        assert printed() == []
        loud = search.set_params(verbose=1).fit(*rows).mse_path_
    np.testing.assert_array_equal(loud, quiet)
    lines = printed()
    assert len(lines) <= 40
    for number in (1, 2, 3):
        start = rf"\[FeatureConnectorCV\] fold {number} of 3: "
        assert any(re.match(start + r"candidate \d of 4: output", x) for x in lines)
        assert any(re.match(start + r"4 candidates, least error", x) for x in lines)


# ---------------------------------------------------------------------------
# The progress bars of scikit-learn


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_bars_of_folds(rows, n_jobs, printed):
    pytest.importorskip("rich")
    search = FeatureConnectorCV(alphas=2, cv=3, link="identity", n_jobs=n_jobs)
    with parallel_config("threading"):
        search.set_callbacks(ProgressBar()).fit(*rows)
    first, second = printed()
    assert re.match(r"FeatureConnectorCV - fit .* 100%", first)
    assert re.match(r"  FeatureConnectorCV - refit | FeatureConnector .* 100%", second)


@pytest.mark.parametrize("joint", [False, True])
def test_bars_of_a_pair(rows, joint, printed):
    pytest.importorskip("rich")
    pair = make_pair(nonlinear_connector=MLPConnector(4, max_iter=2), joint=joint)
    pair.set_callbacks(ProgressBar()).fit(*rows)
    lines = printed()
    assert len(lines) == 5 + joint
    assert all("100%" in line for line in lines)


def test_callbacks_see_the_folds(rows):
    class Recorder:
        tasks = ()

        def setup(self, estimator, context): ...
        def teardown(self, estimator, context): ...
        def on_fit_task_begin(self, estimator, context):
            assert isinstance(estimator, FeatureConnectorCV)
            self.tasks += (context.task_name,)

        def on_fit_task_end(self, estimator, context):
            self.tasks += (f"/{context.task_name}",)

    recorder = Recorder()
    search = FeatureConnectorCV(alphas=2, cv=3, link="identity")
    search.set_callbacks(recorder).fit(*rows)
    each = ["fold", "/fold"] * 3
    assert list(recorder.tasks) == ["fit", *each, "refit", "/refit", "/fit"]
