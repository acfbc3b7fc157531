"""A layer pair computes what its parts do one by one."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import r2_score
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import parametrize_with_checks

from skfeat import FeatureConnector, SparseAutoencoder
from skfeat.connector._joint import with_weights
from skfeat.language import LayerPair, MLPConnector, _mlp_connector
from skfeat.testing import expected_failed_checks


def rows(n=600, d=8, seed=0):
    """Rows of a stream, and what a layer makes of them."""
    rng = np.random.default_rng(seed)
    X = np.maximum(rng.normal(size=(n, d)) - 0.5, 0).astype(np.float32)
    weights = np.random.default_rng(7).normal(size=(d, 5)).astype(np.float32)
    return X, np.maximum(X @ weights, 0)


MIN = 140


def part(m=16, **params):
    params = {"k": 4, "max_iter": 20, "dead_features": "ignore"} | params
    return SparseAutoencoder(m, **params)


def fitted(seed=0, min_events=MIN, **params):
    X, Y = rows()
    parts = {"input_autoencoder": part(), "output_autoencoder": part(12)}
    pair = LayerPair(min_events=min_events, random_state=seed, **parts | params)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return pair.fit(X, Y)


@pytest.fixture(scope="module")
def pair():
    return fitted()


def test_features_are_the_codes_that_fire_often_enough(pair):
    X, Y = rows()
    for name, codes, features in [
        ("input", pair.input_autoencoder_.transform(X), pair.input_features(X)),
        ("output", pair.output_autoencoder_.transform(Y), pair.output_features(Y)),
    ]:
        events = (codes != 0).sum(axis=0)
        live = np.flatnonzero(events >= MIN)
        assert 0 < len(live) < codes.shape[1], "the data shall test both"
        np.testing.assert_array_equal(getattr(pair, f"{name}_events_"), events)
        np.testing.assert_array_equal(getattr(pair, f"live_{name}s_"), live)
        assert sparse.issparse(features)
        np.testing.assert_array_equal(features.toarray(), codes[:, live])


def test_the_sparse_map_is_that_of_the_connector(pair):
    X, Y = rows()
    F1, F2 = pair.input_features(X).toarray(), pair.output_features(Y).toarray()
    budget = 10 * F2.shape[1]
    expected = FeatureConnector(
        link="identity", fit_intercept=False, n_nonzero_coefs=budget
    ).fit(F1, F2)
    np.testing.assert_allclose(
        pair.connector_.coef_.toarray(), expected.coef_.toarray(), atol=1e-5
    )
    assert pair.connector_.coef_.nnz <= budget
    assert not pair.connector_.intercept_.any()
    whole = pair.coef_.toarray()
    assert whole.shape == (12, 16)
    np.testing.assert_array_equal(
        whole[np.ix_(pair.live_outputs_, pair.live_inputs_)],
        pair.connector_.coef_.toarray(),
    )
    assert np.count_nonzero(whole) == pair.connector_.coef_.nnz


@pytest.mark.parametrize("fit_intercept", [False, True])
def test_the_dense_map_is_least_squares(fit_intercept):
    connector = FeatureConnector(link="identity", fit_intercept=fit_intercept)
    pair = fitted(connector=connector, ridge=0)
    X, Y = rows()
    F1, F2 = (
        f(Z).toarray().astype(np.float64)
        for f, Z in [(pair.input_features, X), (pair.output_features, Y)]
    )
    if fit_intercept:
        F1 = np.hstack([F1, np.ones((len(F1), 1))])
    expected = np.linalg.lstsq(F1, F2, rcond=None)[0].T
    found = pair.dense_connector_.coef_
    if fit_intercept:
        found = np.hstack([found, pair.dense_connector_.intercept_[:, None]])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    ridged = fitted(connector=connector).dense_connector_.coef_
    np.testing.assert_allclose(ridged, pair.dense_connector_.coef_, atol=1e-4)


@pytest.mark.parametrize("ridge", [0, 1e-6])
def test_the_dense_map_of_a_singular_gram_matrix(ridge):
    from skfeat.language._dense_map import fit_dense

    rng = np.random.default_rng(0)
    F1 = np.maximum(rng.normal(size=(200, 6)), 0)
    F1[:, 3], F1[:, 4] = 2 * F1[:, 1], 0
    F2 = F1 @ rng.normal(size=(6, 3))
    model = fit_dense(
        sparse.csr_array(F1), sparse.csr_array(F2), fit_intercept=False, ridge=ridge
    )
    np.testing.assert_allclose(model.predict(F1), F2, atol=1e-4)
    assert not model.coef_[:, 4].any()
    assert np.abs(model.coef_).max() < 10


@pytest.mark.parametrize("connector", ["sparse", "dense"])
def test_predictions_go_through_the_decoder(pair, connector):
    X, _ = rows(seed=1)
    model = pair.connector_ if connector == "sparse" else pair.dense_connector_
    features = (
        pair.input_features(X).toarray()
        @ np.asarray(model.coef_.toarray() if connector == "sparse" else model.coef_).T
    )
    np.testing.assert_allclose(pair.predict_features(X, connector), features, atol=1e-5)
    codes = np.zeros((len(X), 12), np.float32)
    codes[:, pair.live_outputs_] = features
    expected = pair.output_autoencoder_.inverse_transform(codes)
    found = pair.predict(X, connector)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.dtype == np.float32


def test_features_that_cannot_be_decoded(pair):
    n = len(pair.live_outputs_)
    with pytest.raises(ValueError, match=f"must have {n} columns.* Got {n + 1} in"):
        pair.decode_features(np.ones((3, n + 1)))
    with pytest.raises(ValueError, match="Input features contains NaN"):
        pair.decode_features(np.full((3, n), np.nan))
    codes = pair.output_features(rows()[1])
    dense = pair.decode_features(codes.toarray())
    np.testing.assert_allclose(pair.decode_features(codes), dense, atol=1e-5)


@pytest.mark.parametrize("feature", [True, 0.0, "0", None, [0], [0, 1, 2], -1])
def test_the_formula_of_no_feature(pair, feature):
    with pytest.raises(ValueError, match="feature must be one of the"):
        pair.formula(feature)


def test_reconstruction_and_score(pair):
    X, Y = rows(seed=1)
    decoder = pair.output_autoencoder_
    expected = decoder.inverse_transform(decoder.transform(Y))
    np.testing.assert_allclose(pair.reconstruct(Y), expected, atol=1e-6)
    weights = np.arange(len(X)) % 3
    for sample_weight in (None, weights):
        expected = r2_score(
            Y.astype(np.float64),
            pair.predict(X),
            sample_weight=sample_weight,
            multioutput="variance_weighted",
        )
        assert pair.score(X, Y, sample_weight) == pytest.approx(expected, abs=1e-6)
    np.testing.assert_allclose(pair.output_mean_, rows()[1].mean(axis=0), rtol=1e-5)


def test_fitted_autoencoders_are_used_as_they_are(pair):
    X, Y = rows()
    frozen = [
        FrozenEstimator(part_)
        for part_ in (pair.input_autoencoder_, pair.output_autoencoder_)
    ]
    again = clone(LayerPair(*frozen, min_events=MIN)).fit(X, Y)
    assert again.input_autoencoder_ is pair.input_autoencoder_
    np.testing.assert_array_equal(again.coef_.toarray(), pair.coef_.toarray())


def test_of_a_connector_between_all_features_the_live_part_is_used(pair):
    X, Y = rows()
    frozen = [
        FrozenEstimator(part_)
        for part_ in (pair.input_autoencoder_, pair.output_autoencoder_)
    ]
    coef = pair.coef_.toarray()
    intercept = np.arange(len(coef), dtype=float)
    whole = with_weights(FeatureConnector(), coef, intercept, coef.dtype, n_epochs=0)
    for min_events in (MIN, 2 * MIN):
        again = LayerPair(
            *frozen, connector=FrozenEstimator(whole), min_events=min_events
        ).fit(X, Y)
        live = np.ix_(again.live_outputs_, again.live_inputs_)
        assert again.connector_.coef_.shape == coef[live].shape
        np.testing.assert_array_equal(again.coef_.toarray()[live], coef[live])
        np.testing.assert_array_equal(
            again.connector_.intercept_, intercept[again.live_outputs_]
        )
    assert len(again.live_outputs_) < len(pair.live_outputs_)


def test_ctrl_c_keeps_the_best_weights_of_a_nonlinear_connector(monkeypatch, capsys):
    X, Y = rows()
    expected = MLPConnector(4, max_iter=9, random_state=0, verbose=2)
    error, n_calls = _mlp_connector._Residual.error, []

    def interrupted(network, held_out):
        n_calls.append(len(held_out))
        if len(n_calls) == 4:
            raise KeyboardInterrupt
        return error(network, held_out)

    monkeypatch.setattr(_mlp_connector._Residual, "error", interrupted)
    with pytest.warns(UserWarning, match="MLPConnector was interrupted after 2 epochs"):
        expected.fit(np.abs(X), np.abs(Y))
    assert expected.n_iter_ == 2
    assert len(expected.validation_scores_) == 3
    best = expected.score(np.abs(X), np.abs(Y))
    assert best > 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "[MLPConnector] epoch 1",
        "[MLPConnector] epoch 2",
    ]


def test_a_nonlinear_connector_that_diverges_says_so(monkeypatch):
    X, Y = rows()
    monkeypatch.setattr(_mlp_connector._Residual, "error", lambda *args: np.nan)
    with pytest.raises(ValueError, match=r"MLPConnector diverged.* rescale X and y"):
        MLPConnector(4, max_iter=2).fit(np.abs(X), np.abs(Y))


def test_fitted_connectors_are_used_as_they_are(pair):
    X, Y = rows()
    parts = [
        FrozenEstimator(part_)
        for part_ in (pair.input_autoencoder_, pair.output_autoencoder_)
    ]
    nonlinear = MLPConnector(4, max_iter=2, random_state=0)
    codes = pair.input_features(X), pair.output_features(Y)
    nonlinear.fit(*(pd.DataFrame(part_.toarray()).add_prefix("F") for part_ in codes))
    again = LayerPair(
        *parts,
        connector=FrozenEstimator(pair.connector_),
        nonlinear_connector=FrozenEstimator(nonlinear),
        n_nonzero_coefs=None,
        min_events=MIN,
        verbose=1,
    ).fit(X, Y)
    assert again.connector_ is pair.connector_
    np.testing.assert_array_equal(again.predict(X), pair.predict(X))
    assert again.predict(X, "nonlinear").shape == Y.shape
    bad(
        r"'connector' parameter was fitted to compute \d+ features from 8, but here",
        input_autoencoder=parts[0],
        output_autoencoder=parts[1],
        connector=FrozenEstimator(
            FeatureConnector().fit(np.abs(X), pair.output_features(Y).toarray())
        ),
        min_events=MIN,
    )


def test_parts_that_are_fitted_anew_are_told_once(pair):
    X, Y = rows()
    old = LayerPair(
        pair.input_autoencoder_,
        part(12),
        connector=pair.connector_,
        nonlinear_connector=MLPConnector(2, max_iter=1).fit(X, Y),
        min_events=MIN,
    )

    def told(call):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        return [str(w.message) for w in caught if "fitted already" in str(w.message)]

    (text,) = told(lambda: old.fit(X, Y))
    assert text.startswith(
        "LayerPair: input_autoencoder, connector and nonlinear_connector are fitted "
    )
    assert "FrozenEstimator" in text
    assert len(told(lambda: clone(old).fit(X, Y))) == 1
    kept = FrozenEstimator(pair.input_autoencoder_)
    new = {"connector": None, "nonlinear_connector": None, "input_autoencoder": kept}
    assert told(lambda: clone(old).set_params(**new).fit(X, Y)) == []


def test_mapped_files_give_the_same(pair, tmp_path):
    X, Y = rows()
    mapped = []
    for name, array in {"x": X, "y": Y}.items():
        np.save(tmp_path / f"{name}.npy", array)
        mapped.append(np.load(tmp_path / f"{name}.npy", mmap_mode="r"))
    other = clone(pair)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        other.fit(*mapped)
    # A mapped file is shuffled in windows: the autoencoders differ, the rest is theirs.
    frozen = [
        FrozenEstimator(part_)
        for part_ in (other.input_autoencoder_, other.output_autoencoder_)
    ]
    again = LayerPair(*frozen, min_events=MIN).fit(X, Y)
    np.testing.assert_array_equal(again.coef_.toarray(), other.coef_.toarray())
    np.testing.assert_array_equal(again.predict(X), other.predict(mapped[0]))
    assert again.score(X, Y) == other.score(*mapped)


def test_seed_pickle_and_search(pair):
    X, Y = rows()
    np.testing.assert_array_equal(fitted().predict(X), pair.predict(X))
    loaded = pickle.loads(pickle.dumps(pair))
    np.testing.assert_array_equal(loaded.predict(X), pair.predict(X))
    frozen = [
        FrozenEstimator(part_)
        for part_ in (pair.input_autoencoder_, pair.output_autoencoder_)
    ]
    search = GridSearchCV(
        LayerPair(*frozen, min_events=MIN // 2), {"n_nonzero_coefs": [0, 1, 4]}, cv=2
    ).fit(X, Y)
    assert search.best_params_["n_nonzero_coefs"] == 4


def test_a_budget_of_the_connector_is_kept_if_there_is_none_of_the_pair():
    connector = FeatureConnector(link="identity", n_nonzero_coefs=7)
    pair = fitted(connector=connector, n_nonzero_coefs=None)
    assert pair.connector_.coef_.nnz == 7
    assert fitted(n_nonzero_coefs=0.5).connector_.coef_.nnz <= 6
    assert connector.n_nonzero_coefs == 7


def test_formula_names_features_by_their_numbers(pair):
    feature = pair.live_outputs_[-1]
    text = pair.formula(feature, max_terms=2)
    row = pair.coef_.toarray()[feature]
    first = np.argmax(np.abs(row))
    sign = "-" if row[first] < 0 else ""
    assert text.startswith(f"OF_{feature} = {sign}")
    assert f"*IF_{first}" in text.split(" = ")[1].split(" ")[0]


def bad(match, X=None, Y=None, **params):
    good = rows()
    X, Y = (good[0] if X is None else X), (good[1] if Y is None else Y)
    part_ = part(max_iter=1)
    params = {"input_autoencoder": part_, "output_autoencoder": part_} | params
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match=match):
            LayerPair(**params).fit(X, Y)


def test_bad_input_gets_one_sentence(pair):
    X, Y = rows()
    bad("min_events=601 leaves no input feature: the most frequent", min_events=601)
    bad("'min_events' parameter", min_events=0)
    bad("'n_nonzero_coefs' parameter", n_nonzero_coefs=-1)
    bad("'connector' parameter", connector=3)
    bad("inconsistent numbers of samples", X=X[:-1])
    bad("y contains NaN", Y=np.where(Y > 1, np.nan, Y))
    bad(
        "must be a SparseAutoencoder, or a fitted one in a FrozenEstimator",
        input_autoencoder=FrozenEstimator(pair.connector_),
    )
    bad(
        "was fitted to rows of 8 columns, but its rows here have 5",
        output_autoencoder=FrozenEstimator(pair.input_autoencoder_),
    )
    with pytest.raises(ValueError, match=r"sparse., .dense.\. Got"):
        pair.predict(X, "nonlinear")
    with pytest.raises(ValueError, match="y has 4 columns, but this LayerPair"):
        pair.reconstruct(Y[:, :4])
    with pytest.raises(ValueError, match="feature must be one of the"):
        pair.formula(99)


COMMON = LayerPair(
    SparseAutoencoder(max_iter=50),
    SparseAutoencoder(max_iter=50),
    min_events=1,
    random_state=0,
)


@pytest.mark.filterwarnings("ignore:.*features are dead")
@parametrize_with_checks(
    [COMMON], expected_failed_checks=expected_failed_checks, xfail_strict=True
)
def test_check_estimator(estimator, check):
    check(estimator)
