"""The explorer's page of a layer pair."""

import warnings

import numpy as np
import pytest
from scipy import sparse

from skfeat import SparseAutoencoder
from skfeat.capture import Capture
from skfeat.language import (
    LayerPair,
    activating_contexts,
    explore_pairs,
    feature_tokens,
)
from skfeat.language import find_connections as find
from tests.network.test_network_explore import close, dense, written

N = 1200
WORDS = [" the", " of", "</script>", "\n", " a", " b", " c", "é"]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.RandomState(0)
    tokens = rng.randint(0, len(WORDS), N)
    X = rng.randn(len(WORDS), 8)[tokens] + 0.1 * rng.randn(N, 8)
    Y = np.maximum(X @ rng.randn(8, 8), 0) @ rng.randn(8, 6)
    # In no order of the text: a capture need not have one.
    order = rng.permutation(N)
    sequence, position = np.arange(N) // 30, np.arange(N) % 30
    held = Capture({}, sequence[order], position[order], tokens[order])
    return X[order], Y[order], held


@pytest.fixture(scope="module")
def pair(rows):
    X, Y, _ = rows
    parts = [SparseAutoencoder(16, k=2, max_iter=5, random_state=0) for _ in "ab"]
    pair = LayerPair(*parts, n_nonzero_coefs=3, min_events=10, random_state=0)
    with warnings.catch_warnings():
        # What is asked is not how well it fits; dead features are welcome.
        warnings.simplefilter("ignore")
        return pair.fit(X, Y)


