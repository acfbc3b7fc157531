"""Tokens coloured by activation: what is drawn, and HTML that is safe and whole."""

import re
from html.parser import HTMLParser
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.base import BaseEstimator

from skfeat.capture import Capture
from skfeat.inspection import TokenActivationsDisplay
from skfeat.inspection._token_colors import ACTIVATION_STOPS, hex_colors, ink_on
from skfeat.inspection._token_text import token_texts, visible
from skfeat.language import activating_contexts

matplotlib.use("Agg")
import matplotlib.pyplot as plt

HOSTILE = [
    "<script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "'><img src=x>",
    "&lt;b&gt;",
    "</span></td></table>",
    "\x00\x1b[31m\x7f\x85",
    "\u202egnp.exe",
    "\ud800",
    "\n",
    " ",
    "",
    "$a_b$ \\frac",
    "日本語",
    "\u0301",
]
VOID = {"meta", "wbr"}


class Parsed(HTMLParser):
    """Checks that tags are balanced; collects tags, attributes and text."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.open, self.tags, self.attributes, self.text = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text.append(data)


def display(n=3, effects=True, **options):
    rng = np.random.default_rng(0)
    words = ["the", " old", " man", ",", " antidisestablishmentarianism", *HOSTILE]
    tokens = [[words[i] for i in rng.integers(0, len(words), 14)] for _ in range(n)]
    activations = [(rng.random(14) < 0.4) * rng.gamma(2, 2, 14) for _ in range(n)]
    changes = [rng.normal(size=14) for _ in range(n)]
    if n:
        changes[0][3] = np.nan
    options = {"labels": [f"{i}" for i in range(n)], "title": "of <b> & $x$"} | options
    return TokenActivationsDisplay(
        tokens=tokens,
        activations=activations,
        effects=changes if effects else None,
        **options,
    )


def boxes_of(collection):
    """Return left, bottom, right and top of boxes."""
    corners = np.array([path.vertices for path in collection.get_paths()])
    return np.hstack([corners.min(axis=1), corners.max(axis=1)])


def overlaps(boxes):
    a, b = boxes[:, None], boxes[None]
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    both = (width > 1e-6) & (height > 1e-6)
    return both[~np.eye(len(boxes), dtype=bool)].any()


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("effects", [True, False])
def test_boxes_hold_their_texts_and_do_not_overlap(effects, own):
    ax = None if own else plt.subplots(figsize=(5, 3), dpi=130)[1]
    drawn = display(effects=effects).plot(ax=ax)
    assert own or drawn.ax_ is ax
    assert drawn.figure_ is drawn.ax_.figure
    boxes = boxes_of(drawn.boxes_)
    n_tokens = 3 * 14
    assert len(boxes) == n_tokens
    assert len(drawn.texts_) == n_tokens + 3
    every = boxes
    if effects:
        assert len(drawn.effect_boxes_.get_paths()) == n_tokens
        every = np.vstack([boxes, boxes_of(drawn.effect_boxes_)])
    else:
        assert drawn.effect_boxes_ is None
    assert not overlaps(every)
    (left, right), (bottom, top) = drawn.ax_.get_xlim(), drawn.ax_.get_ylim()
    assert every[:, [0, 1]].min() >= min(left, bottom) - 1e-6
    assert (every[:, 2] <= right + 1e-6).all()
    assert (every[:, 3] <= top + 1e-6).all()
    drawn.figure_.draw_without_rendering()
    to_data = drawn.ax_.transData.inverted()
    tokens = [text for text in drawn.texts_ if text.get_ha() == "center"]
    for text, box in zip(tokens, boxes, strict=True):
        extent = text.get_window_extent().transformed(to_data)
        assert box[0] <= extent.x0 + 0.5
        assert extent.x1 - 0.5 <= box[2]
        assert box[1] < (extent.y0 + extent.y1) / 2 < box[3]
    assert len(drawn.colorbars_) == 1 + effects


def test_colours_are_those_of_the_values():
    drawn = display().plot()
    values = np.concatenate(drawn.activations)
    assert_allclose(drawn.boxes_.get_array(), values)
    assert drawn.boxes_.get_clim() == (0, values.max())
    effects = np.concatenate(drawn.effects)
    low, high = drawn.effect_boxes_.get_clim()
    assert low == -high
    assert high == np.abs(effects[~np.isnan(effects)]).max()
    assert drawn.effect_boxes_.get_array().mask.sum() == 1
    drawn.figure_.draw_without_rendering()
    expected = hex_colors(ACTIVATION_STOPS, values / values.max())
    for face, color in zip(drawn.boxes_.get_facecolor(), expected, strict=True):
        assert_allclose(face[:3], matplotlib.colors.to_rgb(color), atol=0.02)


def test_styles():
    drawn = display().plot(
        cmap="Purples",
        effect_cmap=matplotlib.colormaps["PuOr"],
        vmax=3.0,
        effect_vmax=0.5,
        colorbar=False,
        font_size=7,
        text_kw={"color": "red", "fontweight": "bold"},
        box_kw={"linewidths": 2.0},
    )
    assert drawn.boxes_.get_cmap().name == "Purples"
    assert drawn.effect_boxes_.get_cmap().name == "PuOr"
    assert drawn.boxes_.get_clim() == (0, 3)
    assert drawn.effect_boxes_.get_clim() == (-0.5, 0.5)
    assert drawn.colorbars_ == []
    assert {text.get_color() for text in drawn.texts_} == {"red"}
    assert {text.get_fontsize() for text in drawn.texts_} == {7.0}
    assert drawn.boxes_.get_linewidth() == [2.0]
    clipped = display().plot(vmax=3.0, effect_vmax=100.0)
    assert [bar.extend for bar in clipped.colorbars_] == ["max", "neither"]


def test_text_shrinks_to_fit_and_long_tokens_are_cut():
    ax = plt.subplots(figsize=(2.5, 1.5))[1]
    drawn = display(2).plot(ax=ax, font_size=12)
    assert {text.get_fontsize() for text in drawn.texts_}.pop() < 6
    ax = plt.subplots(figsize=(2, 2))[1]
    long = TokenActivationsDisplay(tokens=[["W" * 80, "b"]], activations=[[1.0, 0.0]])
    texts = [text.get_text() for text in long.plot(ax=ax).texts_]
    assert re.fullmatch("W{3,40}…", texts[0])
    assert texts[1] == "b"
    assert not overlaps(boxes_of(long.boxes_))


def test_nothing_to_draw():
    drawn = display(0).plot()
    assert drawn.ax_.texts[0].get_text() == "never active"
    assert "never active" in Parsed(display(0).to_html()).text
    silent = TokenActivationsDisplay(tokens=[["a"]], activations=[[0.0]]).plot()
    assert silent.boxes_.get_clim() == (0, 1)


def test_figures_and_settings_are_left_alone():
    before = dict(matplotlib.rcParams)
    ax = plt.subplots()[1]
    display().plot(ax=ax)
    assert len(plt.get_fignums()) == 1
    display().to_html()
    assert len(plt.get_fignums()) == 1
    assert dict(matplotlib.rcParams) == before


# HTML


def test_html_is_balanced_escaped_and_needs_nothing(tmp_path):
    path = tmp_path / "page.html"
    shown = display()
    shown.save(path)
    page = path.read_text(encoding="utf-8")
    for html in (shown.to_html(), shown._repr_html_(), page):
        parsed = Parsed(html)
        assert not {"script", "img", "link", "iframe", "b>"} & set(parsed.tags)
        names = {name for name, _ in parsed.attributes}
        assert names <= {
            "class",
            "style",
            "title",
            "lang",
            "charset",
            "name",
            "content",
        }
        assert "http" not in html
        assert "url(" not in html
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800]", html)
        boxes = [v for n, v in parsed.attributes if (n, v) == ("class", "t")]
        assert len(boxes) == 3 * 14
        for row in shown.tokens:
            assert set(map(visible, row)) <= set(parsed.text)
        assert "of <b> & $x$" in parsed.text
    assert page.startswith("<!DOCTYPE html>")
    assert ("charset", "utf-8") in Parsed(page).attributes


def test_tooltips_tell_the_numbers():
    html = TokenActivationsDisplay(
        tokens=[[" old", "\n"]],
        activations=[[9.4, 0.0]],
        effects=[[np.nan, -5.5]],
        effect_name="effect on the logit",
    ).to_html()
    titles = [value for name, value in Parsed(html).attributes if name == "title"]
    assert titles == [
        "·old: activation 9.4, effect on the logit unknown",
        "⏎: activation 0, effect on the logit -5.5",
    ]


def test_ink_contrasts_with_every_colour():
    for color in hex_colors(ACTIVATION_STOPS, np.linspace(0, 1, 50)):

        def luminance(rgb):
            rgb = np.array(matplotlib.colors.to_rgb(rgb))
            linear = np.where(
                rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4
            )
            return linear @ [0.2126, 0.7152, 0.0722]

        high, low = sorted([luminance(color), luminance(ink_on(color))], reverse=True)
        assert (high + 0.05) / (low + 0.05) > 4.5  # WCAG 2, level AA
    assert hex_colors(ACTIVATION_STOPS, [0.0, 1.0, np.nan]) == [
        "#ffffff",
        "#00441b",
        "#e4e4e4",
    ]


@given(text=st.text())
def test_whatever_the_text_it_shows_and_is_whole(text):
    shown = visible(text)
    assert shown
    assert shown.isprintable() or any(ord(c) > 0x7F for c in shown)
    assert not set(shown) & set(map(chr, [*range(33), *range(0x7F, 0xA1)]))
    html = TokenActivationsDisplay(tokens=[[text]], activations=[[1.0]]).to_html()
    assert shown in Parsed(html).text


# From contexts, transformers and tokenizers


class Coder(BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        return np.maximum(X, 0)


def rows():
    rng = np.random.default_rng(0)
    return Capture(
        activations={"a": rng.normal(size=(200, 3)), "b": rng.normal(size=(200, 2))},
        sequence=np.repeat(np.arange(10), 20),
        position=np.tile(np.arange(20), 10),
        token_ids=rng.integers(0, 30, 200),
    )


def test_from_estimator_shows_what_contexts_found():
    capture, words = rows(), [f" w{i}" for i in range(30)]
    options = {"n_top": 2, "n_strata": 2, "before": 3, "after": 2, "random_state": 1}
    shown = TokenActivationsDisplay.from_estimator(
        Coder(), capture, 1, decode=words, module="a", title="one", **options
    )
    contexts = activating_contexts(
        np.maximum(capture.activations["a"][:, 1], 0),
        capture.sequence,
        capture.position,
        capture.token_ids,
        **options,
    )
    again = TokenActivationsDisplay.from_contexts(contexts, words.__getitem__)
    assert shown.tokens == again.tokens
    assert shown.tokens[0] == [words[token] for token in contexts.tokens[0]]
    assert shown.labels == again.labels
    assert shown.labels[0] == f"{contexts.activations[0].max():.3g}"
    assert not hasattr(shown, "figure_")
    assert len(shown.plot().texts_) == sum(map(len, contexts.tokens)) + 4
    with_effects = contexts.with_effects([0.5], [0], [0])
    assert len(TokenActivationsDisplay.from_contexts(with_effects, words).effects) == 4


def test_tokenizers():
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False
    )
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|end|>"], show_progress=False
    )
    tokenizer.train_from_iterator(["the old man and the old sea\n" * 20], trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    ids = tokenizer.encode("the old sea\n").ids
    for one in (tokenizer, fast):
        texts = token_texts(one, [*ids, 0])
        assert "".join(texts[i] for i in ids) == "the old sea\n"
        assert texts[0] == "<|end|>"

    class SentencePiece:
        def decode(self, ids):
            return "old"

        def convert_ids_to_tokens(self, token):
            return "▁old" if token else "old"

    assert token_texts(SentencePiece(), [0, 1]) == {0: "old", 1: " old"}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tokens": ["ab"]}, "^tokens must be"),
        ({"tokens": [[1, 2]]}, "^tokens must be"),
        ({"activations": [[1.0]]}, "^activations must be"),
        ({"activations": [[1.0, np.nan]]}, "^activations must be"),
        ({"activations": [["a", "b"]]}, "^activations must be"),
        ({"effects": [[1.0, np.inf]]}, "^effects must be"),
        ({"effects": []}, "^effects must be"),
        ({"labels": "a"}, "^labels must be"),
        ({"activations": [[1.0]]}, r"Got arrays of shapes \[\(1,\)\] for"),
        ({"title": 3}, "^title must be a str or None. Got 3"),
        ({"effect_name": None}, "^effect_name must be a str. Got"),
    ],
)
def test_clear_errors(changed, message):
    good = {"tokens": [["a", "b"]], "activations": [[1.0, 0.0]]}
    wrong = TokenActivationsDisplay(**(good | changed))
    with pytest.raises(ValueError, match=message):
        wrong.to_html()
    with pytest.raises(ValueError, match=message):
        wrong.plot()


def test_a_figure_that_cannot_be_drawn_is_closed(monkeypatch):
    def fail(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(TokenActivationsDisplay, "_draw", fail)
    with pytest.raises(KeyboardInterrupt):
        display().plot()
    assert plt.get_fignums() == []
    _, ax = plt.subplots()
    with pytest.raises(KeyboardInterrupt):
        display().plot(ax=ax)
    assert plt.get_fignums() == [ax.figure.number]
    plt.close(ax.figure)


def test_of_long_tokens_the_start_is_drawn():
    tokens = [["-" * 120, "x" * 40, "y" * 41]]
    shown = TokenActivationsDisplay(tokens=tokens, activations=[[1.0, 0.0, 2.0]])
    texts = [text.get_text() for text in shown.plot().texts_]
    assert texts == ["-" * 39 + "…", "x" * 40, "y" * 39 + "…"]
    assert "-" * 120 in shown.to_html()
    plt.close(shown.figure_)


def test_ticks_of_small_colour_bars_do_not_touch():
    figure, ax = plt.subplots(figsize=(2.5, 1.5), dpi=90)
    tokens, values = [[" word"] * 30], [np.linspace(0, 1, 30)]
    shown = TokenActivationsDisplay(
        tokens=tokens, activations=values, effects=[2 * values[0] - 1]
    ).plot(ax=ax)
    figure.draw_without_rendering()
    labels = [
        label.get_window_extent()
        for bar in shown.colorbars_
        for label in bar.ax.get_xticklabels()
        if bar.vmin <= label.get_position()[0] <= bar.vmax
    ]
    assert len(labels) >= 4
    for left, right in pairwise(labels):
        assert right.x0 - left.x1 > 0.4 * left.height
    plt.close(figure)


def test_clear_errors_of_plot_and_of_captures():
    for option in ({"vmax": 0}, {"effect_vmax": -1.0}, {"font_size": 0}):
        with pytest.raises(ValueError, match=f"^{next(iter(option))} must be"):
            display().plot(**option)
    for option in (
        {"ax": 3},
        {"ax": [3]},
        {"cmap": "nope"},
        {"effect_cmap": 4},
        *({name: value} for name in ("text_kw", "box_kw") for value in (3, {"no": 1})),
    ):
        with pytest.raises(ValueError, match=f"^{next(iter(option))} must be .* Got"):
            display().plot(**option)
    assert plt.get_fignums() == []
    with pytest.raises(TypeError, match=r"path must be a path.* Got 3 instead"):
        display().save(3)
    create = TokenActivationsDisplay.from_estimator
    with pytest.raises(TypeError, match="capture must be a"):
        create(Coder(), 3, 0, decode=str)
    with pytest.raises(ValueError, match=r"^module must be one of 'a', 'b'"):
        create(Coder(), rows(), 0, decode=str)
    capture = Capture({"a": np.eye(2)}, np.zeros(2, int), np.arange(2))
    with pytest.raises(ValueError, match="must hold token ids"):
        create(Coder(), capture, 0, decode=str)
    contexts = activating_contexts([1.0], [0], [0], [0])
    with pytest.raises(ValueError, match=r"^labels must be"):
        TokenActivationsDisplay.from_contexts(contexts, str, labels="all")
