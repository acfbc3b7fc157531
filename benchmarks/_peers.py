"""Other libraries' sparse autoencoders behind one interface.

Each adapter trains with its library's own model, loss and step. Warm-ups and windows
for dead features, which the libraries mean for billions of rows, are taken as a share
of the run. ``requirements-peers.txt`` says how to install the libraries.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import os
import sys
from dataclasses import dataclass

import torch
from torch import nn

# sparsify chooses its decoder at import; its Triton kernels take no CPU tensors.
os.environ.setdefault("SPARSIFY_DISABLE_TRITON", "1")


@dataclass
class Peer:
    """A sparse autoencoder of some library, and how that library trains it.

    Parameters
    ----------
    d, m : int
        Number of columns of the data and number of features.
    activation : str, default="topk"
        One of the class's `activations`; "relu" is penalised by `l1`.
    k : int, default=32
        Active features a row ("topk"), or on average a row ("batch_topk").
    learning_rate : float or None, default=None
        ``None`` is the library's own. Signs (Sparsify) need another than Adam does.
    seed : int, default=0
        Seeds torch's global generator, from which the libraries draw their weights.
    n_steps : int, default=2000
        Number of steps that will be taken; schedules are planned by it.
    l1 : float, default=1.0
        Weight of the L1 penalty, in the units of the data: with decoder rows of norm
        one, the objective of a row is ``|x - x'|^2 + l1 * sum(z)``.
    """

    d: int
    m: int
    activation: str = "topk"
    k: int = 32
    learning_rate: float | None = None
    seed: int = 0
    n_steps: int = 2000
    l1: float = 1.0

    activations = ("relu", "topk", "batch_topk")

    def __post_init__(self):
        if self.activation not in self.activations:
            raise ValueError(f"{self.name} does not have {self.activation!r}.")
        self.load()
        # Features silent for a tenth of the run are dead: the libraries' own windows
        # (1,000 steps, 10 million rows) would switch auxiliary losses off.
        self.dead_steps = max(self.n_steps // 10, 1)
        # Rows train as (x - shift) / scale, for which the penalty weighs l1 / scale.
        self.shift, self.scale, self.n_done = 0.0, 1.0, 0
        torch.manual_seed(self.seed)
        self._build()

    @classmethod
    def load(cls):
        """Import the library without its banner; raises ImportError if it cannot."""
        with contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module(cls.module)

    def prepare(self, x_sample):
        """Measure the scale of the data, if the library's recipe scales it."""

    def step(self, x):
        """Train on a float32 tensor of rows (n, d) once."""
        self._step(self._scaled(x))
        self.n_done += 1

    @torch.no_grad()
    def encode(self, x):
        """Return the codes (n, m) of rows (n, d), both dense tensors."""
        encode, _, _ = self._trained()
        return encode(self._scaled(x)) * self.scale

    @torch.no_grad()
    def decode(self, codes):
        """Return the rows (n, d) that codes (n, m) stand for."""
        _, directions, bias = self._trained()
        return codes @ directions + bias * self.scale + self.shift

    @torch.no_grad()
    def decoder(self):
        """Return the directions of the features as an ndarray (m, d)."""
        return self._trained()[1].numpy(force=True).copy()

    def _scaled(self, x):
        return x if self.scale == 1.0 else (x - self.shift) / self.scale


