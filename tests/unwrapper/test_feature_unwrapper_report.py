"""The report of an unwrapper, its network, and what survives being stored."""

import copy
import gc
import pickle
import warnings

import joblib
import numpy as np
import pytest
import torch
from sklearn.metrics import accuracy_score, r2_score
from torch import nn

import skfeat
from skfeat import SparseAutoencoder, metrics
from skfeat.controls import pruned_control
from skfeat.network import SparseFeatureNetwork
from skfeat.unwrapper._report import Report, _score_differences
from tests.unwrapper.test_feature_unwrapper import (
    BUDGET,
    MODEL,
    X,
    mlp,
    model_outputs,
    unwrapper,
)

pytestmark = [
    pytest.mark.usefixtures("few_updates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*features are dead:UserWarning"),
]

Y = model_outputs(MODEL).argmax(axis=1)
Y[::7] = (Y[::7] + 1) % 3
COLUMNS = [
    *("layer", "n_features", "l0", "n_dead", "fvu", "r2_true", "r2_network"),
    *("n_weights", "score", "score_up_to", "agreement", "kl"),
    *("decoder", "score_model", "score_floor", "n_weights_all", "n_weights_model"),
    *("multiply_adds", "multiply_adds_model"),
]


def hidden_layers():
    rows, found = torch.tensor(X), []
    with torch.no_grad():
        for module in MODEL:
            rows = module(rows)
            if isinstance(module, nn.ReLU):
                found.append(rows.numpy())
    return found


def outputs_from(layer, hidden):
    """Run the model from the activations of one of its hidden layers."""
    with torch.no_grad():
        return MODEL[2 * layer + 2 :](torch.tensor(hidden)).numpy()


def test_columns_and_shape():
    report = unwrapper(joint=False).fit(X).report(X, Y)
    assert list(report) == COLUMNS
    assert report["layer"] == ["0", "2", "4", "network"]
    assert all(len(column) == 4 for column in report.values())
    assert report["decoder"] == ["fitted"] * 3 + ["distilled"]
    numbers = [name for name in COLUMNS if name not in ("layer", "decoder")]
    nan = {name: np.isnan(report[name]).tolist() for name in numbers}
    of_network = [True, True, True, False]
    of_connectors = [True, False, False, True]
    every = [False] * 4
    assert nan == {
        **dict.fromkeys(["n_features", "l0", "n_dead", "fvu", "score"], every),
        **dict.fromkeys(["agreement", "kl"], every),
        **dict.fromkeys(["r2_true", "r2_network"], of_connectors),
        "n_weights": [True, False, False, False],
        "score_up_to": [False, False, False, True],
        **dict.fromkeys(["score_model", "score_floor"], of_network),
        **dict.fromkeys(["n_weights_all", "n_weights_model"], of_network),
        **dict.fromkeys(["multiply_adds", "multiply_adds_model"], of_network),
    }


def test_the_row_of_the_last_layer_can_be_had_again():
    est = unwrapper(joint=False).fit(X)
    fitted = unwrapper(distill=False).fit(X)
    report, line = est.report(X, Y), "row 4: the autoencoder as fitted; distillation"
    assert line in str(report)
    assert line not in str(fitted.report(X, Y))
    hidden = hidden_layers()[-1]
    part, own = fitted.autoencoders_[-1], est.autoencoders_[-1]
    codes = part.transform(hidden)
    np.testing.assert_allclose(own.transform(hidden), codes, rtol=1e-3, atol=1e-5)
    fvus = [metrics.fvu(hidden, sae.inverse_transform(codes)) for sae in (part, own)]
    assert report["fvu"][2] == pytest.approx(fvus[0], rel=1e-5)
    assert report["fvu"][2] != pytest.approx(fvus[1], rel=1e-3)
    for name in ("fvu", "score", "agreement", "kl"):
        assert report[name][:3] == fitted.report(X, Y)[name][:3]
    without = unwrapper(connect_output=True, joint=False).fit(X).report(X, Y)
    assert without["decoder"] == ["fitted"] * 4
    assert line not in str(without)


