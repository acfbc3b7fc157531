"""Tiny models of transformers with random weights, and batches for one of them."""

import numpy as np
import torch


def seeded(make):
    """Make a model of random weights, the same each time, in evaluation mode."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return make().eval()


def tiny_t5(n_layers=1):
    """Return a T5ForConditionalGeneration of 50 tokens."""
    import transformers

    config = transformers.T5Config(
        vocab_size=50,
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=n_layers,
        num_heads=2,
        decoder_start_token_id=0,
        pad_token_id=0,
    )
    return seeded(lambda: transformers.T5ForConditionalGeneration(config))


def tiny_model(**changed):
    """Return a GPTNeoXForCausalLM of 60 tokens and two layers, in training mode."""
    import transformers

    options = {
        "vocab_size": 60,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 64,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "hidden_dropout": 0.1,
    }
    config = transformers.GPTNeoXConfig(**(options | changed))
    return seeded(lambda: transformers.GPTNeoXForCausalLM(config)).train()


def batches(n=3, length=12):
    """Return batches of four sequences that start with token 0 and end in padding."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(n):
        ids = torch.from_numpy(rng.integers(1, 60, (4, length)))
        mask = torch.ones_like(ids)
        ids[:, 0] = 0
        for i, real in enumerate(rng.integers(4, length + 1, 4)):
            ids[i, real:], mask[i, real:] = 0, 0
        found.append({"input_ids": ids, "attention_mask": mask})
    return found