@pytest.fixture(scope="module")
def found(pair, rows, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "pair.html"
    X, Y, held = rows
    options = {"capture": held, "decode": WORDS, "n_rows": 6, "n_examples": 3}
    return written(pair.explore(X, Y, path, **options))


def test_names_labels_and_weights(pair, rows, found):
    X, _, held = rows
    before, after = found["layers"]
    assert before["names"] == [f"IF_{j}" for j in pair.live_inputs_]
    assert after["names"] == [f"OF_{j}" for j in pair.live_outputs_]
    codes = pair.input_features(X)
    assert before["labels"] == feature_tokens(codes, held.token_ids, WORDS).labels
    coef = pair.connector_.coef_
    (gap,) = found["gaps"]
    close(dense(gap, "weights", coef.shape), coef.toarray())
    flows = abs(coef.toarray()) * codes.toarray().mean(axis=0)
    close(dense(gap, "strength", coef.shape), flows)
    close(before["strength"], flows.sum(axis=0))
    close(after["strength"], flows.sum(axis=1))


def test_formulas_logic_and_r2(pair, rows, found):
    X, Y, _ = rows
    codes, measured = pair.input_features(X), pair.output_features(Y)
    layer = found["layers"][1]
    kinds = {"or", "and-not", "and", "single"}
    connections = find(
        pair.connector_, codes, measured, kind=sorted(kinds), n=99, n_shuffles=0
    )
    assert connections
    for one in connections:
        assert layer["formulas"][one.output] == one.formula
        text = f"{one.kind}: {one.logic.formula}"
        assert layer["logics"][one.output] == text
        assert layer["r2"][one.output] == pytest.approx(one.r2, abs=1e-3)
    for j, text in enumerate(layer["logics"]):
        if text and text.split(":")[0] in kinds:
            assert layer["formulas"][j] == pair.formula(pair.live_outputs_[j])


def test_effects_are_those_on_the_predicted_rows(pair, rows, tmp_path):
    X, Y = (part[:400] for part in rows[:2])  # few enough that all are measured
    found = written(pair.explore(X, Y, tmp_path / "a.html"))
    codes = pair.input_features(X).toarray()
    whole = pair.decode_features(pair.connector_.predict(codes))
    spread = np.linalg.norm(Y - pair.output_mean_, axis=1).mean()
    for j, effect in enumerate(found["layers"][0]["effect"]):
        without = codes.copy()
        without[:, j] = 0
        lost = pair.decode_features(pair.connector_.predict(without)) - whole
        close(effect, np.linalg.norm(lost, axis=1).mean() / spread)
    predicted = pair.connector_.predict(codes)
    for j, effect in enumerate(found["layers"][1]["effect"]):
        without = predicted.copy()
        without[:, j] = 0
        lost = pair.decode_features(without) - whole
        close(effect, np.linalg.norm(lost, axis=1).mean() / spread)


def test_passages_are_the_activating_contexts(pair, rows, found):
    X, _, held = rows
    codes = pair.input_features(X)
    examples, own = found["examples"], found["layers"][0]["statistics"]
    texts = examples["vocabulary"]
    passages = own["rows"].reshape(codes.shape[1], -1)
    values = own["values"].reshape(passages.shape)
    assert own["n_top"] == 3
    for j in range(codes.shape[1]):
        contexts = activating_contexts(
            codes, held.sequence, held.position, held.token_ids,
            feature=j, n_top=3, n_strata=0,
        )  # fmt: skip
        top = passages[j, :3]
        assert (top >= 0).sum() == len(contexts)
        for i, passage in enumerate(top[top >= 0].tolist()):
            first = examples["starts"][passage]
            span = np.arange(examples["length"][passage])
            words = examples["stream"][examples["offset"][passage] + span]
            spelled = [WORDS[token] for token in contexts.tokens[i]]
            shown = [texts[word].replace("·", " ") for word in words]
            assert [text.replace("⏎", "\n") for text in shown] == spelled
            activations = contexts.activations[i]
            shares = examples["values"][first + span] / 255
            np.testing.assert_allclose(
                shares, activations / own["high"][j], atol=1 / 254
            )
            assert ((shares > 0) == (activations > 0)).all()
            close(values[j, i], activations[contexts.focus[i]])
            assert examples["focus"][passage] == contexts.focus[i]
            assert examples["sequence"][passage] == contexts.sequence[i]


def test_levels_go_from_the_strongest_to_the_weakest(found):
    for layer in found["layers"]:
        own = layer["statistics"]
        values = own["values"].reshape(len(layer["names"]), -1)[:, 3:]
        for j, level in enumerate(values):
            bins = np.ceil(level / own["high"][j] * 3 - 1e-3)
            for k, value in enumerate(level):
                assert value == 0 or bins[k] == 3 - k


def test_rows_are_tokens_with_what_is_measured_and_predicted(pair, rows, found):
    X, Y, held = rows
    codes = pair.input_features(X).toarray()
    measured = pair.output_features(Y).toarray()
    places = {
        pair_: i
        for i, pair_ in enumerate(zip(held.sequence, held.position, strict=True))
    }
    assert len(found["rows"]) == 6
    for row in found["rows"]:
        passage = row["example"]
        examples = found["examples"]
        at = places[examples["sequence"][passage], examples["position"][passage]]
        (nodes, values, parts), (ends, own, predicted) = row["values"]
        close(values, codes[at, nodes])
        assert set(nodes) == set(np.flatnonzero(codes[at]))
        close(parts, values)
        close(own, measured[at, ends])
        close(predicted, pair.connector_.predict(codes[[at]])[0, ends])
        word = WORDS[held.token_ids[at]]
        assert dict(row["facts"])["token"].replace("·", " ").replace("⏎", "\n") == word


def test_without_a_capture_there_are_no_passages(pair, rows, tmp_path):
    X, Y, _ = rows
    found = written(pair.explore(X, Y, tmp_path / "a.html", n_rows=3))
    assert found["examples"]["kind"] == "none"
    assert len(found["rows"]) == 3
    assert found["layers"][0]["statistics"]["rows"] is None
    assert found["layers"][0]["labels"] is None
    density = sparse.csc_array(pair.input_features(X)).astype(bool).mean(axis=0)
    close(found["layers"][0]["statistics"]["density"], density)


def test_bad_input(pair, rows, tmp_path):
    X, Y, held = rows
    path = tmp_path / "a.html"
    with pytest.raises(TypeError, match="capture must be a skfeat"):
        pair.explore(X, Y, path, capture=X)
    with pytest.raises(ValueError, match=r"capture\.token_ids must have 600 entries"):
        pair.explore(X[:600], Y[:600], path, capture=held, decode=WORDS)
    with pytest.raises(TypeError, match="decode must be a tokenizer, a function"):
        pair.explore(X, Y, path, capture=held)
    with pytest.raises(FileNotFoundError, match="path must be a file in a folder"):
        pair.explore(X, Y, tmp_path / "no" / "a.html")
    with pytest.raises(ValueError, match="n_examples must be an int of at least 1"):
        pair.explore(X, Y, path, n_examples=0)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        pair.explore(X, Y[:9], path)
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def pairs(pair, rows):
    X, Y, _ = rows
    parts = [SparseAutoencoder(12, k=2, max_iter=5, random_state=1) for _ in "ab"]
    other = LayerPair(*parts, n_nonzero_coefs=2, min_events=10, random_state=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other.fit(Y, X)
    return {"MLP 0": pair, "MLP 1": other}, {"MLP 0": (X, Y), "MLP 1": (Y, X)}


def test_pairs_stand_side_by_side(pairs, rows, found, tmp_path):
    fitted, both = pairs
    X, Y, held = rows
    options = {"capture": held, "decode": WORDS, "n_rows": 6, "n_examples": 3}
    page = written(explore_pairs(fitted, both, tmp_path / "model.html", **options))
    assert page["title"] == "Features across 2 MLPs"
    assert [layer["title"] for layer in page["layers"]] == [
        f"MLP {i}, {side}s" for i in (0, 1) for side in ("input", "output")
    ]
    # The first pair is as on a page of its own, where nothing is drawn at random.
    for layer, alone in zip(page["layers"], found["layers"], strict=False):
        assert layer["names"] == alone["names"]
        assert layer["labels"] == alone["labels"]
        close(layer["strength"], alone["strength"])
        assert layer["formulas"] == alone["formulas"]
    first, between, last = page["gaps"]
    coefs = [pair.connector_.coef_ for pair in fitted.values()]
    close(dense(first, "weights", coefs[0].shape), coefs[0].toarray())
    close(dense(last, "weights", coefs[1].shape), coefs[1].toarray())
    assert between["n_edges"] == len(between["indices"]) == 0
    assert len(between["indptr"]) == len(page["layers"][2]["names"]) + 1
    for row in page["rows"]:
        assert len(row["values"]) == 4
        assert row["edges"] == [None] * 3
    nodes, values, predicted = page["rows"][0]["values"][3]
    at = page["examples"]["sequence"], page["examples"]["position"]
    example = page["rows"][0]["example"]
    place = [part[example] for part in at]
    (row,) = np.flatnonzero((held.sequence == place[0]) & (held.position == place[1]))
    other = fitted["MLP 1"]
    close(values, other.output_features(X[[row]]).toarray()[0][nodes])
    codes = other.input_features(Y[[row]])
    close(predicted, other.connector_.predict(codes)[0][nodes])


def test_pairs_that_do_not_go_together(pairs, tmp_path):
    fitted, both = pairs
    path = tmp_path / "no.html"
    with pytest.raises(ValueError, match=r"the names of pairs, at least one. Got"):
        explore_pairs({}, {}, path)
    with pytest.raises(ValueError, match=r"the names of pairs"):
        explore_pairs(fitted, {"MLP 0": both["MLP 0"]}, path)
    with pytest.raises(TypeError, match=r"pairs must be a dict .* Got \[1\] instead"):
        explore_pairs([1], {1: both["MLP 0"]}, path)
    with pytest.raises(TypeError, match=r"rows must be a dict .* Got None instead"):
        explore_pairs(fitted, None, path)
    with pytest.raises(ValueError, match=r"rows\['MLP 1'\] must be .* Got 3 instead"):
        explore_pairs(fitted, {**both, "MLP 1": 3}, path)
    with pytest.raises(TypeError, match=r"must hold LayerPairs. Got a SparseAuto"):
        explore_pairs({"MLP 0": SparseAutoencoder()}, {"MLP 0": both["MLP 0"]}, path)
    short = {**both, "MLP 1": tuple(part[:50] for part in both["MLP 1"])}
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples"):
        explore_pairs(fitted, short, path)
    assert not path.exists()
