"""The page of a connection: every feature beside its inputs, safe and whole."""

import re

import matplotlib
import numpy as np
import pytest
from scipy import sparse

from skfeat import FeatureConnector
from skfeat.capture import Capture
from skfeat.inspection import TokenActivationsDisplay
from skfeat.language import (
    AblationEffect,
    ConnectionPage,
    activating_contexts,
    connection_page,
    find_connections,
    read_connection,
)
from tests.inspection.test_token_activations_display import HOSTILE, Parsed

matplotlib.use("Agg")
import matplotlib.pyplot as plt

WORDS = [f" {word}" for word in ["the", "former", "old", "young", "said", "man", "?"]]
WORDS += ["”", "\n", *HOSTILE]


@pytest.fixture(scope="module")
def text():
    """Features of words; the last input is "said" after a quote."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, len(WORDS), 8000)
    tokens[rng.random(8000) < 0.1] = 4
    after_quote = np.roll(tokens, 1) == 7
    said = tokens == 4
    X = np.column_stack(
        [*(tokens == i for i in (0, 1, 2, 3)), said, said & after_quote]
    )
    X = X * (1 + rng.random(X.shape))
    columns = [
        0.26 * X[:, 1] + 0.23 * X[:, 2] + 0.10 * X[:, 3],
        0.68 * X[:, 4] - 2 * X[:, 5],
    ]
    Y = np.maximum(np.column_stack(columns), 0)
    capture = Capture(
        {}, np.repeat(np.arange(80), 100), np.tile(np.arange(100), 80), tokens
    )
    connector = FeatureConnector(n_nonzero_coefs=[3, 2]).fit(X, Y)
    return connector, sparse.csr_array(X), sparse.csr_array(Y), capture


def test_the_article_s_connections_side_by_side(text, tmp_path):
    connector, X, Y, capture = text
    names = {
        "feature_names": [f"IF_{i}" for i in range(6)],
        "output_names": ["OF_30", "OF_505"],
    }
    found = find_connections(connector, X, Y, kind=["or", "and-not"], **names)
    page = connection_page(found, X, Y, capture, WORDS, title="<b>", random_state=0)
    first, second = page.sections
    assert first.names == ["OF_30", "IF_1", "IF_2", "IF_3"]
    assert first.labels == ["former/old/young", "former", "old", "young"]
    assert second.names[1:] in (["IF_4", "IF_5"], ["IF_5", "IF_4"])
    assert second.labels == ["said"] * 3
    titles = [display.title for display in first.displays]
    assert titles[:2] == ["output OF_30: former/old/young", "input IF_1: former"]
    contexts = activating_contexts(
        X[:, [1]],
        capture.sequence,
        capture.position,
        capture.token_ids,
        feature=0,
        n_top=3,
        n_strata=3,
        random_state=0,
    )
    expected = TokenActivationsDisplay.from_contexts(contexts, WORDS)
    assert first.displays[1].tokens == expected.tokens
    assert first.displays[1].labels == expected.labels

    page.save(tmp_path / "page.html")
    saved = (tmp_path / "page.html").read_text(encoding="utf-8")
    for html in (page.to_html(), page._repr_html_(), saved):
        parsed = Parsed(html)
        assert parsed.tags.count("h2") == 2
        assert parsed.tags.count("caption") == 4 + 3
        assert "script" not in parsed.tags
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800]", html)
        text_of_page = "".join(parsed.text)
        for connection in found:
            assert connection.formula in text_of_page
            assert connection.logic.formula in text_of_page
        assert "*(former) OR " in text_of_page
        assert "*(said) AND NOT " in text_of_page
        assert parsed.tags.count("table") == 2 * 2 + 4 + 3
        for name in ("score", "f1", "r2", "f1_shuffled"):
            assert f"{found[0][name]:.3g}" in parsed.text
        assert "with the rows of the output shuffled" in text_of_page
        assert "no higher than chance" not in text_of_page
        for one in found[0].logic.inputs:
            assert f"{one['weight']:.3g}" in parsed.text
    assert Parsed(saved).text.count("<b>") == 2  # title and heading


def test_effects_are_asked_for_and_shown(text):
    connector, X, Y, capture = text
    asked = []

    def effects(side, feature, sequences):
        asked.append((side, feature))
        here = np.isin(capture.sequence, sequences)
        rows = [
            c[here] for c in (capture.sequence, capture.position, capture.token_ids)
        ]
        values = -rows[1] / 10.0
        return AblationEffect(values, 2 * values, values, *rows)

    found = read_connection(connector, 0, X, Y)
    page = connection_page(
        [found, found], X, Y, capture, WORDS, effects=effects, n_inputs=2, n_strata=0
    )
    assert sorted(asked) == [("input", 1), ("input", 2), ("output", 0)]
    section = page.sections[0]
    assert len(section.displays) == 3
    assert len(section.labels) == len(section.names) == 4
    for display in section.displays:
        for effect in display.effects:
            np.testing.assert_allclose(np.diff(effect), -0.1)
            assert (effect <= 0).all()


@pytest.mark.parametrize("words", [WORDS, ["ab"] * len(WORDS)], ids=["long", "short"])
def test_figure(text, words):
    connector, X, Y, capture = text
    found = [read_connection(connector, i, X, Y) for i in (0, 1)]
    sizes = {"n_top": 2, "n_strata": 1, "random_state": 0}
    page = connection_page(found, X, Y, capture, words, **sizes)
    figure = page.plot(1, width=7, font_size=8)
    axes = [
        ax for ax in figure.axes if ax.get_title(loc="left").startswith(("in", "out"))
    ]
    assert [ax.get_title(loc="left")[:5] for ax in axes] == ["outpu", "input", "input"]
    assert figure.get_figwidth() == 7
    assert "AND NOT" in figure.get_suptitle()
    # High enough for all, at the size that was asked for.
    assert min(text.get_fontsize() for text in axes[0].texts) == 8
    figure.draw_without_rendering()
    # What is drawn fills its axes, down to the labels of the colour bar.
    for ax in axes:
        bottom = ax.child_axes[0].get_tightbbox().y0 - ax.get_window_extent().y0
        assert 0 < bottom * 72 / figure.dpi < 16
    plt.close(figure)
    assert plt.get_fignums() == []
    with pytest.raises(ValueError, match="index must be an int from 0 to 1"):
        page.plot(2)


def test_nothing_found_and_a_silent_output(text):
    connector, X, Y, capture = text
    page = connection_page([], X, Y, capture, WORDS)
    assert Parsed(page.to_html()).tags == ["h1", "p"]
    silent = sparse.csr_array(Y.shape)
    found = read_connection(connector, 0, X, silent)
    page = connection_page(found, X, silent, capture, WORDS)
    assert found.kind == "none"
    parsed = Parsed(page.to_html())
    assert "never active" in parsed.text
    assert any("It never fires" in part for part in parsed.text)
    assert "The score is no higher than chance gives." in parsed.text


def test_clear_errors(text):
    connector, X, Y, capture = text
    found = read_connection(connector, 0, X, Y)
    with pytest.raises(ValueError, match="X must have 8000 rows"):
        connection_page(found, X[:-1], Y, capture, WORDS)
    with pytest.raises(ValueError, match="n_inputs must be an int"):
        connection_page(found, X, Y, capture, WORDS, n_inputs=-1)
    bare = Capture({}, capture.sequence, capture.position)
    with pytest.raises(ValueError, match="capture must hold token ids"):
        connection_page(found, X, Y, bare, WORDS)
    with pytest.raises(TypeError, match=r"capture must be a .*Capture. Got None"):
        connection_page(found, X, Y, None, WORDS)
    for connections in (3, [3], {"a": found}, "abc"):
        with pytest.raises(TypeError, match="connections must be what find_connect"):
            connection_page(connections, X, Y, capture, WORDS)
    for option in ({"effects": 3}, {"title": 3}, {"effects": lambda *args: None}):
        with pytest.raises(TypeError, match=f"{next(iter(option))} must .* Got"):
            connection_page(found, X, Y, capture, WORDS, **option)
    page = connection_page(found, X, Y, capture, WORDS, n_top=1, n_strata=0)
    for option in ({"width": 0}, {"font_size": -1}):
        with pytest.raises(ValueError, match=f"^{next(iter(option))} must be"):
            page.plot(**option)
    assert plt.get_fignums() == []
    with pytest.raises(TypeError, match=r"path must be a path.* Got 3 instead"):
        ConnectionPage([], "empty").save(3)
    with pytest.raises(ValueError, match="there is no connection to draw"):
        ConnectionPage([], "empty").plot()
