"""Each MLP that a ModelUnwrapper replaces, as a pair and on one page."""

import copy

import numpy as np
import pytest
import torch
from sklearn.exceptions import NotFittedError
from torch import nn

from skfeat.capture import capture
from skfeat.language import LayerPair, ModelUnwrapper
from skfeat.language.whole._pairs import rows_of_mlps
from skfeat.language.whole._slots import SlottedModel
from tests.language.test_model_unwrapper import (
    MLPS,
    fitted,
    fitted_transcoders,
    new,
    rows_of_mlp,
)
from tests.language_model import tiny_model
from tests.network.test_network_explore import written
from tests.tiny_causal import N_TOKENS, batches

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:.*features are dead"
)
WORDS = [f" w{i}" for i in range(N_TOKENS)]


def test_pairs_compute_what_the_replaced_mlps_do():
    unwrapper, held_out = fitted(), batches(2, seed=5)
    pairs = unwrapper.pairs(held_out)
    assert list(pairs) == MLPS
    layers = dict(zip(MLPS, unwrapper.layers(), strict=True))
    for name, pair in pairs.items():
        assert isinstance(pair, LayerPair)
        X, Y = rows_of_mlp(unwrapper.model, held_out[1], name)
        i = MLPS.index(name)
        codes = unwrapper.input_autoencoders_[i].transform(X)
        features = unwrapper.connectors_[i].predict(codes)
        # Features that fire for no token of the batches are left out of a pair.
        silent = np.setdiff1d(np.arange(features.shape[1]), pair.live_outputs_)
        features[:, silent] = 0.0
        np.testing.assert_allclose(
            np.asarray(pair.predict(X)),
            unwrapper.output_autoencoders_[i].inverse_transform(features),
            atol=2e-4,
        )
        assert pair.coef_.nnz <= layers[name].coef.nnz
        np.testing.assert_allclose(
            pair.coef_.toarray()[pair.live_outputs_][:, pair.live_inputs_],
            layers[name].coef.toarray()[pair.live_outputs_][:, pair.live_inputs_],
            rtol=1e-6,
        )
        assert np.isfinite(pair.report(X, Y).totals["r2_sparse"])


def test_a_pair_reads_single_connections():
    pair = fitted().pairs(batches(4, seed=5))[MLPS[0]]
    feature = int(pair.live_outputs_[np.diff(pair.connector_.coef_.indptr).argmax()])
    assert pair.formula(feature).startswith(f"OF_{feature} = ")


def test_frequent_features_alone():
    more = fitted().pairs(batches(4, seed=5))
    rarest = [pair.output_events_[pair.live_outputs_].min() for pair in more.values()]
    n = int(max(rarest)) + 1
    few = fitted().pairs(batches(4, seed=5), min_events=n)
    for name in MLPS:
        assert few[name].output_events_[few[name].live_outputs_].min() >= n
        assert len(few[name].live_outputs_) < len(more[name].live_outputs_)


class InPlace(nn.Module):
    """A block that adds what its MLP computes to what the MLP has read, in place."""

    def __init__(self):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x):
        x += self.mlp(x)
        return x


def test_rows_are_those_of_one_run_without_special_tokens():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(20, 8), InPlace(), InPlace(), nn.Linear(8, 20))
    model.requires_grad_(False)
    names, texts = ["1.mlp", "2.mlp"], batches(3, seed=5)
    texts = [part % 20 for part in texts]
    runs = []
    handle = model[0].register_forward_hook(lambda *seen: runs.append(len(seen)))
    rows, captured = rows_of_mlps(SlottedModel(model, names), texts)
    handle.remove()
    assert len(runs) == len(texts)
    for what, at in (("input", 0), ("output", 1)):
        expected = capture(model, texts, names, what=what)
        for name in names:
            np.testing.assert_allclose(
                rows[name][at], expected.activations[name], atol=1e-6
            )
    for column in ("sequence", "position", "token_ids"):
        given, same = getattr(captured, column), getattr(expected, column)
        np.testing.assert_array_equal(given, same)
        assert given.dtype == same.dtype


def test_padding_and_special_tokens_are_left_out():
    transformers = pytest.importorskip("transformers")
    assert transformers
    model = tiny_model()
    model.config.bos_token_id = 0
    ids = torch.tensor([[0, 5, 6, 7, 8, 9], [0, 3, 4, 2, 2, 2]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0]])
    texts = [{"input_ids": ids, "attention_mask": mask}]
    names = [name for name, _ in model.named_modules() if name.endswith(".mlp")]
    rows, captured = rows_of_mlps(SlottedModel(model, names), texts)
    expected = capture(model, texts, names, what="output")
    assert captured.n_rows < 9
    np.testing.assert_array_equal(captured.token_ids, expected.token_ids)
    for name in names:
        np.testing.assert_allclose(rows[name][1], expected.activations[name], atol=1e-6)
    with pytest.raises(ValueError, match="no token that is not padding"):
        rows_of_mlps(SlottedModel(model, names), [{"input_ids": ids[:, :1]}])


def test_the_page_shows_every_layer(tmp_path):
    unwrapper, held_out = fitted(), batches(2, seed=5)
    before = copy.deepcopy(held_out)
    path = unwrapper.explore(
        held_out, tmp_path / "model.html", decode=WORDS, n_rows=4, n_examples=2
    )
    page = written(path)
    titles = [f"{name}, {side}" for name in MLPS for side in ("inputs", "outputs")]
    assert [layer["title"] for layer in page["layers"]] == titles
    assert len(page["rows"]) == 4
    assert "w7" in str(page["layers"][0]["labels"])
    for given, same in zip(held_out, before, strict=True):
        assert (given == same).all()


def test_what_cannot_be_shown(tmp_path):
    with pytest.raises(ValueError, match="replaced by a transcoder"):
        fitted_transcoders().explore(batches(1), tmp_path / "a.html")
    with pytest.raises(NotFittedError):
        new().pairs(batches(1))
    with pytest.raises(NotFittedError):
        ModelUnwrapper().explore(batches(1))
    with pytest.raises(ValueError, match="min_events must be an int of at least 1"):
        fitted().pairs(batches(1), min_events=0)
    with pytest.raises(TypeError, match="batches"):
        fitted().pairs(batches(1)[0])
    with pytest.raises(FileNotFoundError, match="folder"):
        fitted().explore(batches(1), tmp_path / "no" / "a.html")