def test_values_of_the_layers():
    est = unwrapper(joint=False).fit(X)
    report, before = est.report(X, Y), None
    for index, hidden in enumerate(hidden_layers()):
        # Distillation trains the last decoder; the report is of what was fitted.
        autoencoder = est._undistilled[index]
        codes = autoencoder.transform(hidden)
        decoded = autoencoder.inverse_transform(codes)
        row = {name: column[index] for name, column in report.items()}
        assert row["n_features"] == 8
        assert row["l0"] == pytest.approx(metrics.l0(codes))
        assert row["n_dead"] == metrics.n_dead(codes)
        assert row["fvu"] == pytest.approx(1 - autoencoder.score(hidden), rel=1e-4)
        logits = outputs_from(index, decoded)
        assert row["score"] == accuracy_score(Y, logits.argmax(axis=1))
        model = model_outputs(MODEL)
        assert row["agreement"] == metrics.agreement(model, logits)
        kl = metrics.kl_divergence(model, logits)
        assert row["kl"] == pytest.approx(kl, rel=1e-3)
        distilled = est.autoencoders_[index]
        up_to = distilled.inverse_transform(est.transform(X, layer=index))
        labels = outputs_from(index, up_to).argmax(axis=1)
        assert row["score_up_to"] == accuracy_score(Y, labels)
        if index:
            connector = est.connectors_[index - 1]
            true = metrics.fvu(codes, connector.predict(before))
            own = metrics.fvu(codes, est.transform(X, layer=index))
            assert row["r2_true"] == pytest.approx(1 - true, rel=1e-4)
            assert row["r2_network"] == pytest.approx(1 - own, rel=1e-4)
            assert row["n_weights"] == connector.coef_.nnz
        before = codes
    # Up to the first layer only its autoencoder stands in, up to the last all does.
    assert report["score_up_to"][0] == report["score"][0]
    assert report["score_up_to"][2] == report["score"][-1]
    # The connector into the second layer is fed the true features of the first.
    assert report["r2_true"][1] == pytest.approx(report["r2_network"][1])
    assert report["r2_true"][2] != pytest.approx(report["r2_network"][2])


def test_values_of_the_whole():
    est = unwrapper().fit(X)
    row = {name: column[-1] for name, column in est.report(X, Y).items()}
    logits = model_outputs(MODEL)
    features = [est.transform(X, layer=layer) for layer in range(3)]
    hidden = hidden_layers()[-1]
    decoded = est.autoencoders_[-1].inverse_transform(features[-1])
    assert row["n_features"] == 24
    assert row["l0"] == pytest.approx(sum(map(metrics.l0, features)))
    assert row["n_dead"] == sum(map(metrics.n_dead, features))
    assert row["fvu"] == pytest.approx(metrics.fvu(hidden, decoded), rel=1e-4)
    assert row["n_weights"] == sum(est.network().n_weights_)
    assert row["score"] == est.score(X, Y)
    assert row["score_model"] == accuracy_score(Y, logits.argmax(axis=1))
    assert row["agreement"] == est.score(X)
    kl = metrics.kl_divergence(logits, est.decision_function(X))
    assert row["kl"] == pytest.approx(kl, rel=1e-3)
    assert row["multiply_adds"] == est.network().compact().n_multiply_adds()
    assert row["multiply_adds_model"] == 7 * 6 + 6 * 6 + 6 * 5 + 5 * 3
    mean = outputs_from(2, hidden.mean(axis=0, keepdims=True)).argmax(axis=1)[0]
    assert row["score_floor"] == (mean == Y).mean()


def test_floor_is_the_mean_of_the_rows_that_were_fitted():
    est = unwrapper(mlp(7, 6, 1), connector=None, n_nonzero_coefs=None).fit(X)
    assert est.report(X)["score_floor"][-1] == pytest.approx(0, abs=1e-5)
    assert est.report(X[:10])["score_floor"][-1] < -1e-5


def test_without_labels_the_model_is_the_measure():
    est = unwrapper().fit(X)
    report = est.report(X)
    assert report["score_model"][-1] == 1.0
    assert report["score"][-1] == report["agreement"][-1] == est.score(X)


def test_as_a_data_frame():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(unwrapper().fit(X).report(X, Y))
    assert frame.shape == (4, 19)
    assert list(frame.columns) == COLUMNS
    assert frame.loc[3, "layer"] == "network"
    numbers = frame.drop(columns=["layer", "decoder"])
    assert all(kind in "fi" for kind in (dtype.kind for dtype in numbers.dtypes))


