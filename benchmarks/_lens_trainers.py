"""The trainers of SAELens, with the settings that SynthSAEBench published for them.

Batches of 1,024 rows, Adam at a constant 3e-4, and of each architecture what its sweep
on the world of 16,384 features sets. That sweep saw 200 million rows; on fewer a larger
rate may do better, so it is a parameter here. Where it used controllers of its own to
reach a number of active features, something else stands for them: for "standard" and
"gated" a controller that follows the number in proportion; for "jumprelu" the penalty
of SAELens on the distance from the number. In so few steps the published penalty with
such a controller ends at a third of the number.
"""

from __future__ import annotations

import contextlib
import io
import warnings

import torch

BATCH_SIZE = 1024
# Prefixes of the Matryoshka autoencoder, as shares of the features: 128, 512 and 2,048
# of 4,096.
PREFIXES = (32, 8, 2)
ARCHITECTURES = (
    "matryoshka_batchtopk",
    "batchtopk",
    "topk",
    "matching_pursuit",
    "jumprelu",
    "gated",
    "standard",
)
# Relative change of a penalty's weight a step, at the largest.
_GAIN = 0.01
# Share of its last value that a running mean keeps.
_KEPT = 0.95


def settings_of(architecture, k, m, n_steps):
    """Return what the configuration of an architecture sets beyond its sizes."""
    warm_up = n_steps // 3
    return {
        "matryoshka_batchtopk": {
            "k": k,
            "matryoshka_widths": [m // share for share in PREFIXES] + [m],
            "use_matryoshka_aux_loss": True,
        },
        "batchtopk": {"k": k},
        "topk": {"k": k},
        "matching_pursuit": {
            "residual_threshold": 0,
            "max_iterations": k,
            "decoder_init_norm": 1.0,
            "stop_on_duplicate_support": False,
        },
        "jumprelu": {
            "normalize_activations": "expected_average_only_in",
            "jumprelu_sparsity_loss_mode": "quadratic",
            "target_l0": float(k),
            "jumprelu_bandwidth": 2.0,
            "jumprelu_init_threshold": 0.5,
            "pre_act_loss_coefficient": 3e-6,
            "decoder_init_norm": 0.5,
            "l0_coefficient": 1.0,
        },
        "gated": {"l1_coefficient": 2.0, "l1_warm_up_steps": warm_up},
        "standard": {"l1_coefficient": 2.0, "l1_warm_up_steps": warm_up},
    }[architecture]


class Batches:
    """Gives a trainer its batches, in order, and steers its penalty if it has one.

    Parameters
    ----------
    X : ndarray of float32 of shape (n, d)
    target : float or None
        Active features a row that a penalty is to lead to; None leaves it alone.
    """

    def __init__(self, X, target):
        self.batches = torch.from_numpy(X).split(BATCH_SIZE)
        self.target, self.place, self.trainer = target, 0, None
        self.mean, self.seen = None, 0.0

    def __iter__(self):
        return self

    def __next__(self):
        if self.target is not None and self.trainer.n_training_steps:
            self._steer()
        batch = self.batches[self.place % len(self.batches)]
        self.place += 1
        return batch

    def _steer(self):
        counts = float(self.trainer.act_freq_scores.sum())
        new = counts - self.seen if counts >= self.seen else counts
        self.seen = counts
        active = new / BATCH_SIZE
        self.mean = active if self.mean is None else self.mean
        self.mean = _KEPT * self.mean + (1 - _KEPT) * active
        excess = self.mean / self.target - 1
        for penalty in self.trainer.coefficient_schedulers.values():
            if penalty.current_step >= penalty.warm_up_steps:
                penalty.final_value *= 1 + _GAIN * max(-1.0, min(1.0, excess))


def train_lens(architecture, X, m, k, rate, seed):
    """Train by SAELens on rows, each once, and return its autoencoder.

    Parameters
    ----------
    architecture : str
        One of `ARCHITECTURES`.
    X : ndarray of float32 of shape (n, d)
    m, k : int
        Features, and active ones a row.
    rate : float
        Learning rate.
    seed : int
        Seeds torch's global generator, from which SAELens draws.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        from sae_lens.config import LoggingConfig, SAETrainerConfig
        from sae_lens.registry import get_sae_training_class
        from sae_lens.training.sae_trainer import SAETrainer
    n_steps = len(X) // BATCH_SIZE
    torch.manual_seed(seed)
    make, configure = get_sae_training_class(architecture)
    sae = make(
        configure(d_in=X.shape[1], d_sae=m, **settings_of(architecture, k, m, n_steps))
    )
    steered = architecture in ("gated", "standard")
    batches = Batches(X[: n_steps * BATCH_SIZE], k if steered else None)
    config = SAETrainerConfig(
        total_training_samples=n_steps * BATCH_SIZE,
        train_batch_size_samples=BATCH_SIZE,
        lr=rate,
        lr_end=rate,
        # Dead after a share of the run: the default of 1,000 steps may be all of it.
        dead_feature_window=min(1000, max(1, n_steps // 10)),
        n_batches_for_norm_estimate=min(10, n_steps),
        logger=LoggingConfig(log_to_wandb=False),
    )
    trainer = SAETrainer(config, sae, data_provider=batches)
    batches.trainer = trainer
    with contextlib.redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return trainer.fit().eval()
