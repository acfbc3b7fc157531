"""Labels, probabilities and column names of a network, before and after its file."""

import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neural_network import MLPClassifier, MLPRegressor

from skfeat import FeatureUnwrapper, SparseAutoencoder
from skfeat.activations import ReLU
from skfeat.chain import Chain, Step
from skfeat.network import DecisionRule, SparseFeatureNetwork, _file
from tests.network.test_network_file import edit

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*features are dead:UserWarning"),
]

ROWS = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
TABLE = pd.DataFrame(ROWS, columns=["a", "b", "c", "d"])
KINDS = np.argmax(ROWS[:, :3], axis=1)


def network(n_outputs=3, back=(), **options):
    """Outputs are the inputs, rectified."""
    return SparseFeatureNetwork(
        front=Chain.from_steps([], 4),
        encoder_coef=np.eye(n_outputs, 4),
        encoder_intercept=np.zeros(n_outputs),
        encoder_bias=np.zeros(4),
        activation=ReLU(),
        coefs=[],
        intercepts=[],
        links=[],
        decoder_coef=np.eye(n_outputs),
        decoder_intercept=np.zeros(n_outputs) - 0.5,
        back=Chain.from_steps(list(back), n_outputs),
        layer_names=["hidden"],
        **options,
    )


def file_of(one):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network"
        one.save(path)
        return path.read_bytes()


def load(tmp_path, content):
    path = tmp_path / "network"
    path.write_bytes(content)
    return SparseFeatureNetwork.load(path)


def again(one, tmp_path):
    return load(tmp_path, file_of(one))


MODELS = {
    "words": (MLPClassifier, np.array(["cat", "dog", "mouse"])[KINDS]),
    "two": (MLPClassifier, np.where(KINDS == 0, 4, 9)),
    "truth": (MLPClassifier, KINDS == 1),
    "value": (MLPRegressor, ROWS[:, 0]),
    "values": (MLPRegressor, ROWS[:, :2]),
}


@pytest.fixture(scope="module", params=MODELS)
def unwrapped(request):
    kind, y = MODELS[request.param]
    model = kind(hidden_layer_sizes=(6, 6), max_iter=30, random_state=0).fit(TABLE, y)
    part = SparseAutoencoder(8, k=3, max_iter=5)
    est = FeatureUnwrapper(model, autoencoder=part, distill=False, random_state=0)
    return est.fit(TABLE)


def test_a_loaded_network_predicts_as_the_unwrapper_does(unwrapped, tmp_path):
    for one in (unwrapped.network(), again(unwrapped.network(), tmp_path)):
        for each in (one, one.compact()):
            predicted = each.predict(TABLE)
            expected = unwrapped.predict(TABLE)
            assert predicted.dtype == expected.dtype
            assert predicted.shape == expected.shape
            classifies = hasattr(unwrapped, "classes_")
            assert hasattr(each, "predict_proba") == classifies
            if not classifies:
                np.testing.assert_allclose(predicted, expected, atol=1e-5)
                assert not hasattr(each, "classes_")
                continue
            np.testing.assert_array_equal(predicted, expected)
            np.testing.assert_array_equal(each.classes_, unwrapped.classes_)
            probabilities = each.predict_proba(TABLE)
            np.testing.assert_allclose(
                probabilities, unwrapped.predict_proba(TABLE), atol=1e-6
            )
            np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


BAD_TABLES = {
    "order": TABLE[["b", "a", "c", "d"]],
    "missing": TABLE[["a", "b", "c"]],
    "unknown": TABLE.rename(columns={"a": "z"}),
    "more": TABLE.assign(**{f"new {i}": 0.0 for i in range(7)}),
}


@pytest.mark.parametrize("bad", BAD_TABLES)
def test_other_columns_are_refused_as_by_the_unwrapper(bad, tmp_path):
    model = MLPClassifier((6,), max_iter=3, random_state=0).fit(TABLE, KINDS)
    part = SparseAutoencoder(8, k=3, max_iter=2)
    est = FeatureUnwrapper(model, autoencoder=part, random_state=0).fit(TABLE)
    table = BAD_TABLES[bad]
    with pytest.raises(ValueError, match="feature names should match") as expected:
        est.predict(table)
    one = again(est.network(), tmp_path)
    assert one.feature_names_in_.tolist() == list(TABLE)
    for call in (
        one.predict,
        one.predict_proba,
        one.predict_raw,
        one.features,
        one.attribute,
        one.mean_flow,
        lambda X: one.ablate(X, "F1_0"),
        lambda X: one.ablate(TABLE, "F1_0", reference=X),
        one.compact().predict,
    ):
        with pytest.raises(ValueError, match="feature names should match") as found:
            call(table)
        assert str(found.value) == str(expected.value)