def test_as_a_table():
    est = unwrapper(joint=False).fit(X)
    report = est.report(X, Y)
    lines = str(report).splitlines()
    assert max(map(len, lines)) <= 100
    assert lines[0].split()[:3] == ["layer", "features", "L0"]
    assert [line.split()[0] for line in lines[1:5]] == ["0", "2", "4", "network"]
    assert "nan" not in "".join(lines)
    assert lines[5] == (
        f"score of the model {report['score_model'][-1]:.4f}, with the mean of its "
        f"last unwrapped layer {report['score_floor'][-1]:.4f}"
    )
    costs = report["n_weights_all"][-1], report["n_weights_model"][-1]
    line = "nonzero weights of all that runs {}, of the model {}"
    assert lines[6] == line.format(*costs)
    costs = report["multiply_adds"][-1], report["multiply_adds_model"][-1]
    assert lines[7] == "multiply-adds a row {}, of the model {}".format(*costs)
    regression = str(unwrapper(mlp(7, 6, 5, 1)).fit(X).report(X, X[:, 0]))
    assert "KL" in lines[0]
    assert "KL" not in regression
    layers = Report(**{name: column[:-1] for name, column in report.items()})
    assert str(layers).splitlines()[3].split()[0] == "4"
    assert "score of the model" not in str(layers)


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_rows_add_up_to_the_difference_of_the_scores(n_outputs):
    rng = np.random.default_rng(0)
    y, model, floor = rng.normal(size=(3, 50, n_outputs))
    y[:, 1:] *= 1e-3
    found = _score_differences(y, model, floor, classifies=False).mean()
    assert found == pytest.approx(r2_score(y, model) - r2_score(y, floor))
    y, model, floor = (part[:, 0] > 0 for part in (y, model, floor))
    found = _score_differences(y, model, floor, classifies=True).mean()
    assert found == pytest.approx(accuracy_score(y, model) - accuracy_score(y, floor))


def test_a_floor_within_noise_is_flagged():
    y = np.random.default_rng(0).normal(size=len(X))
    model = mlp(7, 6, 5, 1)
    est = unwrapper(model).fit(X)
    report = est.report(X)
    assert not report.floor_within_noise
    assert "noise" not in str(report)
    with torch.no_grad():
        model[-1].weight.mul_(1e-3)
    report = unwrapper(model).fit(X).report(X, y)
    noise = report.score_noise
    assert abs(report["score_model"][-1] - report["score_floor"][-1]) < noise < 0.01
    assert report.floor_within_noise
    line = f"(floor within noise: they differ by no more than {noise:.4f})"
    assert line in " ".join(str(report).split())
    for other in (pickle.loads(pickle.dumps(report)), copy.copy(report)):
        assert other.score_noise == noise
        assert str(other) == str(report)


@pytest.mark.parametrize("ends", [(), ("connect_input", "connect_output")])
def test_all_weights_that_run_are_counted(ends):
    est = unwrapper(**dict.fromkeys(ends, True)).fit(X)
    report, network = est.report(X, Y), est.network()
    between = sum(network.n_weights_)
    assert report.n_weights_model[-1] == 7 * 6 + 6 * 6 + 6 * 5 + 5 * 3
    if ends:
        assert report.n_weights_all[-1] == report.n_weights[-1] == between + 2 * BUDGET
    else:
        # The first layer, an encoder and a decoder of 8 features, the last layer.
        dense = 7 * 6 + 6 * 8 + 8 * 5 + 5 * 3
        assert report.n_weights[-1] == between
        assert report.n_weights_all[-1] == between + dense