class SaeLens(Peer):
    """SAELens: its training SAEs, stepped by its `SAETrainer`.

    As in its tutorial data is scaled to a mean norm of sqrt(d), the penalty warms up
    over a twentieth of the run, and the learning rate, 3e-4, falls over the last fifth.
    """

    name = "SAELens"
    module = "sae_lens.training.sae_trainer"
    activations = (*Peer.activations, "gated", "jumprelu")

    def _build(self):
        from sae_lens.registry import get_sae_training_class
        from sae_lens.training.sae_trainer import SAETrainer, SAETrainerConfig

        names = {"relu": "standard", "topk": "topk", "batch_topk": "batchtopk"}
        name = names.get(self.activation, self.activation)
        sae_class, config_class = get_sae_training_class(name)
        extra = {"k": self.k}
        penalty = {"relu": "l1", "gated": "l1", "jumprelu": "l0"}.get(self.activation)
        if penalty is not None:
            warm_up = {f"{penalty}_warm_up_steps": self.n_steps // 20}
            extra = {f"{penalty}_coefficient": self.l1} | warm_up
        sae = sae_class(config_class(d_in=self.d, d_sae=self.m, **extra))
        learning_rate = self.learning_rate or 3e-4
        config = SAETrainerConfig(
            total_training_samples=self.n_steps,  # in batches: they plan the schedule
            train_batch_size_samples=1,
            lr=learning_rate,
            lr_end=learning_rate,
            lr_decay_steps=self.n_steps // 5,
            dead_feature_window=min(1000, self.dead_steps),
        )
        self.trainer = SAETrainer(config, sae, data_provider=iter(()))

    def prepare(self, x_sample):
        self.scale = float(x_sample.norm(dim=1).mean()) / self.d**0.5
        # A number of codes has no unit; squared errors have that of the data, squared.
        power = 2 if self.activation == "jumprelu" else 1
        for penalty in self.trainer.coefficient_schedulers.values():
            penalty.final_value = self.l1 / self.scale**power

    def _step(self, x):
        self.trainer.step(x)
        self.trainer.n_training_steps += 1  # left to the caller of `step`

    def _trained(self):
        from sae_lens import SAE

        # What it would save: batch_topk with a fixed threshold, unit rows for top-k.
        sae = self.trainer.sae
        weights = sae.state_dict()
        sae.process_state_dict_for_saving_inference(weights)
        saved = SAE.from_dict(sae.cfg.get_inference_sae_cfg_dict()).eval()
        saved.load_state_dict(weights)
        return saved.encode, saved.W_dec, saved.b_dec


class DictionaryLearning(Peer):
    """dictionary_learning: its trainers' `update`.

    As in its demo data is scaled to a mean squared norm of one, and the learning rate,
    2e-4 * sqrt(2^14 / m) for top-k and 1e-3 for ReLU, falls over the last fifth. Warm-
    ups take a twentieth of the run, at most the default 1,000 steps (penalty: 2,000).
    Jump-ReLU is held at `k` active features a row, as it has it.
    """

    name = "dictionary_learning"
    module = "dictionary_learning.trainers"
    activations = (*Peer.activations, "gated", "jumprelu")

    def _build(self):
        from dictionary_learning import trainers

        names = {
            "relu": "Standard",
            "topk": "TopK",
            "batch_topk": "BatchTopK",
            "gated": "GatedSAE",
            "jumprelu": "JumpRelu",
        }
        trainer = getattr(trainers, names[self.activation] + "Trainer")
        n = self.n_steps
        # Outside training batch_topk has a threshold, which it follows from this step
        # on only; without one all positive codes are active.
        extra = {"k": self.k, "threshold_start_step": min(1000, n // 2)}
        if self.activation in ("relu", "gated"):
            extra = {"l1_penalty": self.l1, "sparsity_warmup_steps": min(2000, n // 20)}
        if self.activation == "jumprelu":
            extra = {"target_l0": self.k, "sparsity_warmup_steps": min(2000, n // 20)}
        if self.learning_rate is not None:
            extra["lr"] = self.learning_rate
        extra |= {"warmup_steps": min(1000, n // 20), "decay_start": 4 * n // 5}
        extra |= {"layer": 0, "lm_name": "none", "device": "cpu"}
        self.trainer = trainer(n, self.d, self.m, **extra)

    def prepare(self, x_sample):
        self.scale = float(x_sample.square().sum(dim=1).mean().sqrt())
        self.trainer.l1_penalty = self.l1 / self.scale

    def _step(self, x):
        self.trainer.dead_feature_threshold = min(10_000_000, self.dead_steps * len(x))
        self.trainer.update(self.n_done, x)

    def _trained(self):
        ae = self.trainer.ae
        if self.activation == "jumprelu":
            return ae.encode, ae.W_dec, ae.b_dec
        bias = {"relu": "bias", "gated": "decoder_bias"}.get(self.activation, "b_dec")
        return ae.encode, ae.decoder.weight.T, getattr(ae, bias)


class Sparsify(Peer):
    """EleutherAI's sparsify: its `SparseCoder` and the step of its `Trainer`.

    The trainer wants a language model, so that its step is written out here. Its
    defaults: sign descent at 5e-3 * sqrt(2^14 / m), averaged by schedule-free, and no
    auxiliary loss.
    """

    name = "sparsify"
    module = "sparsify"
    activations = ("topk",)

    def _build(self):
        from schedulefree import ScheduleFreeWrapper
        from sparsify import SparseCoder, SparseCoderConfig
        from sparsify.sign_sgd import SignSGD

        self.sae = SparseCoder(self.d, SparseCoderConfig(num_latents=self.m, k=self.k))
        learning_rate = self.learning_rate or 5e-3 * (2**14 / self.m) ** 0.5
        signs = SignSGD(self.sae.parameters(), lr=learning_rate)
        self.optimizer = ScheduleFreeWrapper(signs, momentum=0.95)

    def _step(self, x):
        self.optimizer.train()
        if self.n_done == 0:
            self.sae.b_dec.data = x.mean(dim=0)
        self.sae.set_decoder_norm_to_unit_norm()
        self.sae(x).fvu.backward()
        self.sae.remove_gradient_parallel_to_decoder_directions()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _trained(self):
        self.optimizer.eval()  # puts the averaged weights in place
        # It trains with rows of norm one, but their average, which it saves, is shorter
        # (after 3,000 steps at four times the error). Here the norm is restored.
        directions = nn.functional.normalize(self.sae.W_dec, dim=1)
        return self._encode, directions, self.sae.b_dec

    def _encode(self, x):
        top = self.sae.encode(x)
        return torch.zeros_like(top.pre_acts).scatter(1, top.top_indices, top.top_acts)


class Overcomplete(Peer):
    """overcomplete: its SAEs, stepped by its `train_sae` on one batch.

    Loss and learning rate are its README's: the mean squared error and 5e-4 (its
    auxiliary loss did worse). Data is centred and scaled to unit variance, as it
    advises for some of its models: its decoder has no bias.
    """

    name = "overcomplete"
    module = "overcomplete.sae"

    @classmethod
    def load(cls):
        # The package begins by importing vision models, which want a torchvision that
        # fits torch. Its SAEs do not: import them alone.
        spec = importlib.util.find_spec("overcomplete")
        if spec is not None and "overcomplete" not in sys.modules:
            sys.modules["overcomplete"] = importlib.util.module_from_spec(spec)
        super().load()

    def _build(self):
        from overcomplete import sae as lib

        classes = {"relu": "SAE", "topk": "TopKSAE", "batch_topk": "BatchTopKSAE"}
        self.lib = lib
        self.sae = getattr(lib, classes[self.activation])(self.d, self.m)
        self.sae.top_k = self.k
        params = self.sae.parameters()
        self.optimizer = torch.optim.Adam(params, lr=self.learning_rate or 5e-4)

    def prepare(self, x_sample):
        self.shift = x_sample.mean(dim=0)
        self.scale = float((x_sample - self.shift).square().mean().sqrt())

    def _step(self, x):
        if self.activation == "batch_topk":
            self.sae.top_k = self.k * len(x)  # it counts the codes of the batch
        quiet = {"nb_epochs": 1, "monitoring": 0}
        self.lib.train_sae(self.sae, [x], self._loss, self.optimizer, **quiet)

    def _loss(self, x, x_hat, pre_codes, codes, dictionary):
        if self.activation != "relu":
            return (x - x_hat).square().mean()
        # It adds the sum over all codes of the batch to a mean over rows and columns.
        penalty = self.l1 / self.scale / x.numel()
        return self.lib.mse_l1(x, x_hat, pre_codes, codes, dictionary, penalty=penalty)

    def _trained(self):
        sae = self.sae.eval()
        return lambda x: sae.encode(x)[1], sae.get_dictionary(), 0.0


class PlainTorch(Peer):
    """What a user of PyTorch writes: autograd, Adam at 1e-3, unit decoder rows."""

    name = "plain PyTorch"
    module = "torch"

    def _build(self):
        self.W_dec = nn.Parameter(nn.functional.normalize(torch.randn(self.m, self.d)))
        self.W_enc = nn.Parameter(self.W_dec.detach().T.clone())
        self.b_enc = nn.Parameter(torch.zeros(self.m))
        self.b_dec = nn.Parameter(torch.zeros(self.d))
        params = [self.W_dec, self.W_enc, self.b_enc, self.b_dec]
        self.optimizer = torch.optim.Adam(params, lr=self.learning_rate or 1e-3)
        self.threshold = 0.0

    def _encode(self, x, *, training=False):
        pre = torch.relu((x - self.b_dec) @ self.W_enc + self.b_enc)
        if self.activation == "relu":
            return pre
        if self.activation == "topk":
            top = pre.topk(self.k, dim=1)
            return torch.zeros_like(pre).scatter(1, top.indices, top.values)
        if not training:  # a row's codes must not depend on the rows beside it
            return pre * (pre >= self.threshold)
        lowest = float(pre.detach().flatten().topk(self.k * len(x)).values[-1])
        self.threshold += (0.1 if self.n_done else 1.0) * (lowest - self.threshold)
        return pre * (pre >= lowest)

    def _step(self, x):
        if self.n_done == 0:
            self.b_dec.data = x.mean(dim=0)
        codes = self._encode(x, training=True)
        loss = (x - codes @ self.W_dec - self.b_dec).square().sum(dim=1).mean()
        if self.activation == "relu":
            loss = loss + self.l1 * (codes @ self.W_dec.norm(dim=1)).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        with torch.no_grad():
            self.W_dec /= self.W_dec.norm(dim=1, keepdim=True)

    def _trained(self):
        return self._encode, self.W_dec, self.b_dec


def available_peers():
    """Return the adapter classes whose library imports."""
    found = []
    for peer in (PlainTorch, SaeLens, DictionaryLearning, Sparsify, Overcomplete):
        with contextlib.suppress(ImportError):
            peer.load()
            found.append(peer)
    return found
