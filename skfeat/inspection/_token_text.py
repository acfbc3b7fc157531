"""Tokens written so that everything in them can be seen, and does nothing."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any

# In what the fonts of matplotlib and of browsers both have.
_SYMBOLS = {" ": "·", "\n": "⏎", "\t": "⇥", "": "∅"}
# Control and format characters, lone surrogates, private and unassigned ones, and
# separators other than the plain space: none of them shows, some reorder a line.
_UNSEEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs"}
_WORD_START = "▁"  # what SentencePiece writes for a space


def visible(text: str) -> str:
    r"""Return a token's text with its spaces and control characters to be seen.

    Examples
    --------
    >>> from skfeat.inspection._token_text import visible
    >>> visible(" old"), visible("\n\x00")
    ('·old', '⏎\\x00')
    """
    if not text:
        return _SYMBOLS[""]
    shown = "".join(map(_visible_character, text))
    # An accent by itself would sit on what stands before it.
    return f"◌{shown}" if unicodedata.combining(shown[0]) else shown


def _visible_character(character: str) -> str:
    if character in _SYMBOLS:
        return _SYMBOLS[character]
    if unicodedata.category(character) not in _UNSEEN:
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def token_texts(decode: Any, token_ids: Iterable[int]) -> dict[int, str]:
    """Return the text of each token that occurs.

    Parameters
    ----------
    decode : tokenizer, callable or sequence of str
        With a method ``decode`` that takes a list of ids, as those of transformers
        and tokenizers; or a function of one id; or the texts by id.
    token_ids : iterable of int

    Returns
    -------
    dict of int to str

    Raises
    ------
    TypeError
        If `decode` is none of these, or gives no text.
    ValueError
        If a token is negative, or is not in a sequence of texts.
    """
    text_of = _text_of(decode)
    texts: dict[int, str] = {}
    tokens = sorted({int(token) for token in token_ids})
    # A list would count from its end.
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
                f"decode must give the text of a token, a str. For token {token} it "
                f"gives {text!r}."
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
        f"decode must be a tokenizer, a function of a token id or a list of texts. Got "
        f"{decode!r} instead."
    )


def _decoded(tokenizer, token: int) -> str:
    text = tokenizer.decode([token])
    if not text and hasattr(tokenizer, "id_to_token"):  # of a special token
        return tokenizer.id_to_token(token)
    # SentencePiece drops the space of a word that stands alone.
    if hasattr(tokenizer, "convert_ids_to_tokens"):
        piece = tokenizer.convert_ids_to_tokens(token)
        starts = isinstance(piece, str) and piece.startswith(_WORD_START)
        if starts and isinstance(text, str) and not text.startswith(" "):
            return f" {text}"
    return text