def test_controls_stand_beside_the_network():
    est = unwrapper().fit(X)
    plain = est.report(X, Y)
    assert plain.controls is None
    controls = {
        "pruned": pruned_control(MODEL, X, n_nonzero_coefs=50, max_iter=2),
        "tanh": pruned_control(
            mlp(7, 6, 5, 3, activation=nn.Tanh), X, n_nonzero_coefs=40, max_iter=2
        ),
    }
    report = est.report(X, Y, controls=controls)
    assert str(dict(report)) == str(dict(plain))
    table = report.controls
    assert table.network == ["model", "features", "pruned", "tanh"]
    assert table.n_weights_all == [123, report.n_weights_all[-1], 50, 40]
    assert table.multiply_adds[:2] == [123, report.multiply_adds[-1]]
    assert table.score[:2] == [report.score_model[-1], report.score[-1]]
    assert table.agreement[0] == 1
    assert table.kl[0] == pytest.approx(0, abs=1e-6)
    assert table.kl[1] == pytest.approx(report.kl[-1], rel=1e-5)
    labels = controls["pruned"].predict(X)
    assert table.score[2] == accuracy_score(Y, labels)
    assert str(report) == f"{plain}\n\n{table}"
    pd = pytest.importorskip("pandas")
    assert list(pd.DataFrame(table).columns) == list(table)
    again = pickle.loads(pickle.dumps(report))
    assert str(again) == str(report)


def test_controls_are_fitted_to_as_many_weights(monkeypatch):
    monkeypatch.setattr("skfeat.controls._neurons._UPDATES", 20)
    est = unwrapper().fit(X)
    table = est.report(X, Y, controls=True, X_train=X).controls
    names = ["model", "features", "pruned", "scratch", "untrained", "shuffled"]
    assert table.network == names
    assert table.n_weights[1:] == [2 * BUDGET] * 5
    # The pruned model keeps its first and last layer; ours has a coder beside each.
    assert table.n_weights_all[2:4] == [2 * BUDGET + 7 * 6 + 5 * 3] * 2
    with pytest.raises(ValueError, match="controls=True needs X_train"):
        est.report(X, Y, controls=True)
    taken = {"features": est.network(), "other": est.network()}
    with pytest.raises(ValueError, match=r"names other than .* Got \['features'\]"):
        est.report(X, Y, controls=taken)


def test_the_table_of_a_large_model_fits_a_page():
    row = {"layer": "layers.12", "decoder": "distilled"}
    row |= {"n_features": 4096, "l0": 999.9, "n_dead": 1234}
    row |= dict.fromkeys(["fvu", "r2_true", "r2_network", "score"], 0.12345)
    row |= dict.fromkeys(["score_up_to", "agreement", "kl"], 0.98765)
    row |= {"n_weights": 1_234_567, "score_model": 0.98, "score_floor": 0.1}
    row |= dict.fromkeys(["multiply_adds", "multiply_adds_model"], 123_456_789)
    row |= dict.fromkeys(["n_weights_all", "n_weights_model"], 123_456_789)
    lines = str(Report(**{name: [row[name]] * 3 for name in COLUMNS})).splitlines()
    assert max(map(len, lines)) <= 101  # of numbers nothing is cut


def test_a_layer_without_a_connector():
    est = unwrapper(layers=["2"], connector=None, n_nonzero_coefs=None).fit(X)
    report = est.report(X, Y)
    assert report["layer"] == ["2", "network"]
    assert np.isnan(report["r2_true"]).all()
    assert report["n_weights"][-1] == 0


