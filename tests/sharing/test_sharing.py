"""What is shared comes back the same, as files that execute nothing."""

import json
import subprocess
import sys

import numpy as np
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.neural_network import MLPClassifier

from skfeat import (
    FeatureConnector,
    FeatureConnectorCV,
    FeatureUnwrapper,
    SparseAutoencoder,
    Transcoder,
)
from skfeat.datasets import make_sparse_features
from skfeat.language import LayerPair, MLPConnector
from skfeat.network import SparseFeatureNetwork
from skfeat.sharing import from_pretrained, model_card, save_pretrained

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*still falling"),
    pytest.mark.filterwarnings("ignore:.*dead"),
]


@pytest.fixture(scope="module")
def rows():
    return make_sparse_features(400, 6, 12, random_state=0)[0].astype(np.float32)


@pytest.fixture(scope="module")
def pair(rows):
    parts = [SparseAutoencoder(m, k=2, max_iter=5, random_state=0) for m in (12, 10)]
    Y = np.maximum(rows[:, :4], 0)
    return LayerPair(*parts, n_nonzero_coefs=3, min_events=5, random_state=0).fit(
        rows, Y
    )


@pytest.fixture(scope="module")
def unwrapper(rows):
    y = np.array(["no", "yes"])[(rows[:, 0] > rows[:, 1]).astype(int)]
    mlp = MLPClassifier((6, 6), solver="lbfgs", max_iter=50, tol=0.1, random_state=0)
    part = SparseAutoencoder(8, k=3, max_iter=5, random_state=0)
    return FeatureUnwrapper(
        mlp.fit(rows, y), autoencoder=part, max_iter=3, random_state=0
    ).fit(rows)


def shared(estimator, folder, **options):
    save_pretrained(estimator, folder, **options)
    return from_pretrained(folder)


def same_attributes(first, second, but=()):
    """Compare all fitted attributes."""
    found = {name for name in vars(first) if name.endswith("_")} - set(but)
    assert found == {name for name in vars(second) if name.endswith("_")} - set(but)
    assert found
    for name in found:
        one, other = getattr(first, name), getattr(second, name)
        if sparse.issparse(one):
            assert type(one) is type(other)
            one, other = one.toarray(), other.toarray()
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype, name
            np.testing.assert_array_equal(one, other, err_msg=name)
        elif hasattr(one, "get_params"):
            same_attributes(one, other)
        else:
            assert one == other, name


@pytest.mark.parametrize("activation", ["topk", "batch_topk", "relu", "gated"])
def test_autoencoder(activation, rows, tmp_path):
    options = {"k": 2} if "topk" in activation else {}
    sae = SparseAutoencoder(
        10, activation=activation, max_iter=4, random_state=3, **options
    )
    sae.set_params(early_stopping=activation != "relu").fit(rows)
    again = shared(sae, tmp_path / "new" / "folder")
    assert type(again) is SparseAutoencoder
    assert again.get_params() == sae.get_params()
    same_attributes(sae, again)
    np.testing.assert_array_equal(again.transform(rows), sae.transform(rows))
    with pytest.raises(ValueError, match="holds no state of its training"):
        again.partial_fit(rows)


@pytest.mark.parametrize("skip", [False, True])
@pytest.mark.parametrize("activation", ["topk", "batch_topk", "relu"])
@pytest.mark.parametrize("one_target", [False, True])
def test_transcoder(activation, skip, one_target, rows, tmp_path):
    options = {"k": 2} if "topk" in activation else {}
    transcoder = Transcoder(
        10, activation=activation, skip=skip, max_iter=4, random_state=3, **options
    )
    transcoder.fit(rows, np.abs(rows[:, 0] if one_target else rows[:, :3]))
    again = shared(transcoder, tmp_path)
    assert type(again) is Transcoder
    assert again.get_params() == transcoder.get_params()
    same_attributes(transcoder, again)
    np.testing.assert_array_equal(again.predict(rows), transcoder.predict(rows))
    with pytest.raises(ValueError, match="This Transcoder was loaded from a folder"):
        again.partial_fit(rows, transcoder.predict(rows))
    card = (tmp_path / "README.md").read_text()
    assert "features of 6 inputs that predict" in card
    assert ("beside a linear map" in card) == skip
    assert "Y = transcoder.predict(X)" in card


