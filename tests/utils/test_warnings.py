"""Warnings point at the line that called skfeat, and those of many fits are one."""

import re
import threading
import warnings

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skfeat import FeatureConnector, FeatureConnectorCV, SparseAutoencoder
from skfeat.callbacks import WarningSummary
from skfeat.language import LayerPair
from skfeat.utils import _searches
from skfeat.utils._warnings import (
    gathered,
    summed_up,
    tell_once,
    told_once,
    warn,
    warnings_of,
)


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).standard_normal((200, 8))


def places(function):
    """Call a function; return where its warnings point."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        function()
    assert caught
    return {warning.filename for warning in caught}


@pytest.mark.parametrize("link", ["identity", "relu"])
@pytest.mark.parametrize("method", ["fit", "connector_path"])
def test_connectors(X, link, method):
    connector = FeatureConnector(1e-6, link=link, max_iter=1, tol=1e-12)
    # More inputs than one round takes, all of them useful.
    rng = np.random.default_rng(1)
    X = rng.standard_normal((len(X), 60))
    Y = np.maximum(rng.standard_normal((len(X), 8)), 0)
    options = {} if method == "fit" else {"alphas": [1e-6]}
    call = getattr(connector, method)
    assert places(lambda: call(np.abs(X), Y, **options)) == {__file__}


def make_unfinished():
    return SparseAutoencoder(16, k=2, max_iter=1, batch_size=20, random_state=0)


def test_autoencoder(X):
    assert places(lambda: make_unfinished().fit(X)) == {__file__}


def test_inside_scikit_learn(X):
    pipeline = make_pipeline(StandardScaler(), make_unfinished())
    assert places(lambda: pipeline.fit(X)) == {__file__}
    assert places(lambda: cross_val_score(make_unfinished(), X, cv=2)) == {__file__}


def test_a_thread_that_begins_inside_skfeat(X):
    def run():
        thread = threading.Thread(target=make_unfinished().fit, args=(X,))
        thread.start()
        thread.join()

    assert places(run) == {threading.__file__}


def test_names_the_part():
    with warnings_of("layer 2"), pytest.warns(UserWarning, match="^layer 2: odd$"):
        warn("odd")
    with pytest.warns(UserWarning, match="^odd$"):
        warn("odd")


# ---------------------------------------------------------------------------
# Many fits, one warning


def texts(function, action="always"):
    """Call a function; return what it warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        function()
    assert all(warning.filename == __file__ for warning in caught)
    return [str(warning.message) for warning in caught]


def give(values, category=UserWarning):
    for value in values:
        warn(f"{value:g} is too much.", category, severity=value)


def test_the_worst_is_told_with_the_count():
    def run():
        with told_once(5):
            give([2, 3e-7, 13.5])
            warn("other.")

    assert texts(run) == [
        "13.5 is too much. It happened in 3 of 5 fits; this is the worst.",
        "other. It happened in 1 of 5 fits.",
    ]


def test_equal_severities_have_no_worst():
    def run():
        with told_once(3):
            warn("3 is odd.")
            warn("5 is odd.")

    (text,) = texts(run)
    assert text == "3 is odd. It happened in 2 of 3 fits; this is the first."


def test_one_fit_is_not_counted():
    def run():
        with told_once(1):
            give([2, 3])

    assert texts(run) == ["3 is too much."]


def test_parts_are_named():
    def run(n_parts):
        with told_once(9, "layers"):
            for part in "abcdefg"[:n_parts]:
                with warnings_of(part):
                    give([ord(part)])

    assert texts(lambda: run(1)) == ["a: 97 is too much."]
    assert texts(lambda: run(2)) == [
        "b: 98 is too much. It happened in 2 of 9 layers (a, b); this is the worst."
    ]
    (text,) = texts(lambda: run(7))
    assert "7 of 9 layers (a, b, c, d, e, 2 more)" in text


def test_what_is_gathered_within_is_one_outside():
    def run():
        with told_once(2):
            for values in ([1, 2], [8]):
                with told_once(4, "folds"):
                    give(values)

    (text,) = texts(run)
    assert text == (
        "8 is too much. It happened in 1 of 4 folds. It happened in 2 of 2 fits; this "
        "is the worst."
    )


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_hides_no_warning(error):
    def fail():
        with told_once(3):
            give([1])
            raise error

    def run():
        with pytest.raises(error):
            fail()

    assert texts(run) == ["1 is too much."]
    with gathered() as waiting:
        pass
    with pytest.warns(UserWarning, match=r"^odd$"):
        warn("odd")  # nothing gathers any more
    assert waiting == []


def test_the_category_is_kept():
    with gathered() as waiting:
        give([1, 2], DeprecationWarning)
    (warning,) = summed_up(waiting, 2)
    with pytest.warns(DeprecationWarning, match="2 of 2 fits"):
        tell_once([warning], 1)


@pytest.fixture(scope="module")
def hard():
    # More inputs than one round takes, all of them useful.
    rng = np.random.default_rng(1)
    X = np.abs(rng.standard_normal((60, 80)))
    return X, np.maximum(rng.standard_normal((60, 4)), 0)