def test_what_has_no_names_is_taken_as_it_is():
    one = network(input_names=list(TABLE))
    expected = one.predict_raw(TABLE)
    for rows in (
        ROWS,
        ROWS.tolist(),
        TABLE.to_numpy(),
        TABLE.set_axis(range(4), axis=1),
    ):
        np.testing.assert_allclose(one.predict_raw(rows), expected)
    # A network without names has nothing to compare.
    np.testing.assert_allclose(network().predict_raw(TABLE), expected)
    assert not hasattr(network(), "feature_names_in_")
    assert network().input_names_ == ["x0", "x1", "x2", "x3"]


@pytest.mark.parametrize("library", ["polars", "pyarrow"])
def test_tables_of_other_libraries(library):
    pytest.importorskip(library)
    if library == "polars":
        import polars as pl

        good, bad = (
            pl.DataFrame(t.to_dict("list")) for t in (TABLE, BAD_TABLES["order"])
        )
    else:
        import pyarrow as pa

        good, bad = (pa.table(t.to_dict("list")) for t in (TABLE, BAD_TABLES["order"]))
    one = network(input_names=list(TABLE))
    with pytest.raises(ValueError, match="same order as they were in fit"):
        one.predict_raw(bad)
    if library == "polars":
        np.testing.assert_allclose(
            one.predict_raw(good), one.predict_raw(TABLE), atol=1e-6
        )


LABELS = st.one_of(
    st.lists(st.integers(-(2**40), 2**40), min_size=3, max_size=3, unique=True),
    st.lists(st.text(max_size=5), min_size=3, max_size=3, unique=True),
    st.lists(st.floats(allow_nan=False, width=32), min_size=3, max_size=3, unique=True),
)


@settings(max_examples=15)
@given(labels=LABELS, dtype=st.sampled_from([None, object]))
def test_labels_of_any_kind_stay_what_they_are(labels, dtype):
    # numpy drops nulls at the end of a text of fixed width
    labels = [v.replace("\0", "0") if isinstance(v, str) else v for v in labels]
    if len(set(labels)) < 3:
        return
    one = network(classes=np.array(labels, dtype=dtype))
    with io.BytesIO(file_of(one)) as file:
        loaded = SparseFeatureNetwork(**_file.read(file))
    assert loaded.classes_.dtype == one.classes_.dtype
    assert loaded.classes_.tolist() == one.classes_.tolist()
    assert list(map(type, loaded.classes_.tolist())) == list(map(type, labels))
    assert loaded.output_names_ == [str(label) for label in one.classes_]


@pytest.mark.parametrize(
    "labels",
    [
        np.array([1, 2, 3], np.int8),
        np.array([1, 2, 3], ">i4"),
        np.array([0.5, 1, 2], np.float16),
        np.array(["x", 1, 2.5], object),
        np.array([np.str_("x"), np.int64(1), np.bool_(True)], object)[[0, 1]],
    ],
)
def test_labels_of_rarer_kinds(labels, tmp_path):
    one = network(n_outputs=len(labels), classes=labels)
    loaded = again(one, tmp_path)
    assert loaded.classes_.dtype == labels.dtype
    assert loaded.predict(ROWS).tolist() == one.predict(ROWS).tolist()


def test_labels_that_no_file_can_have(tmp_path):
    one = network(classes=np.array(["2020", "2021", "2022"], "datetime64[Y]"))
    assert one.predict(ROWS).dtype == one.classes_.dtype
    with pytest.raises(ValueError, match="strings, numbers or bools to be written"):
        one.save(tmp_path / "network")
    assert not list(tmp_path.iterdir())


def test_a_threshold_of_the_second_class(tmp_path):
    first = ROWS[:, 0].clip(0) - 0.5
    for threshold in (0.0, 0.3, 0.5, 0.9, 1.0):
        rule = DecisionRule(threshold)
        one = network(1, classes=["no", "yes"], decision_rule=rule)
        expected = np.where(1 / (1 + np.exp(-first)) > threshold, "yes", "no")
        for each in (one, one.compact(), again(one, tmp_path)):
            np.testing.assert_array_equal(each.predict(ROWS), expected)
            np.testing.assert_array_equal(each.decide(one.predict_raw(ROWS)), expected)
            assert each.output_names_ == ["yes"]
            assert each.decision_rule == rule


def test_a_threshold_of_either_class(tmp_path):
    first = network(2, classes=["no", "yes"]).predict_proba(ROWS)[:, 0]
    rule = DecisionRule(first[7], column=0, inclusive=True)
    one = network(2, classes=["no", "yes"], decision_rule=rule)
    expected = np.where(first >= first[7], "no", "yes")
    for each in (one, one.compact(), again(one, tmp_path)):
        np.testing.assert_array_equal(each.predict(ROWS), expected)


def test_files_of_before_have_values(tmp_path):
    content = file_of(network(classes=list("abc"), input_names=list("abcd")))
    with np.load(io.BytesIO(content)) as file:
        header = json.loads(file["header"].tobytes())
    for key in ("input_names", "output_names", "decision_rule"):
        del header[key]
    text = np.frombuffer(json.dumps(header).encode(), np.uint8)
    old = load(tmp_path, edit(content, header=text, classes=lambda _: None))
    assert not hasattr(old, "predict_proba")
    assert not hasattr(old, "feature_names_in_")
    np.testing.assert_array_equal(old.predict(ROWS), old.predict_raw(ROWS))
    assert old.output_names_ == ["output 0", "output 1", "output 2"]


