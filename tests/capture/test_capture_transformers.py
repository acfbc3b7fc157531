"""Captures of a language model of transformers."""

import numpy as np
import pytest
import torch

from skfeat.capture import capture
from tests.adapters.test_torch_reader import assert_untouched, snapshot
from tests.capture.test_capture import assert_same
from tests.language_model import batches, tiny_model

transformers = pytest.importorskip("transformers")

NAMES = ["gpt_neox.layers.0", "gpt_neox.layers.1.mlp", "gpt_neox.layers.1.attention"]


@pytest.fixture(scope="module")
def model():
    return tiny_model()


def test_layers_are_those_that_the_model_returns(model):
    before = snapshot(model)
    data = batches()
    found = capture(model, data, NAMES)
    assert_untouched(model, before)
    model.eval()
    expected = []
    with torch.no_grad():
        for batch in data:
            hidden = model(**batch, output_hidden_states=True).hidden_states[1]
            keep = batch["attention_mask"].bool() & (batch["input_ids"] != 0)
            expected.append(hidden[keep])
    model.train()
    np.testing.assert_array_equal(
        found.activations["gpt_neox.layers.0"], torch.cat(expected)
    )
    assert (found.token_ids != 0).all()
    assert (found.position > 0).all()
    ids = torch.cat([batch["input_ids"] for batch in data]).numpy()
    np.testing.assert_array_equal(found.token_ids, ids[found.sequence, found.position])
    for name in NAMES:
        assert found.activations[name].shape == (found.n_rows, 16)


def test_the_part_that_holds_the_modules_will_do(model):
    names = [name.removeprefix("gpt_neox.") for name in NAMES]
    part = capture(model.gpt_neox, batches(), names)
    whole = capture(model, batches(), NAMES)
    for name in names:
        np.testing.assert_array_equal(
            part.activations[name], whole.activations[f"gpt_neox.{name}"]
        )


def test_a_batch_of_transformers(model):
    data = [transformers.BatchEncoding(dict(batch)) for batch in batches()]
    assert_same(capture(model, data, NAMES), capture(model, batches(), NAMES))


def test_attention_takes_named_inputs(model):
    inputs = capture(model, batches(), NAMES[2], what="input")
    norms = capture(model, batches(), "gpt_neox.layers.1.input_layernorm")
    np.testing.assert_array_equal(
        inputs.activations[NAMES[2]],
        norms.activations["gpt_neox.layers.1.input_layernorm"],
    )


def test_resumed_in_a_folder(model, tmp_path):
    whole = capture(model, batches(), NAMES, out=tmp_path / "rows")
    capture(model, batches()[:1], NAMES, out=tmp_path / "parts")
    assert_same(capture(model, batches(), NAMES, out=tmp_path / "parts"), whole)


def test_a_wrong_name_is_answered_with_the_right_one(model):
    with pytest.raises(ValueError, match=r"did you mean 'gpt_neox\.layers\.1\.mlp'"):
        capture(model, batches(), "gpt_neox.layer.1.mlp")
