"""A small language model of Pythia's kind, trained once and kept in a folder."""

from __future__ import annotations

import json
import math
import os
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np
import torch
from _language_model_text import (
    bytes_of,
    encode,
    load_books,
    split_books,
    train_tokenizer,
    windows,
)
from torch import nn

_STATE = "training.json"


@dataclass(frozen=True)
class Preset:
    """A model and its training."""

    vocab_size: int
    n_layers: int
    width: int
    n_heads: int
    context: int
    epochs: float  # over the training text
    batch_size: int  # windows
    learning_rate: float  # the largest
    weight_decay: float = 0.1
    dropout: float = 0.0
    seed: int = 0
    # Blocks one after another, attention before the MLP, and Muon for their matrices:
    # with parallel blocks and Adam, all MLPs but the first hardly matter to the loss.
    sequential: bool = False
    muon: float = 0.0  # its largest learning rate; 0: Adam for all weights
    # One matrix embeds tokens and predicts them, so that MLPs must turn one into the
    # other.
    tied: bool = False


PRESETS = {
    "tiny": Preset(512, 2, 64, 4, 64, 0.5, 16, 4e-3),
    "small": Preset(2048, 4, 128, 4, 128, 4, 16, 3e-3),
    "testbed": Preset(
        1024, 3, 128, 4, 128, 1.75, 16, 3e-3, sequential=True, muon=1.5e-2, tied=True
    ),
    # For a GPU, the last of the size of pythia-70m. Without dropout they would learn
    # the books by heart.
    "medium": Preset(4096, 6, 256, 8, 256, 20, 32, 1.5e-3, dropout=0.2),
    "large": Preset(8192, 6, 512, 8, 256, 20, 32, 1e-3, dropout=0.3),
}


