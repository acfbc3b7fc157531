"""ModelUnwrapper as a folder to share."""

import json
from functools import cache

import numpy as np
import pytest
import torch

from skfeat import SparseAutoencoder, Transcoder
from skfeat.language import ModelUnwrapper
from skfeat.sharing import from_pretrained, save_pretrained
from tests.tiny_causal import batches, tiny_causal

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:.*features are dead"
)


@cache
def fitted():
    """Return an unwrapper with a transcoder and a pair."""
    part = SparseAutoencoder(16, k=3, max_iter=2)
    return ModelUnwrapper(
        tiny_causal(),
        input_autoencoder=part,
        output_autoencoder=part,
        transcoder=[Transcoder(16, k=3, skip=True, max_iter=2), None],
        n_nonzero_coefs=3,
        max_iter=1,
        random_state=0,
    ).fit(batches(2))


def test_it_computes_the_same_again(tmp_path):
    unwrapper = fitted()
    save_pretrained(unwrapper, tmp_path)
    again = from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="set_params"):
        again.to_torch()
    again.set_params(model=unwrapper.model)
    ids = batches(1, seed=4)[0]
    with torch.no_grad():
        torch.testing.assert_close(
            again.to_torch()(ids), unwrapper.to_torch()(ids), rtol=0, atol=0
        )
    assert again.module_names_ == unwrapper.module_names_
    assert again.loss_curve_ == unwrapper.loss_curve_
    for one, other in zip(again.output_means_, unwrapper.output_means_, strict=True):
        np.testing.assert_array_equal(one, other)
    card = (tmp_path / "README.md").read_text()
    assert "16 to 16 by" in card
    assert "set_params(model=language_model)" in card


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["fitted"].update(module_names_=["a", "a"]), "must differ"),
        (lambda c: c["fitted"].update(module_names_="a"), "list of strings"),
        (lambda c: c["parts"].pop("1_connector"), "layer 1 has no connector|also has"),
        (lambda c: c["parts"]["1_connector"].update({"class": "LayerPair"}), "must be"),
        (lambda c: c["fitted"].update(other=1), "also has 'other'"),
    ],
)
def test_damaged_files_are_refused_in_a_sentence(change, message, tmp_path):
    save_pretrained(fitted(), tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        from_pretrained(tmp_path)