def test_a_transcoder_has_as_many_targets_as_it_says(rows, tmp_path):
    shared(Transcoder(8, k=2, max_iter=3).fit(rows, rows[:, :3]), tmp_path)
    path = tmp_path / "config.json"
    text = path.read_text()
    assert '"n_targets_": 3' in text
    path.write_text(text.replace('"n_targets_": 3', '"n_targets_": 4'))
    with pytest.raises(ValueError, match=r"its n_targets_ must be 3, the width"):
        from_pretrained(tmp_path)


def test_autoencoder_of_named_columns(rows, tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(rows, columns=list("abcdef"))
    sae = SparseAutoencoder(8, k=2, max_iter=3, random_state=0).fit(frame)
    again = shared(sae, tmp_path)
    assert again.feature_names_in_.tolist() == list("abcdef")
    with pytest.raises(ValueError, match="feature names"):
        again.transform(frame[list("bacdef")])


def test_nothing_of_the_machine_is_written(rows, tmp_path):
    pytest.importorskip("safetensors")
    own = str(tmp_path / "checkpoints")
    (tmp_path / "checkpoints").mkdir()
    sae = SparseAutoencoder(
        8,
        k=2,
        max_iter=3,
        device="cpu",
        verbose=0,
        checkpoint=own,
        random_state=np.random.RandomState(0),
    ).fit(rows)
    again = shared(sae, tmp_path / "shared")
    assert again.checkpoint is None
    assert again.device is None
    assert again.random_state is None
    for path in (tmp_path / "shared").iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()


def test_a_second_write_that_fails_leaves_the_first(rows, tmp_path, monkeypatch):
    first, second = (
        SparseAutoencoder(12, k=k, max_iter=2, random_state=0).fit(rows) for k in (2, 3)
    )
    save_pretrained(first, tmp_path)

    def full(*args, **kwargs):
        raise OSError("the disk is full")

    monkeypatch.setattr("skfeat.sharing._state.json.dumps", full)
    with pytest.raises(OSError, match="full"):
        save_pretrained(second, tmp_path)
    monkeypatch.undo()
    same_attributes(from_pretrained(tmp_path), shared(first, tmp_path / "other"))


def test_a_folder_holds_the_files_of_one_estimator(rows, unwrapper, tmp_path):
    sae = SparseAutoencoder(12, k=2, max_iter=2, random_state=0).fit(rows)
    shared(sae, tmp_path)
    shared(unwrapper, tmp_path)
    found = sorted(path.name for path in tmp_path.iterdir())
    assert found == ["README.md", "config.json", "network.npz"]


@pytest.mark.parametrize("link", ["relu", "identity"])
def test_connector(link, rows, tmp_path):
    X, y = np.maximum(rows, 0), np.maximum(rows[:, :3], 0)
    connector = FeatureConnector(link=link, n_nonzero_coefs=4, random_state=0)
    connector.fit(X, y)
    again = shared(connector, tmp_path)
    assert again.get_params() == connector.get_params()
    same_attributes(connector, again)
    np.testing.assert_array_equal(again.predict(X), connector.predict(X))
    assert again.formula(0) == connector.formula(0)


def test_connector_of_one_output_without_weights(rows, tmp_path):
    connector = FeatureConnector(n_nonzero_coefs=0).fit(rows, rows[:, 0])
    again = shared(connector, tmp_path)
    assert again.coef_.nnz == 0
    assert again.predict(rows).shape == (400,)
    np.testing.assert_array_equal(again.predict(rows), connector.predict(rows))


def test_connector_forgets_where_it_started(rows, tmp_path):
    X, y = np.maximum(rows, 0), np.maximum(rows[:, :3], 0)
    start = (np.zeros((3, 6)), np.zeros(3))
    again = shared(FeatureConnector(init=start, random_state=0).fit(X, y), tmp_path)
    assert again.init == "random"


def test_connector_by_cross_validation(rows, tmp_path):
    X, y = np.maximum(rows, 0), np.maximum(rows[:, :2], 0)
    connector = FeatureConnectorCV(alphas=3, cv=2).fit(X, y)
    again = shared(connector, tmp_path)
    assert type(again) is FeatureConnectorCV
    same_attributes(connector, again)


def test_pair(pair, rows, tmp_path):
    again = shared(pair, tmp_path)
    assert type(again) is LayerPair
    same_attributes(pair, again)
    for connector in ("sparse", "dense"):
        np.testing.assert_array_equal(
            again.predict(rows, connector), pair.predict(rows, connector)
        )
    feature = pair.live_outputs_[0]
    assert again.formula(feature) == pair.formula(feature)
    assert again.formula(feature).startswith("OF_")
    report = pair.report(rows, np.maximum(rows[:, :4], 0))
    assert again.report(rows, np.maximum(rows[:, :4], 0)).totals == report.totals


def fitted_pair(rows, nonlinear):
    parts = [SparseAutoencoder(m, k=2, max_iter=5, random_state=0) for m in (12, 10)]
    return LayerPair(
        *parts, nonlinear_connector=nonlinear, min_events=5, random_state=0
    ).fit(rows, rows[:, :4])


@pytest.mark.parametrize(
    "nonlinear",
    [
        MLPConnector(hidden_units=3, max_iter=2),
        FeatureConnector(n_nonzero_coefs=20, link="relu", max_iter=5),
    ],
)
def test_a_nonlinear_connector_of_a_pair(nonlinear, rows, tmp_path):
    pair = fitted_pair(rows, nonlinear)
    again = shared(pair, tmp_path)
    assert type(again.nonlinear_connector_) is type(nonlinear)
    same_attributes(pair, again)
    assert list(again.connectors()) == ["sparse", "dense", "nonlinear"]
    np.testing.assert_array_equal(
        again.predict(rows, "nonlinear"), pair.predict(rows, "nonlinear")
    )
    assert again.report(rows, rows[:, :4]).totals == (
        pair.report(rows, rows[:, :4]).totals
    )


def test_a_frozen_nonlinear_connector_of_a_pair(rows, tmp_path):
    first = fitted_pair(rows, MLPConnector(hidden_units=3, max_iter=2))
    pair = fitted_pair(rows, FrozenEstimator(first.nonlinear_connector_))
    again = shared(pair, tmp_path)
    np.testing.assert_array_equal(
        again.predict(rows, "nonlinear"), first.predict(rows, "nonlinear")
    )


def test_any_other_nonlinear_connector_is_left_out(rows, tmp_path):
    class MyConnector(MLPConnector):
        """Would come back as its base."""

    pair = fitted_pair(rows, MyConnector(hidden_units=2, max_iter=2))
    told = "is not written, as it is a MyConnector and only MLPConnector"
    with pytest.warns(UserWarning, match=told):
        save_pretrained(pair, tmp_path)
    again = from_pretrained(tmp_path)
    assert list(again.connectors()) == ["sparse", "dense"]


def test_a_nonlinear_connector_has_the_features_of_its_pair(rows, tmp_path):
    pair = fitted_pair(rows, MLPConnector(hidden_units=3, max_iter=2))
    q, p = pair.connector_.coef_.shape
    pair.nonlinear_connector_.coef_ = np.zeros((q, p + 1))
    pair.nonlinear_connector_.hidden_coef_ = np.zeros((3, p + 1))
    pair.nonlinear_connector_.n_features_in_ = p + 1
    with pytest.raises(ValueError, match=rf"must have coef_ of shape \({q}, {p}\)"):
        shared(pair, tmp_path)


@pytest.mark.parametrize("one_target", [False, True])
def test_mlp_connector(one_target, rows, tmp_path):
    connector = MLPConnector(hidden_units=3, max_iter=3, random_state=0)
    connector.fit(rows, np.abs(rows[:, 0] if one_target else rows[:, :3]))
    again = shared(connector, tmp_path)
    assert type(again) is MLPConnector
    assert again.get_params() == connector.get_params()
    same_attributes(connector, again)
    np.testing.assert_array_equal(again.predict(rows), connector.predict(rows))
    card = (tmp_path / "README.md").read_text()
    assert "| R2 of the linear map alone | " in card
    if not one_target:
        changed_config(tmp_path, lambda config: config["fitted"].update(_y_is_1d=True))
        with pytest.raises(ValueError, match="_y_is_1d must be false with 3 outputs"):
            from_pretrained(tmp_path)


def test_network_of_an_unwrapper(unwrapper, rows, tmp_path):
    network = shared(unwrapper, tmp_path)
    assert type(network) is SparseFeatureNetwork
    np.testing.assert_array_equal(network.predict(rows), unwrapper.predict(rows))
    again = shared(network, tmp_path / "again")
    np.testing.assert_array_equal(again.predict_raw(rows), network.predict_raw(rows))


WITHOUT_TORCH = """
import sys
from skfeat.sharing import from_pretrained
network = from_pretrained(sys.argv[1])
network.predict([[0.0] * 6])
assert not {"torch", "sklearn"} & set(sys.modules), "a network needs neither"
"""


def test_a_network_is_loaded_without_torch(unwrapper, tmp_path):
    save_pretrained(unwrapper, tmp_path)
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH, tmp_path], check=True)