def test_network_round_trip(tmp_path):
    est = unwrapper().fit(X)
    network = est.network()
    network.save(tmp_path / "network.npz")
    loaded = SparseFeatureNetwork.load(tmp_path / "network.npz")
    expected = network.predict_raw(X)
    assert np.isfinite(expected).all()
    np.testing.assert_array_equal(loaded.predict_raw(X), expected)
    np.testing.assert_array_equal(expected.argmax(axis=1), est.predict(X))
    for module in (loaded.to_torch(), network.to_torch()):
        found = module(torch.tensor(X, dtype=next(module.parameters()).dtype))
        np.testing.assert_allclose(found.detach(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        network.compact().predict_raw(X), expected, rtol=1e-5, atol=1e-5
    )
    assert loaded.layer_names_ == est.layer_names_
    # The network is rebuilt from its CSR matrices alone.
    features = network.features(X)
    for layer, (coef, connector) in enumerate(
        zip(network.coefs_, est.connectors_, strict=True)
    ):
        assert coef.format == "csr"
        assert (coef != connector.coef_).nnz == 0
        pre = features[layer] @ coef.T.toarray() + network.intercepts_[layer]
        np.testing.assert_allclose(
            features[layer + 1], np.maximum(pre, 0), rtol=1e-4, atol=1e-5
        )


def stored_by_joblib(est, tmp_path):
    joblib.dump(est, tmp_path / "est.joblib")
    return joblib.load(tmp_path / "est.joblib", mmap_mode="r")


def stored_by_cloudpickle(est, tmp_path):
    cloudpickle = pytest.importorskip("cloudpickle")
    return pickle.loads(cloudpickle.dumps(est))


@pytest.mark.parametrize(
    "store",
    [
        lambda est, tmp_path: pickle.loads(pickle.dumps(est)),
        stored_by_cloudpickle,
        stored_by_joblib,
        lambda est, tmp_path: copy.deepcopy(est),
        lambda est, tmp_path: copy.copy(est),
    ],
    ids=["pickle", "cloudpickle", "joblib", "deepcopy", "copy"],
)
def test_stored(store, tmp_path):
    est = unwrapper().fit(X, np.array(["a", "b", "c"])[Y])
    stored = store(est, tmp_path)
    np.testing.assert_array_equal(stored.predict_proba(X), est.predict_proba(X))
    np.testing.assert_array_equal(stored.predict(X), est.predict(X))
    np.testing.assert_equal(dict(stored.report(X)), dict(est.report(X)))
    np.testing.assert_array_equal(stored.fit(X).predict_proba(X), est.predict_proba(X))


def test_stored_by_another_version(monkeypatch):
    est = unwrapper(layers=["2"], connector=None, n_nonzero_coefs=None).fit(X)
    text = pickle.dumps(est)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pickle.loads(text)
    version = skfeat.__version__
    monkeypatch.setattr("skfeat._version.__version__", "99.0")
    with pytest.warns(UserWarning, match=r"99\.0") as record:
        pickle.loads(text)
    messages = [str(warning.message) for warning in record]
    assert any(
        f"FeatureUnwrapper was pickled by skfeat {version} and is loaded by skfeat 99.0"
        in message
        for message in messages
    )


def test_fits_with_one_seed_hash_alike():
    first, again = unwrapper().fit(X), unwrapper().fit(X)
    other = unwrapper(random_state=1).fit(X)
    for name in ("autoencoders_", "connectors_", "loss_curve_", "layer_names_"):
        assert joblib.hash(getattr(first, name)) == joblib.hash(getattr(again, name))
    assert joblib.hash(first.connectors_) != joblib.hash(other.connectors_)


def test_random_state():
    seeds = [est.random_state for est in unwrapper().fit(X).autoencoders_]
    assert len(set(seeds)) == 3
    own = unwrapper(autoencoder=SparseAutoencoder(8, k=3, max_iter=3, random_state=5))
    assert [est.random_state for est in own.fit(X).autoencoders_] == [5, 5, 5]
    drawn = unwrapper(random_state=np.random.RandomState(0))
    first = drawn.fit(X).decision_function(X)
    assert not np.array_equal(first, drawn.fit(X).decision_function(X))
    refitted = unwrapper().fit(X)
    expected = refitted.decision_function(X)
    np.testing.assert_array_equal(refitted.fit(X).decision_function(X), expected)


@pytest.mark.slow
def test_memory_stays_flat():
    psutil = pytest.importorskip("psutil")
    rows = np.random.default_rng(0).normal(size=(4000, 7)).astype(np.float32)
    process = psutil.Process()

    def fit(n_times):
        for _ in range(n_times):
            est = unwrapper(autoencoder=SparseAutoencoder(64, k=3, max_iter=2))
            est.fit(rows).predict(rows)
        gc.collect()
        return process.memory_info().rss

    start = fit(5)
    # One fit holds 4000 rows of 3 * 64 codes: keeping them would add 60 MB.
    assert fit(20) - start < 25e6


def test_in_a_notebook():
    est = unwrapper(layers=["2"], connector=None, n_nonzero_coefs=None).fit(X)
    report = est.report(X, Y)
    report["layer"][0] = "<script>"
    html = report._repr_html_()
    assert "<script>" not in html
    assert "&lt;script&gt;" in html
    assert 'title="mean active features a row' in html
    assert html.count("<table>") == 1
    assert repr(report) == str(report)
    assert f"{report.fvu[0]:.4f}" in html
    pd = pytest.importorskip("pandas")
    pd.testing.assert_frame_equal(report.to_frame(), pd.DataFrame(dict(report)))
