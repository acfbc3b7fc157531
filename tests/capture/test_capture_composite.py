"""Rows of encoders, decoders and parts that see images get their own tokens."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from skfeat.capture import capture
from skfeat.capture._config import special_tokens_of
from tests.language_model import seeded, tiny_t5

transformers = pytest.importorskip("transformers")


def tokens(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(5, 50, shape, generator=generator)


@pytest.fixture(scope="module")
def t5():
    return tiny_t5()


@pytest.fixture(scope="module")
def bart():
    config = transformers.BartConfig(
        vocab_size=50,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=32,
    )
    return seeded(lambda: transformers.BartForConditionalGeneration(config))


@pytest.fixture(scope="module")
def llava():
    text = transformers.LlamaConfig(
        vocab_size=60,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    vision = transformers.CLIPVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    config = transformers.LlavaConfig(
        text_config=text, vision_config=vision, image_token_index=59
    )
    return seeded(lambda: transformers.LlavaForConditionalGeneration(config))


@pytest.mark.parametrize("length", [6, 4, 7])
def test_decoder_modules_have_the_tokens_of_the_decoder(t5, bart, length):
    ids, decoded = tokens(4, 6), tokens(4, length, seed=1)
    mask, own = torch.ones_like(ids), torch.ones_like(decoded)
    mask[0, 3:], own[1, 2:] = 0, 0
    batch = {
        "input_ids": ids,
        "attention_mask": mask,
        "decoder_input_ids": decoded,
        "decoder_attention_mask": own,
    }
    for model, module, expected, real in (
        (t5, "encoder.block.0", ids, mask),
        (t5, "decoder.block.0", decoded, own),
        (t5, "decoder.block.0.layer.1.EncDecAttention.q", decoded, own),
        (t5, "decoder.block.0.layer.1.EncDecAttention.k", ids, mask),
        (t5, "lm_head", decoded, own),
        (bart, "model.encoder.layers.0", ids, mask),
        (bart, "model.decoder.layers.0", decoded, own),
    ):
        found = capture(model, [batch], module)
        sequence, position = np.nonzero(real.numpy())
        np.testing.assert_array_equal(found.sequence, sequence)
        np.testing.assert_array_equal(found.position, position)
        np.testing.assert_array_equal(found.token_ids, expected[real.bool()])
    with pytest.raises(ValueError, match=r"of 'input_ids' and of 'decoder_input_ids'"):
        capture(t5, [batch], ["encoder.block.0", "decoder.block.0"])


def test_a_decoder_that_makes_its_tokens_of_labels(t5, bart):
    ids, labels = tokens(4, 6), tokens(4, 6, seed=1)
    labels[2, 4:] = -100
    found = capture(
        t5,
        [{"input_ids": ids, "labels": labels}],
        "decoder.block.0",
        special_tokens=None,
    )
    shifted = np.column_stack([np.zeros(4), labels[:, :-1].clamp(min=0)])
    np.testing.assert_array_equal(found.token_ids, shifted.ravel())
    batch = [{"input_ids": ids}]
    with pytest.raises(ValueError, match="does not name: pass decoder_input_ids"):
        capture(bart, batch, "model.decoder.layers.0")
    found = capture(bart, batch, "model.encoder.layers.0")
    np.testing.assert_array_equal(found.token_ids, ids.ravel())


def test_sound_has_no_tokens():
    config = transformers.WhisperConfig(
        vocab_size=60,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        num_mel_bins=8,
        max_source_positions=6,
        max_target_positions=20,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=3,
        suppress_tokens=None,
        begin_suppress_tokens=None,
    )
    model = seeded(lambda: transformers.WhisperForConditionalGeneration(config))
    decoded = tokens(4, 6)
    decoded[:, 0] = 3
    batch = {"input_features": torch.randn(4, 8, 12), "decoder_input_ids": decoded}
    found = capture(model, [batch], "model.encoder.layers.0")
    assert found.token_ids is None
    np.testing.assert_array_equal(found.sequence, np.repeat(np.arange(4), 6))
    found = capture(model, [batch], "model.decoder.layers.0")
    np.testing.assert_array_equal(found.token_ids, decoded[:, 1:].ravel())


def test_images_have_no_tokens(llava):
    # As many positions as image patches, so that the shape does not tell.
    ids = torch.cat([torch.ones(3, 1).long(), torch.full((3, 4), 59)], dim=1)
    longer = torch.cat([ids, tokens(3, 4)], dim=1)
    images = torch.randn(3, 3, 8, 8)
    batch = {"input_ids": longer, "pixel_values": images}
    found = capture(llava, [batch], "model.language_model.layers.0")
    np.testing.assert_array_equal(found.token_ids, longer[:, 1:].ravel())
    found = capture(
        llava,
        [{"input_ids": ids, "pixel_values": images}],
        "model.vision_tower.encoder.layers.0",
    )
    assert found.token_ids is None
    assert found.n_rows == 15


def test_special_tokens_of_nested_configurations(llava):
    ids = tokens(2, 6)
    ids[:, 0] = 1
    found = capture(llava, [{"input_ids": ids}], "model.language_model.layers.0")
    np.testing.assert_array_equal(found.token_ids, ids[:, 1:].ravel())

    model = torch.nn.Identity()
    text = {"eos_token_id": [4, 5], "pad_token_id": None}
    model.config = SimpleNamespace(bos_token_id=3, text_config=text, decoder="a name")
    assert special_tokens_of(model) == [3, 4, 5]


@pytest.mark.parametrize("shape", [(4, 6), (6, 6)])
def test_a_model_that_works_with_positions_first(shape):
    config = transformers.XLNetConfig(
        vocab_size=50, d_model=16, n_layer=1, n_head=2, d_inner=32
    )
    model = seeded(lambda: transformers.XLNetModel(config))
    ids = tokens(*shape)
    found = capture(model, [{"input_ids": ids}], "layer.0", special_tokens=None)
    with torch.no_grad():
        expected = model(ids).last_hidden_state.flatten(0, 1)
    np.testing.assert_allclose(found.activations["layer.0"], expected, atol=1e-6)
    np.testing.assert_array_equal(found.token_ids, ids.ravel())


def test_continued_sequences_are_refused(bart):
    with pytest.raises(ValueError, match="whole sequences"):
        capture(
            bart,
            [{"input_ids": tokens(2, 1), "past_key_values": object()}],
            "model.decoder.layers.0",
        )
