"""Tokens that are parts of a character: their bytes, and the characters they make."""

import re
from itertools import pairwise

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skfeat.inspection import TokenActivationsDisplay
from skfeat.inspection._token_text import token_texts, visible, visible_passage
from skfeat.language import activating_contexts, feature_tokens
from tests.inspection.test_token_activations_display import Parsed

matplotlib.use("Agg")
import matplotlib.pyplot as plt

TEXT = "é 日 😀\n\ufffd e\u0301 👩\u200d🔬 שלום"


def byte_level():
    tokenizers = pytest.importorskip("tokenizers")
    level = tokenizers.pre_tokenizers.ByteLevel
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = level(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=270,
        initial_alphabet=level.alphabet(),
        special_tokens=["<s>", "<|à|>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator([" —", " —", "plain plain"], trainer)
    return tokenizer


def byte_fallback():
    tokenizers = pytest.importorskip("tokenizers")
    models, decoders = tokenizers.models, tokenizers.decoders
    normalizers = tokenizers.normalizers
    pieces = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces += ["▁", "▁▁", "▁old", "old", "�", "▁�"]
    model = models.BPE(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=[],
        byte_fallback=True,
        unk_token="<unk>",
    )
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)])
    return tokenizer


def fast(tokenizer):
    transformers = pytest.importorskip("transformers")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def shown_of(decode, ids):
    texts = token_texts(decode, ids)
    return [token.text for token in visible_passage([texts[i] for i in ids])]


@given(
    text=st.text(st.characters(exclude_characters="←", exclude_categories=["Cs"])),
    cuts=st.lists(st.integers(0, 60)),
)
def test_however_a_text_is_cut_its_characters_are_shown(text, cuts):
    raw = text.encode()
    ends = sorted({0, *(cut for cut in cuts if cut < len(raw)), len(raw)})
    tokens = [raw[a:b] for a, b in pairwise(ends)]
    shown = [token.text for token in visible_passage(tokens)]
    assert len(shown) == len(tokens)
    joined = "".join(shown).replace("←", "").replace("◌", "")
    assert joined == "".join(map(visible, text)).replace("◌", "")
    # Alone, every part of a character is told apart and none is U+FFFD.
    parts = {part for part in tokens if b"\xef\xbf\xbd" not in part}
    assert len({visible(part) for part in parts}) == len(parts)
    assert not any("\ufffd" in visible(part) for part in parts)


def test_bytes_that_make_no_character_are_shown_by_their_codes():
    tokens = [b"\xa5", " a", b"\xe6", b"\x97", "b", b"\xc3", b"\xc3\xa9\xe6", b"\x97"]
    shown = visible_passage([*tokens, b"\xa5", b"\xed\xa0\x80"])
    assert [token.text for token in shown] == [
        *("\\xa5", "·a", "\\xe6", "\\x97", "b", "\\xc3"),
        *("é日", "←", "←", "\\xed\\xa0\\x80"),
    ]
    assert shown[7].name == "\\x97, part of 日"
    assert shown[6].name == "é\\xe6, part of 日"
    assert shown[0].name == "\\xa5"


def test_invisible_characters_are_told_apart_from_bytes():
    tokens = ["\x85", b"\x85", "\xa0", b"\xa0", "\x05", "\ufe0f", "\u3164"]
    assert [visible(token) for token in [*tokens, "\U000e0100"]] == [
        *("\\u0085", "\\x85", "\\u00a0", "\\xa0", "\\x05"),
        *("\\ufe0f", "\\u3164", "\\U000e0100"),
    ]
    # Vowel signs need a base as accents do, though their combining class is zero.
    assert visible("\u0902") == "◌\u0902"
    assert visible_passage([b"\xcc", b"\x81"])[0].text == "◌\u0301"


@pytest.mark.parametrize("wrap", [lambda t: t, fast], ids=["tokenizers", "fast"])
@pytest.mark.parametrize("make", [byte_level, byte_fallback])
def test_byte_tokenizers(make, wrap):
    tokenizer = make()
    ids = tokenizer.encode(TEXT).ids
    decode = wrap(tokenizer)
    for one in (decode, decode.decode):
        joined = "".join(shown_of(one, ids))
        characters = "".join(map(visible, TEXT))
        assert joined.replace("←", "").replace("◌", "") == characters.replace("◌", "")
    labels = feature_tokens(np.eye(len(ids)), ids, decode).labels
    assert len(set(labels)) == len(set(ids))
    assert not any("\ufffd" in label for label in labels if label != "�")
    assert labels[0] == "\\xc3"
    assert labels[1] == "\\xa9"


def test_added_tokens_are_texts_and_not_bytes():
    tokenizer = byte_level()
    tokenizer.add_tokens(["日本", "naïve"])
    for one in (tokenizer, fast(tokenizer)):
        for text in ("日本", "naïve", "<|à|>", "<s>"):
            token = tokenizer.token_to_id(text)
            assert token_texts(one, [token]) == {token: text}


def test_spaces_before_words_and_true_replacement_characters():
    tokenizer = byte_fallback()
    pieces = ["▁", "▁▁", "▁old", "old", "�", "▁�", "<0x41>", "<0x0A>", "<s>"]
    ids = [tokenizer.token_to_id(piece) for piece in pieces]
    expected = [" ", "  ", " old", "old", "�", " �", "A", "\n", "<s>"]
    for one in (tokenizer, fast(tokenizer)):
        assert list(map(token_texts(one, ids).get, ids)) == expected
    true = byte_level()
    ids = true.encode("\ufffd").ids
    assert shown_of(true, ids) == ["\ufffd", *"←" * (len(ids) - 1)]