def default_cache():
    """Return the folder under which models are kept unless another is given."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "skfeat" / "language_model"


def device():
    """Return the GPU where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def cached_model(name, cache=None, *, log=print):
    """Return the model of a preset and its tokenizer, training them the first time.

    Parameters
    ----------
    name : str
        A key of `PRESETS`.
    cache : path, default=None
        The folder in which the model's own folder, `name`, lies or is made.
    log : callable
        Is given lines of progress.

    Returns
    -------
    model : transformers.GPTNeoXForCausalLM, in evaluation mode
    tokenizer : transformers.PreTrainedTokenizerFast
    training : dict
        The preset, what its training saw and how well it predicts held-out text.
    """
    preset, books = PRESETS[name], load_books()
    folder = Path(cache or default_cache()) / name
    text = blake2b("\0".join(books.values()).encode(), digest_size=16).hexdigest()
    wanted = {"preset": asdict(preset), "text": text}
    state = folder / _STATE
    if state.is_file():
        training = json.loads(state.read_text(encoding="utf-8"))
        if all(training.get(key) == value for key, value in wanted.items()):
            return (*load_model(folder), training)
    model, tokenizer, found = train(preset, books, log)
    folder.mkdir(parents=True, exist_ok=True)
    # The state is written last: a folder with one is whole.
    state.unlink(missing_ok=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    training = {**wanted, **found}
    state.write_text(json.dumps(training, indent=1) + "\n", encoding="utf-8")
    return (*load_model(folder), training)


def load_model(name):
    """Return the causal language model and the tokenizer of a folder or of the hub."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(name, dtype=torch.float32)
    return model.eval().to(device()), transformers.AutoTokenizer.from_pretrained(name)


def train(preset, books, log):
    """Train a tokenizer and a model on the training part of all books."""
    training, held_out = split_books(books)
    tokenizer = train_tokenizer(training, preset.vocab_size)
    parts, parts_held_out = encode(tokenizer, training), encode(tokenizer, held_out)
    start, where = time.perf_counter(), device()
    gpus = [torch.cuda.current_device()] if where.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.default_generator.manual_seed(preset.seed)
        if gpus:
            torch.cuda.manual_seed(preset.seed)  # of dropout
        model = new_model(preset, tokenizer).to(where)
        n_parameters = sum(p.numel() for p in model.parameters())
        log(f"Training {n_parameters:,} parameters on {sum(map(len, parts)):,} tokens")
        n_seen = _optimize(model, parts, preset, tokenizer.bos_token_id, log)
    model.eval()
    rows = windows(parts_held_out, preset.context, tokenizer.bos_token_id)
    seconds = time.perf_counter() - start
    return (
        model,
        tokenizer,
        {
            "parameters": n_parameters,
            "training tokens": sum(map(len, parts)),
            "tokens seen": n_seen,
            "seconds": seconds,
            "device": where.type,
            "threads": torch.get_num_threads(),
            "held out": held_out_loss(model, tokenizer, rows),
        },
    )


def new_model(preset, tokenizer):
    """Return an untrained model of GPT-NeoX's architecture, as Pythia is set up."""
    import transformers

    config = transformers.GPTNeoXConfig(
        vocab_size=len(tokenizer),
        hidden_size=preset.width,
        num_hidden_layers=preset.n_layers,
        num_attention_heads=preset.n_heads,
        intermediate_size=4 * preset.width,
        max_position_embeddings=preset.context,
        hidden_dropout=preset.dropout,
        attention_dropout=preset.dropout,
        use_parallel_residual=not preset.sequential,
        tie_word_embeddings=preset.tied,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return transformers.GPTNeoXForCausalLM(config)


def _optimize(model, parts, preset, first_token, log):
    """Train the model in place; return how many tokens it saw."""
    where, step, started = device(), 0, time.perf_counter()
    n_windows = len(windows(parts, preset.context, first_token))
    n_steps = max(1, int(preset.epochs * n_windows / preset.batch_size))
    optimizers = _optimizers(model, preset)
    schedules = [
        torch.optim.lr_scheduler.LambdaLR(one, lambda at: _rate(at, n_steps))
        for one in optimizers
    ]
    model.train()
    while step < n_steps:
        # Cut elsewhere in every epoch, so that tokens come at other places.
        offset = int(torch.randint(preset.context - 1, ()))
        rows = windows(parts, preset.context, first_token, offset=offset)
        for chosen in torch.randperm(len(rows)).split(preset.batch_size):
            if step == n_steps or len(chosen) < preset.batch_size:
                break
            with _fast(where):
                loss = mean_loss(model, rows[chosen].to(where))
            model.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for one in (*optimizers, *schedules):
                one.step()
            step += 1
            if step % max(1, n_steps // 20) == 0:
                seconds = time.perf_counter() - started
                log(
                    f"  step {step} of {n_steps}, loss {loss.item():.3f}, "
                    f"{seconds:.0f} s"
                )
    return step * preset.batch_size * (preset.context - 1)


def _optimizers(model, preset):
    """Return Adam, and for the matrices of the blocks Muon if the preset has it."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    found = []
    if preset.muon:
        ends = [model.get_input_embeddings().weight]
        if not preset.tied:
            ends.append(model.get_output_embeddings().weight)
        blocks = [p for p in decayed if all(p is not end for end in ends)]
        decayed = ends
        found = [
            torch.optim.Muon(
                blocks,
                lr=preset.muon,
                weight_decay=preset.weight_decay,
                adjust_lr_fn="match_rms_adamw",
            )
        ]
    others = [p for p in model.parameters() if p.ndim < 2]
    adam = torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": preset.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=preset.learning_rate,
        betas=(0.9, 0.95),
    )
    return [adam, *found]


def _rate(step, n_steps):
    """Return the share of the largest rate: warm-up, then a cosine down to a tenth."""
    warm_up = max(1, n_steps // 20)
    if step < warm_up:
        return (step + 1) / warm_up
    done = (step - warm_up) / max(1, n_steps - warm_up)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * done))


def _fast(where):
    if where.type == "cuda":
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()


def mean_loss(model, rows):
    """Return the mean cross-entropy of every token after the first of its window."""
    logits = model(input_ids=rows).logits[:, :-1]
    return nn.functional.cross_entropy(
        logits.flatten(0, 1).float(), rows[:, 1:].flatten()
    )


def held_out_loss(model, tokenizer, rows, *, batch_size=32):
    """Return the cross-entropy of windows in nats, a token and a byte of text."""
    with torch.no_grad():
        losses = [
            (mean_loss(model, part.to(model.device)).item(), len(part))
            for part in rows.split(batch_size)
        ]
    values, sizes = map(np.asarray, zip(*losses, strict=True))
    mean = float(np.average(values, weights=sizes))
    n_tokens = rows[:, 1:].numel()
    return {
        "nats a token": mean,
        "nats a byte": mean * n_tokens / bytes_of(tokenizer, rows[:, 1:]),
        "tokens": n_tokens,
    }
