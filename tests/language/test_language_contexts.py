"""Passages and tokens of features, beside plain loops over all tokens."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import sparse

from skfeat.language import activating_contexts, feature_tokens


def text(seed=0, n=600, n_tokens=8, rate=0.2):
    """Rows as a capture has them: sequences of any length, some positions left out."""
    rng = np.random.default_rng(seed)
    sequence = np.sort(rng.integers(0, max(2, n // 25), n))
    position = np.concatenate(
        [np.arange((sequence == s).sum()) for s in np.unique(sequence)]
    )
    kept = rng.random(n) > 0.03
    values = (rng.random(n) < rate) * rng.gamma(2.0, 2.0, n)
    token_ids = rng.integers(0, n_tokens, n).astype(np.int32)
    return tuple(column[kept] for column in (values, sequence, position, token_ids))


def brute_window(rows, at, before, after):
    """Return the places of a passage, step by step in both directions."""
    _, sequence, position, _ = rows

    def reaches(i, j):
        return (
            0 <= j < len(sequence)
            and sequence[j] == sequence[i]
            and position[j] - position[i] == j - i
        )

    first = last = at
    while at - first < before and reaches(first, first - 1):
        first -= 1
    while last - at < after and reaches(last, last + 1):
        last += 1
    return list(range(first, last + 1))


def check(found, rows, before, after):
    """Check every passage; return their places."""
    values, sequence, position, token_ids = rows
    shown, seen, places = set(), set(), []
    for i in range(len(found)):
        here = (sequence == found.sequence[i]) & (position == found.position[i])
        (at,) = np.flatnonzero(here)
        window = brute_window(rows, at, before, after)
        assert_array_equal(found.tokens[i], token_ids[window])
        assert_allclose(found.activations[i], values[window])
        assert window[found.focus[i]] == at
        assert values[at] > 0
        assert not shown & set(window)
        key = tuple(token_ids[window])
        assert key not in seen
        shown |= set(window)
        seen.add(key)
        places.append(at)
    return places


@given(
    seed=st.integers(0, 10_000),
    before=st.integers(0, 6),
    after=st.integers(0, 6),
    n_top=st.integers(0, 6),
    n_strata=st.integers(0, 5),
    n_tokens=st.sampled_from([1, 3, 50]),
)
def test_as_by_brute_force(seed, before, after, n_top, n_strata, n_tokens):
    rows = text(seed, n=200, n_tokens=n_tokens)
    values = rows[0]
    options = {"before": before, "after": after, "n_strata": n_strata}
    found = activating_contexts(
        *rows, n_top=n_top, n_per_stratum=2, random_state=seed, **options
    )
    places = check(found, rows, before, after)
    top = found.stratum == -1
    assert np.array_equal(
        found.stratum, sorted(found.stratum, key=lambda b: (b != -1, -b))
    )

    # The strongest, one after the other.
    expected, shown, seen = [], set(), set()
    for at in sorted(np.flatnonzero(values > 0), key=lambda i: (-values[i], i)):
        window = brute_window(rows, at, before, after)
        key = tuple(rows[3][window])
        if len(expected) < n_top and not shown & set(window) and key not in seen:
            expected.append(at)
            shown |= set(window)
            seen.add(key)
    assert [at for at, is_top in zip(places, top, strict=True) if is_top] == expected

    # The others lie in their bins, and as many as there are new ones to draw.
    width = values.max() / n_strata if n_strata else 0
    for stratum in range(n_strata):
        low, high = stratum * width, (stratum + 1) * width
        drawn = [values[at] for at in np.array(places)[found.stratum == stratum]]
        assert all(low < value <= high * (1 + 1e-12) for value in drawn)
        assert len(drawn) <= 2
        if stratum == n_strata - 1 and n_top == 0 and n_tokens == 50:
            n_there = int(((values > low) & (values > 0)).sum())
            assert len(drawn) >= min(1, n_there)


def test_columns_of_a_matrix_and_any_order():
    rows = text()
    values, *where = rows
    codes = np.column_stack([np.zeros_like(values), values, values[::-1]])
    expected = activating_contexts(*rows, random_state=3)
    shuffle = np.random.default_rng(1).permutation(len(values))
    for matrix in (codes, sparse.csr_array(codes), sparse.csc_matrix(codes)):
        found = activating_contexts(matrix, *where, feature=1, random_state=3)
        for name in ("sequence", "position", "focus", "stratum"):
            assert_array_equal(getattr(found, name), getattr(expected, name))
    mixed = activating_contexts(*(c[shuffle] for c in rows), random_state=3)
    check(mixed, rows, 10, 5)
    assert_array_equal(mixed.position, expected.position)
    other = activating_contexts(*rows, random_state=4)
    assert not np.array_equal(other.position, expected.position)


def test_a_silent_feature_has_no_passages():
    rows = text()
    found = activating_contexts(np.zeros(len(rows[0])), *rows[1:])
    assert len(found) == 0
    assert repr(found) == "Contexts(none)"


def test_equal_passages_are_shown_once():
    token_ids = np.tile([1, 2, 3, 4], 50)
    sequence = np.repeat(np.arange(50), 4)
    values = np.tile([0.0, 0.0, 1.0, 0.0], 50)
    found = activating_contexts(values, sequence, np.tile(np.arange(4), 50), token_ids)
    assert len(found) == 1
    assert repr(found) == "Contexts(1 of 4 tokens, activations up to 1)"


def test_no_token_is_shown_twice():
    tokens = [10, 11, 12, 13, 14, 15]
    where = ([0] * 6, range(6), tokens)
    options = {"n_strata": 0, "before": 2, "after": 2}
    found = activating_contexts([0.0, 3, 0, 0, 2, 0], *where, **options)
    assert [passage.tolist() for passage in found.tokens] == [[10, 11, 12, 13]]
    # The same two tokens, at the end of a sequence and at its start.
    where = ([0, 0, 1, 1], [0, 1, 0, 1], [1, 1, 1, 1])
    found = activating_contexts([1.0, 3, 2, 0], *where, before=1, after=1)
    assert len(found) == 1


def test_each_token_has_a_place_of_its_own():
    message = "a place of its own. Got position 1 of sequence 0 twice"
    where = ([0, 1, 0, 0], [1, 1, 0, 1])
    with pytest.raises(ValueError, match=message):
        activating_contexts([1.0, 0.0, 0.0, 0.0], *where, [5, 6, 7, 8])
    found = activating_contexts([1.0, 2.0], [0, 0], [0, 1], [5, 6])
    with pytest.raises(ValueError, match=message):
        found.with_effects([1.0, 2.0, 3.0, 4.0], *where)


def test_effects_of_tokens():
    rows = text()
    _, sequence, position, _ = rows
    found = activating_contexts(*rows, random_state=0)
    effects = np.random.default_rng(0).normal(size=len(sequence))
    known = np.isin(sequence, found.sequence[::2])
    with_effects = found.with_effects(effects[known], sequence[known], position[known])
    assert found.effects is None
    for i, at in enumerate(check(found, rows, 10, 5)):
        window = brute_window(rows, at, 10, 5)
        expected = np.where(known[window], effects[window], np.nan)
        assert_array_equal(with_effects.effects[i], expected)
    with pytest.raises(ValueError, match="sequence must have 2 entries"):
        found.with_effects([1.0, 2.0], [0], [0, 1])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_top": -1}, "n_top must be an int of at least 0"),
        ({"before": 1.5}, "before must be an int of at least 0"),
        ({"n_strata": True}, "n_strata must be an int"),
        ({"token_ids": [0.5, 1.0]}, "token_ids must be a vector of ints"),
        ({"position": [0]}, "position must have 2 entries"),
        ({"activations": [1.0]}, "activations must have 2 entries"),
        ({"activations": [1.0, np.nan]}, "activations must be finite"),
        ({"feature": 0}, "feature must be None where activations"),
        (
            {"activations": np.eye(2)},
            "an int from 0 to 1 where activations are a matrix",
        ),
        (
            {"activations": np.eye(2), "feature": 1.0},
            "feature must be an int from 0 to",
        ),
        ({"activations": np.eye(2), "feature": 2}, "feature must be an int from 0 to"),
        ({"activations": np.eye(3), "feature": 2}, "activations must have 2 rows"),
    ],
)
def test_clear_errors(changed, message):
    arguments = {
        "activations": [0.0, 1.0],
        "sequence": [0, 0],
        "position": [0, 1],
        "token_ids": [5, 6],
    }
    with pytest.raises(ValueError, match=message):
        activating_contexts(**(arguments | changed))


# Tokens of features


@given(seed=st.integers(0, 1000))
def test_tokens_as_by_brute_force(seed):
    rng = np.random.default_rng(seed)
    token_ids = rng.integers(0, 6, 40) * 3
    codes = (rng.random((40, 5)) < 0.2) * rng.random((40, 5))
    found = feature_tokens(sparse.csr_array(codes), token_ids, n=2)
    for j, column in enumerate(codes.T):
        scores = {}
        for token in set(token_ids.tolist()):
            is_token = token_ids == token
            if column[is_token].sum() > 0:
                norm = np.linalg.norm(column) * np.linalg.norm(is_token)
                scores[token] = column @ is_token / norm
        best = sorted(scores, key=lambda token: (-round(scores[token], 12), token))[:2]
        assert found.token_ids[j].tolist() == best + [-1] * (2 - len(best))
        for i, token in enumerate(best):
            mean = column[token_ids == token].mean()
            assert_allclose(found.cosine[j, i], scores[token])
            assert_allclose(found.mean_activation[j, i], mean)
            assert_allclose(found.lift[j, i], mean / column.mean())
            share = column[token_ids == token].sum() / column.sum()
            assert_allclose(found.share[j, i], share)


def test_labels():
    words = ["the", " old", "Old", " former", " ", "\n", "<b>"]
    codes = np.zeros((70, 5))
    token_ids = np.tile(np.arange(7), 10)
    codes[np.isin(token_ids, [1, 2, 3]), 0] = 1.0
    codes[token_ids == 4, 1] = 1.0
    codes[token_ids == 5, 2] = 1.0
    codes[token_ids == 6, 3] = 1.0
    codes[token_ids == 0, 3] = 0.1
    found = feature_tokens(codes, token_ids, words)
    assert found.labels == ["old/former", "·", "⏎", "<b>", ""]
    chosen = feature_tokens(codes, token_ids, words.__getitem__, features=[3, 1])
    assert chosen.labels == ["<b>", "·"]
    assert feature_tokens(codes, token_ids).labels[3] == "6"


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"codes": [[-1.0]]}, ValueError, "codes must not be negative"),
        ({"codes": [[1.0], [2.0]]}, ValueError, "codes must have 1 rows"),
        ({"n": 0}, ValueError, "n must be an int of at least 1"),
        ({"features": [1]}, ValueError, "features must be an int from 0 to 0"),
        ({"features": 0}, ValueError, "features must be None or a sequence of ints"),
        (
            {"token_ids": [-1], "decode": ["a"]},
            ValueError,
            "token_ids must be an int of",
        ),
        ({"token_ids": [3], "decode": ["a"]}, ValueError, "to 0, .* decode. Got 3"),
        ({"decode": 3}, TypeError, "decode must be a tokenizer"),
        ({"decode": lambda token: None}, TypeError, "decode must return the text"),
    ],
)
def test_clear_errors_of_tokens(changed, error, message):
    with pytest.raises(error, match=message):
        feature_tokens(**({"codes": [[1.0]], "token_ids": [0]} | changed))
