"""
All MLPs of a language model as sparse connections
==================================================

From a text to a model whose MLPs are replaced, all at once, by few weights between
features; what that costs; and the graph of one prediction. The model is made on the
spot and trained in seconds on made-up sentences; one of the hub goes through the same
calls.
"""

import warnings

import numpy as np
import torch
import transformers
from matplotlib import pyplot as plt
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from skfeat import SparseAutoencoder, Transcoder
from skfeat.language import ModelUnwrapper

# The fits are as short as a page that is made on the spot allows.
warnings.filterwarnings("ignore", ".*(features are dead|still falling)")

# %%
# A text, whose verbs agree with their subjects.
singular = ["a cat", "a dog", "the bird", "one child"]
plural = ["two cats", "the dogs", "many birds", "all children"]
verbs = {"s": ["sees", "hears", "likes"], "p": ["see", "hear", "like"]}
rng = np.random.default_rng(0)


def sentence():
    """Return a sentence of the grammar."""
    number = rng.choice(["s", "p"])
    subject = rng.choice(singular if number == "s" else plural)
    return f"{subject} {rng.choice(verbs[number])} {rng.choice(singular + plural)} ."


text = " ".join(sentence() for _ in range(4000))
print(text[:100])

# %%
# A tokenizer of its words, and sequences of tokens in batches.
words = Tokenizer(models.WordLevel(unk_token="?"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
words.train_from_iterator([text], trainers.WordLevelTrainer(special_tokens=["?"]))
tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words)
ids = torch.tensor(words.encode(text).ids)
sequences = ids[: len(ids) // 32 * 32].reshape(-1, 32)
batches = [{"input_ids": part} for part in sequences[:480].split(32)]
held_out = [{"input_ids": part} for part in sequences[640:].split(55)]
print(f"{len(tokenizer)} words, {len(ids):,} tokens")

# %%
# A model of Pythia's architecture with two blocks.
config = transformers.GPTNeoXConfig(
    vocab_size=len(tokenizer),
    hidden_size=32,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=64,
    max_position_embeddings=32,
    use_parallel_residual=False,
    hidden_dropout=0.0,
    attention_dropout=0.0,
)
with torch.random.fork_rng(devices=[]):
    torch.default_generator.manual_seed(0)
    model = transformers.GPTNeoXForCausalLM(config)
    adam = torch.optim.Adam(model.parameters(), 1e-2)
    for step in range(80):
        rows = batches[step % len(batches)]["input_ids"]
        logits = model(input_ids=rows).logits[:, :-1].flatten(0, 1)
        loss = torch.nn.functional.cross_entropy(logits, rows[:, 1:].flatten())
        adam.zero_grad()
        loss.backward()
        adam.step()
model.eval()
print(f"loss after training: {loss.item():.2f} nats a token")

# %%
# Both MLPs are replaced. An autoencoder encodes what an MLP reads, another one decodes
# its output, and each of the output's features is computed from four of the input's on
# average. They are fitted layer by layer, and then trained together on the model's own
# predictions.
part = SparseAutoencoder(64, k=4, max_iter=20)
unwrapper = ModelUnwrapper(
    model,
    input_autoencoder=part,
    output_autoencoder=part,
    n_nonzero_coefs=4,
    max_iter=10,
    random_state=0,
).fit(batches)
transcoders = ModelUnwrapper(
    model, transcoder=Transcoder(64, k=4, max_iter=20), max_iter=10, random_state=0
).fit(batches)

# %%
# What the model loses on held-out text, in two protocols: each replaced MLP reads what
# the replaced model computes ("own"), or what the model itself does ("true"). Below are
# the features and weights that are active a token.
print(unwrapper.report(held_out, beside={"transcoders": transcoders}))

# %%
# The result is a model like the one before, and can be used as such.
on_features = unwrapper.to_torch()
prompt = "the dogs like a cat . many birds"
prompt_ids = torch.tensor([words.encode(prompt).ids])
with torch.no_grad():
    best = on_features(input_ids=prompt_ids).logits[0, -1].argmax().item()
print(prompt, "->", tokenizer.decode([best]))

# %%
# What makes the model's own prediction: features of both MLPs, tokens, and errors:
# what the replacement misses. Contributions are exact where attention, normalisation
# and the choice of active features are held; the last column says what happens when a
# feature is really left out.
graph = unwrapper.prompt_graph(prompt_ids, decode=tokenizer)
print(graph)

# %%
# The graph as a picture; ``graph.save("graph.html")`` writes a page to look around in.
display = graph.to_display().plot(n_edges=12)
plt.show()