def test_files_are_safe(pair, tmp_path):
    save_pretrained(pair, tmp_path)
    names = ["README.md", "arrays.npz", "config.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    with np.load(tmp_path / "arrays.npz", allow_pickle=False) as arrays:
        assert all(arrays[name].dtype != object for name in arrays.files)


@pytest.mark.parametrize("thing", [Ridge(), "folder", SparseAutoencoder])
def test_what_cannot_be_shared(thing, tmp_path):
    with pytest.raises(TypeError, match=r"estimator must be a fitted .* Got"):
        save_pretrained(thing, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_is_not_fitted(tmp_path):
    with pytest.raises(NotFittedError):
        save_pretrained(SparseAutoencoder(), tmp_path / "new")


def test_a_derived_class_would_come_back_as_another(rows, tmp_path):
    class Own(SparseAutoencoder):
        pass

    own = Own(8, k=2, max_iter=3, random_state=0).fit(rows)
    with pytest.raises(TypeError, match="estimator must be"):
        save_pretrained(own, tmp_path)


# Model cards


def header(card):
    yaml = pytest.importorskip("yaml")
    _, text, _ = card.split("---\n", 2)
    return yaml.safe_load(text)


def test_card_of_an_autoencoder(rows):
    sae = SparseAutoencoder(10, k=2, max_iter=4, random_state=3).fit(rows)
    card = model_card(sae, license="mit", description="Of *layer 3*.")
    head = header(card)
    assert head["library_name"] == "skfeat"
    assert head["license"] == "mit"
    assert "sparse-autoencoder" in head["tags"]
    assert "# Sparse autoencoder: 10 features of 6 inputs\n\nOf *layer 3*." in card
    assert f"| R2 of the reconstruction | {sae.explained_variance_:.4g} |" in card
    changed = [line for line in card.splitlines() if line.startswith("- `")]
    assert changed == [
        "- `k=2`",
        "- `max_iter=4`",
        "- `n_components=10`",
        "- `random_state=3`",
    ]


def test_programs_of_cards_run(unwrapper, pair, rows, tmp_path, monkeypatch):
    X, y = np.maximum(rows, 0), np.maximum(rows[:, :3], 0)
    things = [
        SparseAutoencoder(10, k=2, max_iter=4, random_state=3).fit(rows),
        FeatureConnector(n_nonzero_coefs=4, random_state=0).fit(X, y),
        unwrapper,
        pair,
        MLPConnector(hidden_units=2, max_iter=2).fit(X, y),
    ]
    monkeypatch.chdir(tmp_path)
    for number, thing in enumerate(things):
        save_pretrained(thing, f"f{number}")
        card = model_card(thing, source=f"f{number}")
        program = card.partition("```python\n")[2].partition("```")[0]
        exec(program, {"X": X})


def test_a_curved_network_is_not_explained_on_its_card(rows):
    mlp = MLPClassifier(
        (6, 6, 6),
        activation="tanh",
        solver="lbfgs",
        max_iter=50,
        tol=0.1,
        random_state=0,
    ).fit(rows, rows[:, 0] > 0)
    part = SparseAutoencoder(8, k=3, max_iter=5, random_state=0)
    curved = FeatureUnwrapper(
        mlp,
        autoencoder=part,
        layers=["hidden_0", "hidden_1"],
        max_iter=3,
        random_state=0,
    ).fit(rows)
    card = model_card(curved)
    assert "predict_proba" in card
    assert "explain" not in card
    with pytest.raises(ValueError, match=r"curved|tanh"):
        curved.network().explain(rows[0])


def test_measures_on_a_card(unwrapper, rows):
    report = unwrapper.report(rows)
    card = model_card(unwrapper, measures=report)
    assert "## Measures" in card
    assert "| network |" in card
    assert "- FVU: share of" in card
    card = model_card(unwrapper, measures={"R2|new rows": 0.98761, "rows": 12345})
    assert r"| R2\|new rows | 0.9876 |" in card
    assert "| rows | 12,345 |" in card
    assert "## Measures" not in model_card(unwrapper)


def test_tables_of_cards_are_whole(unwrapper, rows):
    card = model_card(unwrapper, measures=unwrapper.report(rows))
    tables = [part for part in card.split("\n\n") if part.startswith("| ")]
    assert len(tables) >= 2
    for table in tables:
        lines = [line for line in table.splitlines() if line.startswith("|")]
        assert len({line.count("|") - line.count("\\|") for line in lines}) == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"license": "MIT\ntags: [x]"}, ValueError),
        ({"license": None}, ValueError),
        ({"description": 3}, TypeError),
        ({"measures": 0.9}, TypeError),
    ],
)
def test_wrong_options(options, error, unwrapper, tmp_path):
    (name,) = options
    with pytest.raises(error, match=f"{name} must be .* Got"):
        save_pretrained(unwrapper, tmp_path / "new", **options)
    assert not (tmp_path / "new").exists()


