"""Token texts with their invisible characters made visible and harmless."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from skfeat.inspection._token_pieces import has_pieces, text_or_bytes, token_reader
from skfeat.utils._warnings import warn

# Symbols that the fonts of matplotlib and of browsers have.
_SYMBOLS = {" ": "·", "\n": "⏎", "\t": "⇥", "": "∅"}
# Control and format characters, lone surrogates, private and unassigned ones, and
# separators other than the plain space: all are invisible, and some reorder a line.
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}
# Characters of other categories that leave no mark: variation selectors, fillers, the
# grapheme joiner and the blank of Braille.
_BLANK = {
    *map(chr, range(0xFE00, 0xFE10)),
    *map(chr, range(0xE0100, 0xE01F0)),
    *map(chr, range(0x180B, 0x1810)),
    *"\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0",
}
_CONTINUED = "←"  # in place of a part of a character that an earlier token shows
_NOT_UTF8 = range(0xDC80, 0xDD00)  # where "surrogateescape" puts bytes


class ShownToken(NamedTuple):
    """What the box of a token shows, and what its tooltip calls it."""

    text: str
    name: str


def visible(text: str | bytes) -> str:
    r"""Return a token's text with its spaces and control characters visible.

    Of bytes, those that are no whole character are shown by their codes.

    Examples
    --------
    >>> from skfeat.inspection._token_text import visible
    >>> visible(" old"), visible("\n\x00"), visible(b" \xc3")
    ('·old', '⏎\\x00', '·\\xc3')
    """
    if not text:
        return _SYMBOLS[""]
    if isinstance(text, bytes):
        return _joined(map(_visible_of_bytes, _characters([text])))
    return _joined(map(_visible_character, text))


def visible_passage(tokens: Sequence[str | bytes]) -> list[ShownToken]:
    r"""Return what is shown of tokens that follow each other.

    Where neighbouring bytes make a character, the token of its first byte shows it, and
    an arrow stands for its other bytes in the tokens that hold them.

    Examples
    --------
    >>> from skfeat.inspection._token_text import visible_passage
    >>> shown = visible_passage(["caf", b"\xc3", b"\xa9", b"\xa9"])
    >>> [token.text for token in shown]
    ['caf', 'é', '←', '\\xa9']
    >>> shown[2].name
    '\\xa9, part of é'
    """
    shown: list[ShownToken] = []
    for kind, run in groupby(tokens, type):
        if issubclass(kind, bytes):
            shown += _visible_bytes([part for part in run if isinstance(part, bytes)])
        else:
            shown += [ShownToken(text, text) for text in map(visible, run)]
    return shown


def _visible_bytes(parts: list[bytes]) -> list[ShownToken]:
    token_of_byte = [i for i, part in enumerate(parts) for _ in part]
    texts: list[list[str]] = [[] for _ in parts]
    shared: list[list[str]] = [[] for _ in parts]
    start = 0
    for character in _characters(parts):
        size = 1 if ord(character) in _NOT_UTF8 else len(character.encode())
        first, *others = dict.fromkeys(token_of_byte[start : start + size])
        shown = _visible_of_bytes(character)
        texts[first].append(shown)
        for token in others:
            texts[token].append(_CONTINUED)
        for token in (first, *others) if others else ():
            shared[token].append(shown)
        start += size
    return [
        ShownToken(
            _joined(text) or visible(b""),
            visible(part) + (f", part of {_joined(whole)}" if whole else ""),
        )
        for part, text, whole in zip(parts, texts, shared, strict=True)
    ]


def _characters(parts: list[bytes]) -> str:
    """Decode joined bytes; those that make no character become lone surrogates."""
    return b"".join(parts).decode("utf-8", "surrogateescape")


def _joined(characters: Iterable[str]) -> str:
    shown = "".join(characters)
    # A combining accent needs a base, or it would join the character before it.
    is_mark = shown and unicodedata.category(shown[0]).startswith("M")
    return f"◌{shown}" if is_mark else shown


def _visible_of_bytes(character: str) -> str:
    if ord(character) in _NOT_UTF8:
        return f"\\x{ord(character) - 0xDC00:02x}"
    return _visible_character(character)


def _visible_character(character: str) -> str:
    if character in _SYMBOLS:
        return _SYMBOLS[character]
    is_invisible = unicodedata.category(character) in _INVISIBLE
    if not is_invisible and character not in _BLANK:
        return character
    return code_of(character)


def code_of(character: str) -> str:
    r"""Return the code of a character, such as ``\u65e5``.

    Examples
    --------
    >>> from skfeat.inspection._token_text import code_of
    >>> code_of("\x05"), code_of("\u65e5")
    ('\\x05', '\\u65e5')
    """
    code = ord(character)
    # From 128 on, \x is for bytes alone: U+0085 is not the byte 0x85.
    if code < 128:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def token_texts(decode: Any, token_ids: Iterable[int]) -> dict[int, str | bytes]:
    """Return the text of each token that occurs, or its bytes if it is no whole text.

    Parameters
    ----------
    decode : tokenizer, callable or sequence of str
        A tokenizer whose method ``decode`` takes a list of ids, as those of
        transformers and tokenizers do; or a function of one id; or the texts by id.
        Texts may be bytes.
    token_ids : iterable of int

    Returns
    -------
    dict of int to str or bytes

    Warns
    -----
    UserWarning
        If several tokens have the same text with U+FFFD in it, as the parts of
        characters have that are decoded one by one.

    Raises
    ------
    TypeError
        If `decode` is none of these, or does not return a text.
    ValueError
        If a token is negative, or beyond the end of a sequence of texts.
    """
    text_of = _text_of(decode)
    texts: dict[int, str | bytes] = {}
    tokens = sorted({int(token) for token in token_ids})
    # Checked here, as a negative index would count from the end of a list.
    n_texts = len(decode) if isinstance(decode, list | tuple) else math.inf
    if tokens and (tokens[0] < 0 or tokens[-1] >= n_texts):
        most = "0 or more" if n_texts == math.inf else f"from 0 to {n_texts - 1}"
        place = "" if n_texts == math.inf else ", places in the texts of decode"
        got = tokens[0] if tokens[0] < 0 else tokens[-1]
        raise ValueError(f"token_ids must be {most}{place}. Got {got} instead.")
    for token in tokens:
        text = text_of(token)
        if not isinstance(text, str | bytes):
            raise TypeError(
                f"decode must return the text of a token, a str. For token {token} it "
                f"returned {text!r} instead."
            )
        texts[token] = text
    _warn_of_lost_bytes(texts)
    return texts


def _warn_of_lost_bytes(texts: dict[int, str | bytes]) -> None:
    lost = Counter(text for text in texts.values() if "\ufffd" in str(text))
    n_alike = sum(n for n in lost.values() if n > 1)
    if n_alike:
        warn(
            f"decode returns U+FFFD for {n_alike} tokens that are parts of characters, "
            "so they are shown alike: pass the tokenizer, or a function that returns "
            "the bytes of a token."
        )


def _text_of(decode: Any) -> Callable[[int], Any]:
    owner = getattr(decode, "__self__", None)
    # The method of a tokenizer stands for it: alone it has lost the bytes.
    if getattr(decode, "__name__", "").lower() == "decode" and has_pieces(owner):
        decode = owner
    if hasattr(decode, "decode") and not isinstance(decode, bytes | str):
        return token_reader(decode)
    if callable(decode):
        return lambda token: text_or_bytes(decode(token))
    if isinstance(decode, list | tuple):
        return lambda token: text_or_bytes(decode[token])
    raise TypeError(
        "decode must be a tokenizer, a function of a token id or a list of texts. Got "
        f"{decode!r} instead."
    )