@pytest.mark.parametrize(
    "changes",
    [
        {"classes": [["a"], ["b"], ["c"]]},
        {"classes": [{}, 1, 2]},
        {"classes": ["a", "b"]},
        {"classes": 3},
        {"input_names": ["a"]},
        {"input_names": "abcd"},
        {"output_names": [1, 2, 3]},
        {"decision_rule": [0.5, 1, False]},
        {"decision_rule": "x"},
    ],
)
def test_broken_headers_are_refused(changes, tmp_path):
    content = file_of(network())
    with pytest.raises(ValueError, match="Cannot read a SparseFeatureNetwork"):
        load(tmp_path, edit(content, **changes))


def test_a_file_may_not_grow_in_memory(tmp_path):
    """Text of fixed width has the room of its longest label for each."""
    labels = [str(i) for i in range(300)]
    labels[0] = "a" * 10**5
    wide = SparseFeatureNetwork(
        front=Chain.from_steps([], 1),
        encoder_coef=np.ones((1, 1)),
        encoder_intercept=np.zeros(1),
        encoder_bias=np.zeros(1),
        activation=ReLU(),
        coefs=[],
        intercepts=[],
        links=[],
        decoder_coef=np.ones((1, 300)),
        decoder_intercept=np.zeros(300),
        back=Chain.from_steps([], 300),
        layer_names=["hidden"],
        classes=np.array(labels, dtype=object),
    )
    content = file_of(wide)
    assert len(content) < 10**6
    loaded = load(tmp_path, content)
    assert loaded.classes_.dtype == object
    assert loaded.classes_.nbytes < 10**4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classes": [1, 2]}, "classes must be 3 different labels for the 3 outputs"),
        ({"classes": [1, 1, 2]}, "classes must be 3 different labels"),
        ({"classes": [[1, 2, 3]]}, "classes must be 3 different labels"),
        ({"input_names": ["a"]}, "input_names must have 4 names, got 1"),
        ({"input_names": "abcd"}, "input_names must be a list of strings"),
        ({"output_names": [1, 2, 3]}, "output_names must be a list of strings"),
        ({"decision_rule": DecisionRule(0.3)}, "rule must be .*got .* for 0 classes"),
        (
            {"decision_rule": DecisionRule(0.3), "classes": [1, 2, 3]},
            "for two classes, a DecisionRule .* for 3 classes",
        ),
        *(
            (
                {"decision_rule": rule, "classes": [1, 2], "n_outputs": 2},
                "decision_rule must be None or, for two classes, a DecisionRule of a",
            )
            for rule in [
                0.3,
                (1.5, 1, False),
                (0.5, 2, True),
                (0.5, 1, None),
                ("x", 1, True),
            ]
        ),
        (
            {"classes": [1, 2, 3], "back": [Step("softmax")]},
            "back must end with the logits where classes are given, got a softmax",
        ),
    ],
)
def test_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        network(**options)


def test_without_classes_there_are_no_probabilities():
    with pytest.raises(AttributeError, match="has no 'predict_proba': it has no class"):
        network().predict_proba(ROWS)
    assert "probability" in SparseFeatureNetwork.predict_proba.__doc__
    assert network(1).predict(ROWS).shape == (60,)
    assert network(2).predict(ROWS).shape == (60, 2)


def test_labels_without_torch_or_scikit_learn(tmp_path):
    one = network(classes=list("xyz"), input_names=list(TABLE))
    one.save(tmp_path / "network")
    program = f"""
import sys
for name in ("torch", "sklearn", "pandas"):
    sys.modules[name] = None
from skfeat.network import SparseFeatureNetwork
network = SparseFeatureNetwork.load({str(tmp_path / "network")!r})
rows = {ROWS[:5].tolist()!r}
print(network.predict(rows).tolist(), network.predict_proba(rows).shape)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == f"{one.predict(ROWS[:5]).tolist()} (5, 3)"


def test_onnx_files_say_what_comes_out(tmp_path):
    onnx = pytest.importorskip("onnx")
    one = network(classes=["x", "y", "z"], input_names=list(TABLE))
    one.to_onnx(tmp_path / "one.onnx")
    network().to_onnx(tmp_path / "other.onnx")
    told, other = (
        {p.key: json.loads(p.value) for p in onnx.load(tmp_path / name).metadata_props}
        for name in ("one.onnx", "other.onnx")
    )
    assert told == {
        "input_names": list("abcd"),
        "output_names": list("xyz"),
        "classes": list("xyz"),
        "decision_rule": None,
    }
    assert other == {
        "input_names": ["x0", "x1", "x2", "x3"],
        "output_names": ["output 0", "output 1", "output 2"],
    }
