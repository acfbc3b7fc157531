"""A causal language model of two MLPs that matter, trained in about a second."""

from functools import cache

import torch
from torch import nn

N_TOKENS = 12


class Block(nn.Module):
    """Add what an MLP makes of the token's row and of the one before."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x):
        before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)
        return x + self.mlp(self.norm(x + 0.5 * before.roll(1, dims=2)))


class TinyCausal(nn.Module):
    """Logits of the next token of sequences (n, length)."""

    def __init__(self, width=16):
        super().__init__()
        self.embed = nn.Embedding(N_TOKENS, width)
        self.blocks = nn.ModuleList([Block(width), Block(width)])
        self.norm = nn.LayerNorm(width)
        self.logits = nn.Linear(width, N_TOKENS)

    def forward(self, input_ids, attention_mask=None):
        x = self.embed(input_ids)
        for block in self.blocks:
            x = block(x)
        return self.logits(self.norm(x))


def sequences(n, length=16, seed=0):
    """Return sequences in which each token is the sum of the two before it."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(N_TOKENS, (n, length), generator=generator)
    noise = torch.rand(n, length, generator=generator) < 0.1
    for i in range(2, length):
        right = (ids[:, i - 1] + ids[:, i - 2]) % N_TOKENS
        ids[:, i] = torch.where(noise[:, i], ids[:, i], right)
    return ids


@cache
def _trained_state():
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        model = TinyCausal()
        ids = sequences(2048, seed=1)
        adam = torch.optim.Adam(model.parameters(), 5e-3)
        for step in range(200):
            rows = ids[64 * (step % 32) :][:64]
            logits = model(rows)[:, :-1].flatten(0, 1)
            loss = nn.functional.cross_entropy(logits, rows[:, 1:].flatten())
            adam.zero_grad()
            loss.backward()
            adam.step()
    return model.state_dict()


def tiny_causal():
    """Return a new trained model, in training mode."""
    with torch.random.fork_rng(devices=[]):
        model = TinyCausal()
    model.load_state_dict(_trained_state())
    return model


def batches(n=8, size=32, seed=2):
    """Return batches of sequences."""
    return list(sequences(n * size, seed=seed).split(size))
