"""Token texts with their invisible characters made visible and harmless."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

# Symbols that the fonts of matplotlib and of browsers have.
_SYMBOLS = {" ": "·", "\n": "⏎", "\t": "⇥", "": "∅"}
# Control and format characters, lone surrogates, private and unassigned ones, and
# separators other than the plain space: all are invisible, and some reorder a line.
_INVISIBLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}
_WORD_START = "▁"  # SentencePiece's sign for a space


def visible(text: str) -> str:
    r"""Return a token's text with its spaces and control characters visible.

    Examples
    --------
    >>> from skfeat.inspection._token_text import visible
    >>> visible(" old"), visible("\n\x00")
    ('·old', '⏎\\x00')
    """
    if not text:
        return _SYMBOLS[""]
    shown = "".join(map(_visible_character, text))
    # A combining accent needs a base, or it would join the character before it.
    return f"◌{shown}" if unicodedata.combining(shown[0]) else shown


def _visible_character(character: str) -> str:
    if character in _SYMBOLS:
        return _SYMBOLS[character]
    if unicodedata.category(character) not in _INVISIBLE:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def token_texts(decode: Any, token_ids: Iterable[int]) -> dict[int, str]:
    """Return the text of each token that occurs.

    Parameters
    ----------
    decode : tokenizer, callable or sequence of str
        A tokenizer whose method ``decode`` takes a list of ids, as those of
        transformers and tokenizers do; or a function of one id; or the texts by id.
    token_ids : iterable of int

    Returns
    -------
    dict of int to str

    Raises
    ------
    TypeError
        If `decode` is none of these, or does not return a text.
    ValueError
        If a token is negative, or beyond the end of a sequence of texts.
    """
    text_of = _text_of(decode)
    texts: dict[int, str] = {}
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
        if not isinstance(text, str):
            raise TypeError(
                f"decode must return the text of a token, a str. For token {token} it "
                f"returned {text!r} instead."
            )
        texts[token] = text
    return texts


def _text_of(decode: Any) -> Callable[[int], Any]:
    if hasattr(decode, "decode") and not isinstance(decode, bytes | str):
        return lambda token: _decoded(decode, token)
    if callable(decode):
        return decode
    if isinstance(decode, list | tuple):
        return lambda token: decode[token]
    raise TypeError(
        "decode must be a tokenizer, a function of a token id or a list of texts. Got "
        f"{decode!r} instead."
    )


def _decoded(tokenizer: Any, token: int) -> str:
    text = tokenizer.decode([token])
    if not text and hasattr(tokenizer, "id_to_token"):  # a special token
        return tokenizer.id_to_token(token)
    # SentencePiece drops the space before a single word.
    if hasattr(tokenizer, "convert_ids_to_tokens"):
        piece = tokenizer.convert_ids_to_tokens(token)
        starts = isinstance(piece, str) and piece.startswith(_WORD_START)
        if starts and isinstance(text, str) and not text.startswith(" "):
            return f" {text}"
    return text