# Damaged and hostile folders


def changed_config(folder, change):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c.update({"format": "other"}), "does not name the format"),
        (lambda c: c.update(version=2), r"format version 2 .* reads .* version 1"),
        (lambda c: c.update({"class": "os.system"}), "names the class 'os.system'"),
        (lambda c: c.update({"class": ["x"]}), "names the class"),
        (lambda c: c["params"].update(new=1), "no parameter 'new'"),
        (lambda c: c["params"].update(k="many"), "'k' parameter"),
        (lambda c: c["fitted"].update(_state="x"), "also has '_state'"),
        (lambda c: c["fitted"].update(code=["topk", 99]), "k must be a whole number"),
        (lambda c: c["fitted"].update(code=["exec", 2]), "its code must be"),
        (lambda c: c["fitted"].update(n_features_in_=7), "n_features_in_ must be 6"),
        (lambda c: c.update(params=[]), "no object 'params'"),
    ],
)
def test_a_changed_configuration_is_refused(change, told, rows, tmp_path):
    sae = SparseAutoencoder(10, k=2, max_iter=4, random_state=3).fit(rows)
    save_pretrained(sae, tmp_path)
    changed_config(tmp_path, change)
    with pytest.raises(ValueError, match=f"(?s)Cannot load an estimator.*{told}"):
        from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("components_", np.zeros((9, 6)), "shape"),
        ("components_", np.full((10, 6), np.nan), "NaN"),
        ("components_", None, "components_"),
        ("extra", np.zeros(2), "extra"),
        ("intercept_", np.array(["a"]), "plain numbers"),
    ],
)
def test_changed_arrays_are_refused(name, value, told, rows, tmp_path):
    sae = SparseAutoencoder(10, k=2, max_iter=4, random_state=3).fit(rows)
    save_pretrained(sae, tmp_path)
    with np.load(tmp_path / "arrays.npz") as file:
        arrays = dict(file)
    arrays.pop(name, None)
    if value is not None:
        arrays[name] = value
    np.savez(tmp_path / "arrays.npz", **arrays)
    with pytest.raises(ValueError, match=told):
        from_pretrained(tmp_path)


