"""
A tiny language model
=====================

Features on both sides of a layer of a language model, the few weights between them, the
tokens they fire on, and what the model loses when it runs on them. The model is made on
the spot and trained in seconds on made-up sentences, so nothing is downloaded; a real
one goes through the same calls.
"""

import numpy as np
import torch
from matplotlib import pyplot as plt
from torch import nn

from skfeat import SparseAutoencoder
from skfeat.capture import capture
from skfeat.inspection import TokenActivationsDisplay
from skfeat.language import LayerPair, activating_contexts, replacement_loss

# %%
# Sentences of a grammar: who, does, what, and how; singular or plural goes from the
# determiner to the verb.
singular = ["a cat", "a dog", "the bird", "one child"]
plural = ["two cats", "the dogs", "many birds", "all children"]
verbs = {"s": ["sees", "hears", "likes"], "p": ["see", "hear", "like"]}
manner = ["today", "again", "often", "never"]
rng = np.random.default_rng(0)


def sentence():
    """Return a sentence of the grammar as a list of words."""
    number = rng.choice(["s", "p"])
    subject = rng.choice(singular if number == "s" else plural)
    words = f"{subject} {rng.choice(verbs[number])} {rng.choice(singular + plural)}"
    return [*words.split(), rng.choice(manner), "."]


text = [word for _ in range(4000) for word in sentence()]
words = sorted(set(text))
ids = torch.tensor([words.index(word) for word in text])
sequences = ids[: len(ids) // 32 * 32].reshape(-1, 32)
print(" ".join(text[:18]), f"... {len(words)} words, {len(ids):,} tokens")


# %%
# A model that predicts the next token from the two last ones: an embedding of both, a
# layer, and logits.
class TinyModel(nn.Module):
    """Logits of the next word."""

    def __init__(self, n_words, width=24):
        super().__init__()
        self.embed = nn.Embedding(n_words, width)
        self.previous = nn.Embedding(n_words, width)
        self.stream = nn.Identity()
        self.mlp = nn.Sequential(nn.Linear(width, 48), nn.ReLU(), nn.Linear(48, width))
        self.logits = nn.Linear(width, n_words)

    def forward(self, input_ids):
        """Return logits of shape (n_sequences, length, n_words)."""
        before = torch.roll(input_ids, 1, dims=1).clone()
        before[:, 0] = input_ids[:, 0]
        stream = self.stream(self.embed(input_ids) + self.previous(before))
        return self.logits(stream + self.mlp(stream))


with torch.random.fork_rng(devices=[]):
    torch.default_generator.manual_seed(0)
    model = TinyModel(len(words))
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(150):
        part = sequences[torch.randint(len(sequences), (64,))]
        logits = model(part)[:, :-1].flatten(0, 1)
        loss = nn.functional.cross_entropy(logits, part[:, 1:].flatten())
        adam.zero_grad()
        loss.backward()
        adam.step()
model.eval()
print(f"loss after training: {loss.item():.2f} nats a token")

# %%
# What goes into the layer and what comes out of it, token by token; then an autoencoder
# on each side, and a sparse map between their features.
batches, held_out = list(sequences[:700].split(50)), list(sequences[700:900].split(50))
rows = capture(model, batches, ["stream", "mlp"])
X, Y = rows.activations["stream"], rows.activations["mlp"]
pair = LayerPair(
    SparseAutoencoder(64, k=4, max_iter=60),
    SparseAutoencoder(64, k=4, max_iter=60),
    n_nonzero_coefs=4,
    random_state=0,
).fit(X, Y)
feature = int(pair.live_outputs_[pair.output_features(Y).sum(axis=0).argmax()])
print(pair.formula(feature, max_terms=4))

# %%
# What the model loses when the layer's output is replaced: by its reconstruction from
# features, by what the sparse map computes, by its mean, by zero.
print(replacement_loss(model, held_out, "mlp", pair, source="stream"))

# %%
# The tokens that the output feature fires on: the strongest passages, and below them
# some drawn from weaker ones. They are words of manner.
codes = pair.output_features(Y)
column = list(pair.live_outputs_).index(feature)
contexts = activating_contexts(
    codes,
    rows.sequence,
    rows.position,
    rows.token_ids,
    feature=column,
    n_top=4,
    n_strata=2,
    random_state=0,
)
display = TokenActivationsDisplay.from_contexts(
    contexts, lambda token: f" {words[token]}", title=f"OF_{feature}"
)
figure, ax = plt.subplots(figsize=(10, 2.9), layout="constrained")
display.plot(ax=ax)
plt.show()
