"""All MLPs of an encoder, which gives last states and no logits, on features."""

import copy
from functools import cache

import numpy as np
import pytest
import torch

from skfeat import SparseAutoencoder
from skfeat.language import ModelUnwrapper
from skfeat.language.whole._cascade import rows_of_layer
from skfeat.language.whole._slots import SlottedModel
from tests.tiny_causal import TinyCausal, batches

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:.*features are dead"
)
PART = SparseAutoencoder(48, k=6, max_iter=8)


class TinyEncoder(TinyCausal):
    """Gives states that depend on all tokens, as a dict of transformers does."""

    def forward(self, input_ids, attention_mask=None):
        x = self.embed(input_ids)
        for block in self.blocks:
            x = x + x.mean(dim=1, keepdim=True)
            x = x + block.mlp(x)
        return {"last_hidden_state": x}


@cache
def encoder():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TinyEncoder().eval()


@cache
def fitted(joint=True):
    return ModelUnwrapper(
        encoder(),
        input_autoencoder=PART,
        output_autoencoder=PART,
        n_nonzero_coefs=6,
        joint=joint,
        max_iter=12 if joint else "auto",
        random_state=0,
    ).fit(batches())


def states_of(model, ids):
    with torch.no_grad():
        return model(ids)["last_hidden_state"].flatten(0, 1).numpy().astype(float)


def share_lost(found, own):
    return ((found - own) ** 2).sum() / ((own - own.mean(axis=0)) ** 2).sum()


def test_the_report_has_the_error_of_the_last_states():
    ids = batches(1, seed=5)[0]
    report = fitted().report([ids])
    own = states_of(encoder(), ids)
    lost = share_lost(states_of(fitted().to_torch(), ids), own)
    assert report.lost()[0] == pytest.approx(lost, rel=1e-4)
    assert report.loss == 0
    assert report.n_predictions == ids.numel()
    assert report.unit == "share of the variance of last states"
    assert str(report).startswith("Lost: share of the variance of last states, over ")
    assert 0 < lost < report.lost(by="mean")[0]


def test_training_together_lowers_the_error_of_the_last_states():
    held_out = batches(2, seed=5)
    own, true = fitted().report(held_out).lost()
    apart, _ = fitted(joint=False).report(held_out).lost()
    assert own < 0.9 * apart
    assert true < 1.5 * apart


def test_states_of_padding_do_not_count():
    ids = batches(1, seed=5)[0]
    mask = torch.ones_like(ids)
    mask[:, -5:] = 0
    own = states_of(encoder(), ids)
    found = states_of(fitted().to_torch(), ids)
    kept = mask.flatten().numpy() == 1
    report = fitted().report([{"input_ids": ids, "attention_mask": mask}])
    assert report.n_predictions == kept.sum()
    expected = share_lost(found[kept], own[kept])
    assert report.lost()[0] == pytest.approx(expected, rel=1e-4)


def test_states_have_no_logit_to_explain():
    with pytest.raises(ValueError, match=r"that predicts tokens\. Got Tiny"):
        fitted().prompt_graph(batches(1)[0][0])


def test_states_must_belong_to_tokens():
    class Pooled(TinyEncoder):
        def forward(self, input_ids):
            return {
                "last_hidden_state": super()
                .forward(input_ids)["last_hidden_state"]
                .mean(dim=1)
            }

    with pytest.raises(ValueError, match="must return a last_hidden_state of shape"):
        ModelUnwrapper(Pooled().eval()).fit(batches())
    assert np.isfinite(fitted().loss_curve_).all()


def test_rows_of_a_layer_need_no_run_beyond_it():
    model = copy.deepcopy(encoder())
    ran = []
    model.blocks[1].mlp.register_forward_hook(lambda *_: ran.append(True))
    slotted = SlottedModel(model, ["blocks.0.mlp", "blocks.1.mlp"])
    given = batches(2, seed=5)
    first = rows_of_layer(slotted, given, [0, 1], {}, "blocks.0.mlp")
    assert not ran
    embedded = encoder().embed(torch.cat(given))
    read = embedded + embedded.mean(dim=1, keepdim=True)
    np.testing.assert_allclose(first[0], read.detach().flatten(0, 1), atol=1e-6)
    rows_of_layer(slotted, given, [0, 1], {}, "blocks.1.mlp")
    assert len(ran) == 2
    assert slotted.batch(given[0], 0).outputs().shape == (32, 16, 16)