def test_a_pickle_in_the_arrays_is_not_opened(rows, tmp_path):
    sae = SparseAutoencoder(10, k=2, max_iter=4, random_state=3).fit(rows)
    save_pretrained(sae, tmp_path)
    np.savez(tmp_path / "arrays.npz", components_=np.array([{}], dtype=object))
    with pytest.raises(ValueError, match="not plain numbers"):
        from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["live_inputs_", "live_outputs_"])
def test_numbers_of_features_are_checked(name, pair, tmp_path):
    save_pretrained(pair, tmp_path)
    with np.load(tmp_path / "arrays.npz") as file:
        arrays = dict(file)
    for change in (lambda a: a[::-1].copy(), lambda a: a + 1000):
        np.savez(tmp_path / "arrays.npz", **{**arrays, name: change(arrays[name])})
        with pytest.raises(ValueError, match=f"{name} must be"):
            from_pretrained(tmp_path)


def test_missing_files(rows, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no .*config\.json"):
        from_pretrained(tmp_path)
    sae = SparseAutoencoder(10, k=2, max_iter=4, random_state=3).fit(rows)
    save_pretrained(sae, tmp_path)
    (tmp_path / "arrays.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"there is no .*arrays\.npz"):
        from_pretrained(tmp_path)
    with pytest.raises(FileNotFoundError, match="source must be a folder"):
        from_pretrained(tmp_path / "nowhere")


def test_a_folder_has_no_revision(tmp_path):
    with pytest.raises(ValueError, match="revision must be None"):
        from_pretrained(tmp_path, revision="main")
    with pytest.raises(TypeError, match="revision must be a str"):
        from_pretrained(tmp_path, revision=3)


def test_a_shared_connector_keeps_the_link_that_it_was_fitted_with(rows, tmp_path):
    connector = FeatureConnector(link="identity").fit(rows, rows[:, :2])
    expected = connector.predict(rows)
    connector.set_params(link="relu")
    again = shared(connector, tmp_path / "connector")
    assert again.link == "identity"
    np.testing.assert_array_equal(again.predict(rows), expected)
    assert "`W x + b`" in model_card(connector)