@pytest.mark.parametrize("link", ["identity", "relu"])
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_folds_and_candidates_are_told_once(hard, link, n_jobs):
    search = FeatureConnectorCV(
        alphas=[1e-2, 1e-4, 1e-6], cv=4, link=link, max_iter=1, n_jobs=n_jobs
    )

    def fit():
        with parallel_config("threading"):
            search.fit(*hard)

    (text,) = texts(fit)
    assert "FeatureConnector stopped at max_iter=1 " in text
    assert text.endswith(" of 13 fits; this is the worst.")


@pytest.mark.parametrize("link", ["identity", "relu"])
def test_a_path_is_told_once(hard, link):
    connector = FeatureConnector(link=link, max_iter=1)
    (text,) = texts(lambda: connector.connector_path(*hard, n_alphas=7))
    assert " of 7 solutions of the path; this is the worst." in text


def test_the_minibatch_solver_tells_once(hard):
    connector = FeatureConnector(1e-6, solver="minibatch", max_iter=1, random_state=0)
    assert len(texts(lambda: connector.fit(*hard))) == 1


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_sides_of_a_pair_are_named(X, n_jobs):
    part = make_unfinished()
    pair = LayerPair(part, part, min_events=1, n_jobs=n_jobs, random_state=0)
    with parallel_config("threading"):
        found = [text for text in texts(lambda: pair.fit(X, X)) if "max_iter=1" in text]
    (text,) = found
    assert text.startswith("input_autoencoder: SparseAutoencoder used its max_iter=1")
    assert "2 of 2 autoencoders (input_autoencoder, output_autoencoder)" in text


# ---------------------------------------------------------------------------
# Searches of scikit-learn


def make_search(estimator=None, **options):
    estimator = make_pipeline(estimator or make_unfinished())
    grid = {"sparseautoencoder__n_components": [16, 24]}
    return GridSearchCV(estimator, grid, cv=3, **options)


def falling(found):
    return [text for text in found if "max_iter=1" in text]


def test_a_search_tells_once_and_its_last_fit_again(X):
    first, last = falling(texts(lambda: make_search().fit(X)))
    assert first == (
        f"{last} Other fits of this search that do the same are not warned of; to "
        f"count them, set skfeat.callbacks.WarningSummary() on the search by "
        f"set_callbacks."
    )
    # The next search tells again.
    assert len(falling(texts(lambda: make_search(refit=False).fit(X)))) == 1
    assert len(_searches._TOLD) <= _searches._MOST_SEARCHES


def test_candidates_fail_alike_where_warnings_are_errors(X):
    # Of a search whose warnings are errors every candidate fails, not only the first.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match="All the 6 fits failed"):
            make_search().fit(X)


def test_fits_outside_of_searches_are_told_each(X):
    def run():
        for _ in range(2):
            make_pipeline(StandardScaler(), make_unfinished()).fit(X)
        cross_val_score(make_unfinished(), X, cv=2)

    found = falling(texts(run))
    assert len(found) == 4
    assert not any("search" in text for text in found)


@pytest.mark.parametrize(
    "backend",
    ["sequential", "threading", pytest.param("loky", marks=pytest.mark.slow)],
)
def test_the_summary_counts_all_fits(X, backend):
    summary = WarningSummary()
    search = make_search().set_callbacks(summary)

    def run():
        with parallel_config(backend, n_jobs=2):
            search.fit(X)

    for _ in range(2):  # it may be used again
        (text,) = falling(texts(run))
        assert text.endswith("It happened in 7 of 7 fits.")
    assert summary._sent == summary._handles == {}


def test_the_summary_names_the_worst_fit(hard):
    def fit_each():
        for alpha in (1e-3, 1e-5):
            connector = FeatureConnector(alpha, link="identity", max_iter=1)
            cross_val_score(connector, *hard, cv=2)

    each = texts(fit_each)
    gaps = [float(re.search(r"output is (\S+) of", text)[1]) for text in each]
    assert len(gaps) == 4 > gaps.count(max(gaps))
    search = GridSearchCV(
        FeatureConnector(link="identity", max_iter=1),
        {"alpha": [1e-3, 1e-5]},
        cv=2,
        refit=False,
    )
    (text,) = texts(lambda: search.set_callbacks(WarningSummary()).fit(*hard))
    assert text.endswith("It happened in 4 of 4 fits; this is the worst.")
    assert f"output is {max(gaps):.3g} of" in text


def test_the_summary_of_fits_that_say_nothing_is_silent(X):
    search = make_search(SparseAutoencoder(16, k=2, max_iter=20, random_state=0))
    search.set_callbacks(WarningSummary())
    assert falling(texts(lambda: search.fit(X))) == []


def test_the_summary_tells_before_an_error(X):
    class Failing(SparseAutoencoder):
        def score(self, X, y=None, sample_weight=None):
            raise RuntimeError("no score")

    failing = Failing(16, k=2, max_iter=1, batch_size=20, random_state=0)
    search = GridSearchCV(failing, {}, cv=2, error_score="raise")
    search.set_callbacks(WarningSummary())

    def run():
        with pytest.raises(RuntimeError, match="no score"):
            search.fit(X)

    assert len(falling(texts(run))) == 1