def test_bytes_tokenizer_of_transformers():
    transformers = pytest.importorskip("transformers")
    tokenizer = transformers.ByT5Tokenizer()
    ids = tokenizer("é日a").input_ids
    assert shown_of(tokenizer, ids) == ["é", "←", "日", "←", "←", "a", "</s>"]


def test_word_pieces_stay_as_they_are():
    tokenizers = pytest.importorskip("tokenizers")
    words = ["[UNK]", "play", "##ing", "Ã", "é", "##\u0301", "Ġ"]
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(
            vocab={word: i for i, word in enumerate(words)}, unk_token="[UNK]"
        )
    )
    tokenizer.decoder = tokenizers.decoders.WordPiece()
    texts = token_texts(tokenizer, range(len(words)))
    assert list(texts.values()) == words


class SentencePiece:
    """As `sentencepiece.SentencePieceProcessor`."""

    pieces = ("<0xC3>", "<0xA9>", "▁old", "<0x>")

    def Decode(self, ids):
        return "".join(
            "\ufffd" if i < 2 else self.pieces[i].replace("▁", "") for i in ids
        )

    decode = Decode

    def id_to_piece(self, token):
        return self.pieces[token]


class Tiktoken:
    parts = (b"\xc3", b"\xa9", b" old", b"<|end|>")

    def decode(self, ids):
        return b"".join(self.parts[i] for i in ids).decode(errors="replace")

    def decode_single_token_bytes(self, token):
        return self.parts[token]


class Clip:
    """Marks the end of a word, as the tokenizer of CLIP."""

    pieces = ("Ã", "©</w>", "old</w>", "old")

    def decode(self, ids):
        text = "".join(self.pieces[i] for i in ids).removesuffix("</w>")
        return "\ufffd" if ids[0] < 2 else text

    def convert_ids_to_tokens(self, token):
        return self.pieces[token]


@pytest.mark.parametrize(
    ("tokenizer", "last"),
    [
        (SentencePiece(), [" old", "<0x>"]),
        (SentencePiece().decode, [" old", "<0x>"]),
        (Tiktoken(), [" old", "<|end|>"]),
        (Clip(), ["old", "old"]),
        ([b"\xc3", b"\xa9", " old", b"old"], [" old", "old"]),
        (Tiktoken.parts.__getitem__, [" old", "<|end|>"]),
    ],
)
def test_other_tokenizers_functions_and_lists(tokenizer, last):
    texts = token_texts(tokenizer, range(4))
    assert list(texts.values()) == [b"\xc3", b"\xa9", *last]


def test_a_decode_of_ones_own_takes_one_id():
    class Vocabulary:
        def decode(self, token):
            return ["a", "b"][token]

    assert token_texts(Vocabulary().decode, [0, 1]) == {0: "a", 1: "b"}


def test_lost_bytes_are_warned_of():
    def decode(token):
        return Tiktoken().decode([token])

    with pytest.warns(UserWarning, match="returns U.FFFD for 2 tokens .*: pass the"):
        assert token_texts(decode, range(3))[1] == "\ufffd"
    assert token_texts(["\ufffd", " \ufffd"], [0, 1]) == {0: "\ufffd", 1: " \ufffd"}


def test_a_passage_shows_characters_and_each_part_keeps_its_colour(tmp_path):
    tokenizer = byte_level()
    ids = np.array(tokenizer.encode("a é — <s>").ids)
    n = len(ids)
    contexts = activating_contexts(
        *(np.arange(1.0, n + 1), np.zeros(n, int), np.arange(n), ids),
        n_top=1,
        n_strata=0,
        before=n,
        after=n,
    )
    display = TokenActivationsDisplay.from_contexts(contexts, tokenizer)
    display.save(tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "\ufffd" not in page
    assert "<s>" not in page
    assert "&lt;s&gt;" in page
    parsed = Parsed(page)
    assert {"é", "←"} <= set(parsed.text)
    assert "—" in "".join(parsed.text)
    titles = [value for name, value in parsed.attributes if name == "title"]
    assert "\\xa9, part of é: activation 4" in titles
    colors = re.findall(r'<b style="background:(#\w+)', page)
    assert len(colors) == len(set(colors)) == n
    display.plot()
    texts = [text.get_text() for text in display.texts_]
    assert {"é", "←"} <= set(texts)
    assert "\ufffd" not in "".join(texts)
    assert display.boxes_.get_array().tolist() == list(range(1, n + 1))
    plt.close(display.figure_)
    with pytest.raises(ValueError, match="sequences of str or bytes"):
        TokenActivationsDisplay(tokens=[b"ab"], activations=[[1.0, 2.0]]).to_html()


def test_characters_that_the_font_lacks_are_told_apart():
    tokens = [["\U000f0001", "\u65e5", "\u672c"]]
    display = TokenActivationsDisplay(tokens=tokens, activations=[[0.0, 1.0, 2.0]])
    drawn = display.plot(text_kw={"family": "DejaVu Sans"})
    assert [text.get_text() for text in drawn.texts_] == [
        *("\\U000f0001", "\\u65e5", "\\u672c"),
    ]
    plt.close(drawn.figure_)
