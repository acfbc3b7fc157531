"""The text of the language-model benchmark, its tokenizer and its windows."""

from __future__ import annotations

import os
import re
from itertools import chain
from pathlib import Path

import numpy as np
import torch

END_OF_TEXT = "<|endoftext|>"
HELD_OUT = 0.1  # of every book, at its end

# What Project Gutenberg and its transcribers put before and behind a book.
_MARK = re.compile(r"\A.*?^\*\*\* ?START OF TH[^\n]*\n", re.DOTALL | re.MULTILINE)
_CREDIT = re.compile(r"\A\s*Produced by [^\n]*\n")
_TAIL = re.compile(
    r"^(\*\*\* ?END OF TH|End of (the )?Project Gutenberg).*", re.DOTALL | re.MULTILINE
)


def load_books():
    """Return the text of every book, by the name of its file.

    Of the files ``text/*.txt`` in the folder that the environment variable
    ``SKFEAT_DATA`` names. The lines of a paragraph are joined.

    Returns
    -------
    dict of str to str

    Raises
    ------
    FileNotFoundError
        If there are none.
    """
    folder = Path(os.environ.get("SKFEAT_DATA", "")) / "text"
    paths = sorted(folder.glob("*.txt"))
    if "SKFEAT_DATA" not in os.environ or not paths:
        raise FileNotFoundError(
            "The books were not found: set SKFEAT_DATA to a folder with text/*.txt."
        )
    return {path.stem: clean(path.read_text(encoding="utf-8")) for path in paths}


def clean(text):
    """Return a book without the licence, one paragraph a line."""
    for part in (_MARK, _CREDIT, _TAIL):
        text = part.sub("", text)
    paragraphs = (" ".join(part.split()) for part in re.split(r"\n\s*\n", text))
    return "\n".join(filter(None, paragraphs)) + "\n"


def split_books(books):
    """Return the training and the held-out text of every book, as two lists.

    The cut is at the end of a paragraph, so no sentence is in both.
    """
    training, held_out = [], []
    for text in books.values():
        cut = text.index("\n", int(len(text) * (1 - HELD_OUT))) + 1
        training.append(text[:cut])
        held_out.append(text[cut:])
    return training, held_out


def train_tokenizer(texts, vocab_size):
    """Train a byte-level BPE tokenizer, as Pythia's is.

    Returns
    -------
    transformers.PreTrainedTokenizerFast
    """
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # By paragraphs: merges across them would be counted, but never used.
    lines = chain.from_iterable(text.splitlines(keepends=True) for text in texts)
    tokenizer.train_from_iterator(lines, trainer)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=END_OF_TEXT, eos_token=END_OF_TEXT
    )


def encode(tokenizer, texts):
    """Return the token ids of every text."""
    found = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    return [np.asarray(ids, dtype=np.int64) for ids in found]


def windows(parts, context, first_token, *, offset=0):
    """Cut texts into windows of equal length that begin with a special token.

    Parameters
    ----------
    parts : list of ndarray of int64
        Token ids; no window spans two parts, and what is left at an end is dropped.
    context : int
        Tokens of a window, the special one among them.
    first_token : int
    offset : int
        Tokens dropped at the start of every part.

    Returns
    -------
    torch.Tensor of shape (n_windows, context), int64
    """
    step = context - 1
    cut = []
    for ids in parts:
        ids = ids[offset:]
        n = len(ids) // step
        cut.append(ids[: n * step].reshape(n, step))
    rows = np.concatenate(cut)
    first = np.full((len(rows), 1), first_token)
    return torch.from_numpy(np.concatenate([first, rows], axis=1))


def bytes_of(tokenizer, ids):
    """Return how many bytes of text the tokens stand for, special ones left out."""
    # A byte-level token has one character a byte.
    names = tokenizer.convert_ids_to_tokens(ids.reshape(-1).tolist())
    special = set(tokenizer.all_special_tokens)
    return sum(len(name) for name in names if name not in special)
