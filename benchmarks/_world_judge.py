"""SAELens' scores of autoencoders on a world of known features, and what they take."""

from __future__ import annotations

import contextlib
import io
import tempfile

import numpy as np
import torch
from _lens_trainers import BATCH_SIZE
from _lens_world import lens_world
from _random_rows import permuted
from scipy import sparse

from skfeat.interop import write_saelens
from skfeat.metrics import absorption, match_components


class Judge:
    """SAELens' evaluation, on rows that its sampler has drawn once for all methods.

    Parameters
    ----------
    world : FeatureWorld
    plan : Plan
    seed : int
    """

    def __init__(self, world, plan, seed):
        self.world, self.plan = world, plan
        self.directions, generator = lens_world(world)
        torch.manual_seed(seed + 1000)
        parts = [
            sparse.csr_array(generator.sample(n).numpy())
            for n in np.diff([*range(0, plan.n_test, BATCH_SIZE), plan.n_test])
        ]
        self.codes = sparse.vstack(parts, format="csr")

    def sample(self, n):
        """Return the codes of the next rows, as the generator of SAELens does."""
        part = self.codes[self.place : self.place + n]
        self.place += n
        return torch.from_numpy(part.toarray())

    def figures(self, sae):
        """Return all figures of what has SAELens' `encode`, `decode` and `W_dec`."""
        from sae_lens.synthetic import eval_sae_on_synthetic_data

        self.place = 0
        found = eval_sae_on_synthetic_data(
            sae, self.directions, self, self.plan.n_test, BATCH_SIZE
        )
        classes = found.classification
        known = self.codes[: self.plan.n_absorption]
        with torch.no_grad():
            rows = self.directions(torch.from_numpy(known.toarray()))
            parts = [
                sparse.csr_array(sae.encode(part).numpy())
                for part in rows.split(BATCH_SIZE)
            ]
        matches, _ = match_components(self.world.dictionary, sae.W_dec.detach().numpy())
        absorbed = absorption(
            known, sparse.vstack(parts, format="csr"), matches, self.world.parents
        )
        return {
            "F1": classes.f1_score,
            "precision": classes.precision,
            "recall": classes.recall,
            "MCC": found.mcc,
            "EV": found.explained_variance,
            "L0": found.sae_l0,
            "dead": found.dead_latents,
            "unique": found.uniqueness,
            "shrinkage": found.shrinkage,
            "absorption": absorbed.rate,
            "true L0": found.true_l0,
        }


class Frozen:
    """A `FrozenDecoder` as SAELens' evaluation takes it."""

    def __init__(self, fitted):
        self.encode, self.decode = fitted.encode, fitted.decode
        self.W_dec = fitted.directions

    def eval(self):
        """Do nothing: training is over."""
        return self


class Permuted:
    """An autoencoder whose codes are given to other rows of the batch."""

    def __init__(self, sae, seed):
        self.sae, self.seed = sae, seed
        self.decode, self.W_dec = sae.decode, sae.W_dec

    def eval(self):
        """Do nothing: training is over."""
        return self

    def encode(self, rows):
        """Return the codes of a tensor of rows, shuffled."""
        return torch.from_numpy(permuted(self.sae.encode(rows).numpy(), self.seed))


def as_lens(autoencoder):
    """Return ours as SAELens reads it from a file."""
    from sae_lens import SAE

    with tempfile.TemporaryDirectory() as folder:
        write_saelens(autoencoder, folder)
        with contextlib.redirect_stdout(io.StringIO()):
            return SAE.load_from_disk(folder).eval()
