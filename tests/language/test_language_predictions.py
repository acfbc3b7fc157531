"""Rows are written back to where they came from; logits must predict the next token."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from skfeat import SparseAutoencoder
from skfeat.capture import capture
from skfeat.language import LayerPair, ablation_effect, replacement_loss
from tests.language_model import seeded, tiny_t5

pytestmark = pytest.mark.filterwarnings("ignore:.*SparseAutoencoder used its max_iter")


class Model(nn.Module):
    """A causal language model whose recurrent layer may take the positions first."""

    def __init__(self, batch_first=True, shift=0, sees_all=False, swapped=False):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Embedding(20, 8), nn.Linear(8, 20)
        self.layer = nn.GRU(8, 8, batch_first=batch_first)
        self.batch_first, self.shift = batch_first, shift
        self.sees_all, self.swapped = sees_all, swapped

    def forward(self, ids):
        x = self.embed(ids)
        x = x if self.batch_first else x.transpose(0, 1)
        x = self.layer(x)[0]
        x = x if self.batch_first else x.transpose(0, 1)
        if self.sees_all:
            x = x + 0.01 * x.mean(1, keepdim=True)
        if self.shift:
            x = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], dim=1)
        logits = self.head(x)
        return logits.transpose(0, 1) if self.swapped else logits


def data(n=6, length=6):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(20, (n, length), generator=generator) for _ in range(2)]


@pytest.fixture(scope="module")
def pair():
    rows = capture(Model(), data(), ["embed", "layer"]).activations
    part = SparseAutoencoder(16, k=4, max_iter=5, random_state=0)
    pair = LayerPair(part, part, min_events=1, random_state=0)
    return pair.fit(rows["embed"], rows["layer"])


@pytest.mark.parametrize("shape", [(6, 6), (4, 7)])
def test_the_order_of_a_modules_rows_changes_nothing(pair, shape):
    batches = data(*shape)
    expected = replacement_loss(Model(), batches, "layer", pair, source="embed")
    found = replacement_loss(Model(False), batches, "layer", pair, source="embed")
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-6)
    part = pair.output_autoencoder_
    rows = capture(Model(), batches, "layer").activations["layer"]
    feature = int(part.transform(rows).sum(axis=0).argmax())
    options = {"feature": feature, "special_tokens": None, "sequences": [1, 2, 7]}
    first = ablation_effect(Model(), batches, "layer", part, **options)
    second = ablation_effect(Model(False), batches, "layer", part, **options)
    np.testing.assert_allclose(first.log_prob, second.log_prob, atol=1e-6)
    assert np.nanmax(np.abs(first.log_prob)) > 1e-4
    np.testing.assert_array_equal(first.token_ids, second.token_ids)
    np.testing.assert_array_equal(first.sequence, second.sequence)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"sees_all": True}, "logits depend on later tokens"),
        ({"shift": 1}, "do not depend on the token at their own position"),
        ({"swapped": True}, "they change with another sequence"),
    ],
)
def test_logits_of_another_kind_are_refused(pair, changed, message):
    model = Model(**changed)
    with pytest.raises(ValueError, match=message):
        replacement_loss(model, data(), "layer", pair, source="embed")
    with pytest.raises(ValueError, match=message):
        ablation_effect(model, data(), "layer", pair.output_autoencoder_, 0)


def test_a_mask_of_positions_is_no_part_of_the_sequences(pair):
    class Masked(Model):
        def forward(self, ids, ahead):
            logits = super().forward(ids)
            return logits + (ahead.sum(1) * 0.1)[:, None]

    ahead = torch.arange(36.0).reshape(6, 6)
    batches = [(ids, ahead) for ids in data()]
    arguments = (Masked(), batches, "layer", pair.output_autoencoder_, 1)
    whole = ablation_effect(*arguments)
    part = ablation_effect(*arguments, sequences=[2, 7])
    here = np.isin(whole.sequence, [2, 7])
    np.testing.assert_array_equal(part.sequence, whole.sequence[here])
    np.testing.assert_allclose(part.log_prob, whole.log_prob[here], atol=1e-6)


def fit(model, batch, source, module):
    rows = capture(model, [batch], [source, module]).activations
    part = SparseAutoencoder(24, k=4, max_iter=5, random_state=0)
    pair = LayerPair(part, part, min_events=1, random_state=0)
    return pair.fit(rows[source], rows[module])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_masked_language_model_is_refused(dtype):
    transformers = pytest.importorskip("transformers")
    options = {
        "vocab_size": 50,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
    }
    generator = torch.Generator().manual_seed(0)
    batch = {"input_ids": torch.randint(5, 50, (4, 12), generator=generator)}
    source, module = "bert.encoder.layer.0", "bert.encoder.layer.1"
    masked = transformers.BertForMaskedLM, transformers.BertConfig(**options)
    causal = (
        transformers.BertLMHeadModel,
        transformers.BertConfig(**options, is_decoder=True),
    )
    pair = None
    for (cls, config), is_causal in ((masked, False), (causal, True)):
        model = seeded(lambda cls=cls, config=config: cls(config)).to(dtype)
        pair = pair or fit(model, batch, source, module)
        for n in (4, 1):
            part = [{"input_ids": batch["input_ids"][:n]}]
            if is_causal:
                loss = replacement_loss(model, part, module, pair, source=source)
                assert loss.n_predictions[0] == n * 11
            else:
                with pytest.raises(ValueError, match="masked language model"):
                    replacement_loss(model, part, module, pair, source=source)


def test_an_encoder_decoder_predicts_the_tokens_of_its_decoder():
    pytest.importorskip("transformers")
    model = tiny_t5(n_layers=2)
    generator = torch.Generator().manual_seed(0)
    ids, decoded = torch.randint(2, 50, (2, 6, 9), generator=generator)
    mask = torch.ones_like(ids)
    mask[0, 5:] = 0
    batch = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": decoded}
    with torch.no_grad():
        logits = model(**batch).logits[:, :-1].flatten(0, 1)
    expected = cross_entropy(logits, decoded[:, 1:].flatten()).item()
    pair = fit(model, batch, "decoder.block.0", "decoder.block.1")
    for part in ("encoder", "decoder"):
        source, module = f"{part}.block.0", f"{part}.block.1"
        table = replacement_loss(model, [batch], module, pair, source=source)
        assert table.loss[0] == pytest.approx(expected, rel=1e-5)
        assert table.n_predictions[0] == 48
        assert len(set(np.round(table.loss, 7))) > 2
    found = ablation_effect(model, [batch], module, pair.output_autoencoder_, 0)
    np.testing.assert_array_equal(found.token_ids, decoded.ravel())
    with pytest.raises(ValueError, match="holds rows of 'input_ids' of batch 0, but"):
        ablation_effect(model, [batch], "encoder.block.1", pair.output_autoencoder_, 0)
    with pytest.raises(ValueError, match="must hold rows of the same tokens"):
        replacement_loss(model, [batch], module, pair, source="encoder.block.0")
