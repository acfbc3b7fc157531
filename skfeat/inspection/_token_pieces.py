"""The text of a token of a tokenizer, or its bytes where it is a part of a character.

A tokenizer decodes such a token alone to U+FFFD, or to nothing. Its piece, the spelling
in the vocabulary, still tells the bytes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

_SINGLE_BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")  # SentencePiece's byte fallback
_WORD_START = "▁"  # SentencePiece's sign for a space
_WORD_END = "</w>"  # BPE's sign for the end of a word
_REPLACEMENT = "\ufffd"

# Methods that return the piece of an id: of transformers, tokenizers, SentencePiece.
_PIECE_METHODS = ("convert_ids_to_tokens", "id_to_token", "id_to_piece")
_BYTES_METHOD = "decode_single_token_bytes"  # of tiktoken


def has_pieces(tokenizer: Any) -> bool:
    """Tell whether a tokenizer gives the pieces or bytes of its tokens."""
    return any(hasattr(tokenizer, name) for name in (*_PIECE_METHODS, _BYTES_METHOD))


def text_or_bytes(value: Any) -> Any:
    r"""Decode bytes if they are whole characters; return anything else as it is.

    Examples
    --------
    >>> from skfeat.inspection._token_pieces import text_or_bytes
    >>> text_or_bytes(b"\xc3\xa9"), text_or_bytes(b"\xc3")
    ('é', b'\xc3')
    """
    if not isinstance(value, bytes | bytearray):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return bytes(value)


def token_reader(tokenizer: Any) -> Callable[[int], Any]:
    """Return a function from an id to the text of the token, or its bytes.

    Parameters
    ----------
    tokenizer : object
        Its method ``decode`` takes a list of ids.
    """
    if hasattr(tokenizer, _BYTES_METHOD):
        bytes_of = getattr(tokenizer, _BYTES_METHOD)
        return lambda token: text_or_bytes(bytes_of(token))
    method = next((name for name in _PIECE_METHODS if hasattr(tokenizer, name)), None)
    if method is None:
        return lambda token: text_or_bytes(tokenizer.decode([token]))
    piece_of, added = getattr(tokenizer, method), _added_tokens(tokenizer)

    def read(token: int) -> Any:
        text, piece = tokenizer.decode([token]), piece_of(token)
        if not isinstance(text, str) or not isinstance(piece, str):
            return text
        return _spelled(text, piece, added.get(token))

    return read


def _added_tokens(tokenizer: Any) -> dict[int, str]:
    """Return the texts of tokens that were added as texts, not spelled in bytes."""
    added = getattr(tokenizer, "added_tokens_decoder", None)  # of transformers
    if added is None and hasattr(tokenizer, "get_added_tokens_decoder"):
        added = tokenizer.get_added_tokens_decoder()  # of tokenizers
    return {token: str(text) for token, text in dict(added or {}).items()}


def _spelled(text: str, piece: str, added: str | None) -> str | bytes:
    byte = _SINGLE_BYTE.fullmatch(piece)
    if byte and text != piece:
        return text_or_bytes(bytes.fromhex(byte[1]))
    raw = _bytes_of(piece)
    # A tokenizer may drop the space before a word that it decodes alone.
    for spelled in (text_or_bytes(raw), piece.replace(_WORD_START, " ")):
        if isinstance(spelled, str) and spelled.strip(" ") == text.strip(" "):
            return spelled
    if added is not None:
        return added
    if raw is not None and (not text or _REPLACEMENT in text):
        return text_or_bytes(raw)
    return text or piece


def _bytes_of(piece: str) -> bytes | None:
    """Return the bytes that a piece spells, None if it is in no alphabet of bytes."""
    try:
        return bytes(_BYTES[character] for character in piece.removesuffix(_WORD_END))
    except KeyError:
        return None


def _byte_alphabet() -> dict[str, int]:
    """Return the byte of each character of the alphabets of GPT-2 and of ByT5.

    Both write a byte that is a printable character of Latin-1 as this character. GPT-2
    writes the others as the characters from U+0100 on, ByT5 writes them as they are.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in range(256)}
    return alphabet | {chr(256 + i): byte for i, byte in enumerate(others)}


_BYTES = _byte_alphabet()
