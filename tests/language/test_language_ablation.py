"""Removing a feature: compared with a module replaced by hand, one token at a time."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import BaseEstimator
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression
from torch import nn

from skfeat import SparseAutoencoder, Transcoder
from skfeat.capture import capture
from skfeat.language import AblationEffect, ablation_effect
from tests.adapters.test_torch_reader import assert_untouched, snapshot
from tests.language_model import batches, seeded, tiny_model

pytest.importorskip("transformers")

MLP, LAYER = "gpt_neox.layers.1.mlp", "gpt_neox.layers.0"


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def autoencoders(model):
    rows = capture(model, batches(), [MLP, LAYER]).activations
    return {
        name: SparseAutoencoder(24, k=4, random_state=0).partial_fit(rows[name])
        for name in rows
    }


class Without(nn.Module):
    """A module whose output lacks a feature, token by token."""

    def __init__(self, module, autoencoder, feature, skipped):
        super().__init__()
        self.module, self.autoencoder = module, autoencoder
        self.feature, self.skipped = feature, skipped

    def forward(self, *args, **kwargs):
        output = self.module(*args, **kwargs)
        rows = (output if isinstance(output, torch.Tensor) else output[0]).clone()
        for i, t in np.ndindex(rows.shape[:2]):
            if not self.skipped[i, t]:
                code = self.autoencoder.transform(rows[i, t][None].numpy())
                for feature in np.atleast_1d(self.feature):
                    row = self.autoencoder.components_[feature]
                    rows[i, t] -= torch.from_numpy(code[0, feature] * row)
        return rows if isinstance(output, torch.Tensor) else (rows, *output[1:])


def by_hand(model, batch, name, autoencoder, feature):
    """Return the effects on log-probability and logit, (n_sequences, length)."""
    parent, _, child = name.rpartition(".")
    parent, found = model.get_submodule(parent), []
    ids, mask = batch["input_ids"], batch["attention_mask"]
    skipped = ((mask == 0) | (ids == 0)).numpy()
    module = getattr(parent, child)
    training = model.training
    model.eval()
    for used in (module, Without(module, autoencoder, feature, skipped)):
        setattr(parent, child, used)
        with torch.no_grad():
            logits = model(**batch).logits.double()
        found.append((logits.log_softmax(-1), logits))
    setattr(parent, child, module)
    model.train(training)
    effects = np.full((2, *ids.shape), np.nan)
    for i, t in np.ndindex(ids.shape):
        if t and mask[i, t - 1]:
            for kind in (0, 1):
                own, other = (run[kind][i, t - 1, ids[i, t]] for run in found)
                effects[kind, i, t] = other - own
    return effects, ~skipped


@pytest.mark.parametrize("feature", ["strongest", "two"])
@pytest.mark.parametrize("name", [MLP, LAYER])
def test_as_by_hand(model, autoencoders, name, feature):
    autoencoder, data = autoencoders[name], batches()
    rows = capture(model, data, name)
    order = np.argsort(-autoencoder.transform(rows.activations[name]).sum(axis=0))
    feature = int(order[0]) if feature == "strongest" else order[1:3].tolist()
    before = snapshot(model)
    effect = ablation_effect(model, data, name, autoencoder, feature)
    assert_untouched(model, before)
    expected, kept = zip(
        *(by_hand(model, batch, name, autoencoder, feature) for batch in data),
        strict=True,
    )
    for i, found in enumerate((effect.log_prob, effect.logit)):
        wanted = np.concatenate([e[i][k] for e, k in zip(expected, kept, strict=True)])
        assert np.nanmax(np.abs(wanted)) > 1e-4
        assert_allclose(found, wanted, atol=2e-6)
    for column in ("sequence", "position", "token_ids"):
        assert_array_equal(getattr(effect, column), getattr(rows, column))
    codes = autoencoder.transform(rows.activations[name])[:, feature]
    assert_allclose(effect.activations, codes, rtol=1e-6)


def test_chosen_sequences_give_the_same_rows(model, autoencoders):
    arguments = (model, batches(), MLP, autoencoders[MLP], 3)
    whole = ablation_effect(*arguments)
    part = ablation_effect(*arguments, sequences=[9, 2, 2])
    here = np.isin(whole.sequence, [2, 9])
    assert_array_equal(part.sequence, whole.sequence[here])
    assert_array_equal(part.token_ids, whole.token_ids[here])
    assert_allclose(part.log_prob, whole.log_prob[here], atol=2e-6)
    assert "tokens, log_prob from" in repr(part)


def test_first_tokens_are_predicted_by_nothing(model, autoencoders):
    options = {"special_tokens": None}
    data = [{"input_ids": torch.tensor([[5, 6, 7], [8, 9, 10]])}]
    effect = ablation_effect(model, data, MLP, autoencoders[MLP], 3, **options)
    assert_array_equal(np.isnan(effect.log_prob), effect.position == 0)
    assert_array_equal(np.isnan(effect.logit), effect.position == 0)
    left = [{**data[0], "attention_mask": torch.tensor([[0, 1, 1], [1, 1, 1]])}]
    effect = ablation_effect(model, left, MLP, autoencoders[MLP], 3, **options)
    assert_array_equal(effect.position, [1, 2, 0, 1, 2])
    assert_array_equal(np.isnan(effect.log_prob), [True, False, True, False, False])


def test_of_a_silent_feature_nothing_is_seen(model, autoencoders):
    class Silent(BaseEstimator):
        components_ = np.ones((3, 16))

        def fit(self, X, y=None):
            return self

        def __sklearn_is_fitted__(self):
            return True

        def transform(self, X):
            return np.zeros((len(X), 3))

    effect = ablation_effect(model, batches(), MLP, Silent(), 1)
    assert_array_equal(effect.log_prob[effect.position > 0], 0.0)


def plain_model(rows="tensor"):
    """A model that returns a tensor, whose layer takes and gives what `rows` says."""

    class Layer(nn.Linear):
        def forward(self, x, scale):
            out = super().forward(x) * scale
            given = {"tuple": (None, out, x), "dict": {"a": out}, "list": [out]}
            return given.get(rows, out)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(20, 6), nn.Linear(6, 20)
            self.layer = Layer(6, 6)

        def forward(self, tokens):
            out = self.layer(self.embed(tokens), scale=2.0)
            out = {"tuple": lambda: out[1], "dict": lambda: out["a"]}.get(
                rows, lambda: out[0] if rows == "list" else out
            )()
            return self.head(out.cumsum(dim=1))

    return seeded(Model)


@pytest.mark.parametrize("what", ["input", "output"])
@pytest.mark.parametrize("rows", ["tensor", "tuple", "dict", "list"])
def test_whatever_a_module_gives(rows, what):
    model = plain_model(rows)
    ids = np.random.default_rng(0).integers(0, 20, (3, 9))
    X = capture(model, [ids], "layer", what=what).activations["layer"]
    autoencoder = SparseAutoencoder(12, k=3, sparse_output=True, random_state=0)
    autoencoder.partial_fit(X)
    feature = int(autoencoder.transform(X).sum(axis=0).argmax())
    effect = ablation_effect(
        model, [ids], "layer", autoencoder, feature, what=what, special_tokens=None
    )
    codes = autoencoder.transform(X)[:, [feature]].toarray()
    X = X - codes * autoencoder.components_[feature]
    X = torch.from_numpy(X.reshape(3, 9, 6).astype(np.float32))
    with torch.no_grad():
        if what == "input":
            X = nn.Linear.forward(model.layer, X) * 2.0
        other = model.head(X.cumsum(dim=1)).log_softmax(-1).numpy()
        own = model(torch.from_numpy(ids)).log_softmax(-1).numpy()
    change = np.take_along_axis((other - own)[:, :-1], ids[:, 1:, None], 2)[..., 0]
    assert np.abs(change).max() > 1e-3
    assert_allclose(effect.log_prob.reshape(3, 9)[:, 1:], change, atol=2e-6)


def test_half_precision_and_double():
    ids = torch.randint(20, (2, 7), generator=torch.Generator().manual_seed(0))
    single = plain_model()
    X = capture(single, [ids], "layer").activations["layer"]
    autoencoder = SparseAutoencoder(12, k=3, random_state=0).partial_fit(X)
    expected = ablation_effect(single, [ids], "layer", autoencoder, 1).log_prob
    for dtype, tolerance in ((torch.float64, 1e-5), (torch.bfloat16, 0.1)):
        other = plain_model().to(dtype)
        found = ablation_effect(other, [ids], "layer", autoencoder, 1).log_prob
        assert_allclose(found, expected, atol=tolerance)


def test_hooks_go_when_a_model_fails(model, autoencoders):
    before = snapshot(model)
    data = [{"input_ids": torch.full((1, 4), 1000)}]
    with pytest.raises(ValueError, match=r"batch 0 must be from 0 to 59.* Got 1000"):
        ablation_effect(model, data, MLP, autoencoders[MLP], 3)
    assert_untouched(model, before)


def test_nothing_known_has_a_repr():
    unknown = np.full(2, np.nan)
    columns = dict.fromkeys(["activations", "sequence", "position", "token_ids"])
    columns |= {"log_prob": unknown, "logit": unknown, "sequence": [0, 0]}
    assert repr(AblationEffect(**columns)) == "AblationEffect(2 tokens)"


def broken():
    model = tiny_model()
    with torch.no_grad():
        model.get_submodule(MLP).dense_4h_to_h.bias[0] = torch.nan
    return model


def wrong(usual, autoencoders, **changed):
    arguments = {
        "model": usual,
        "batches": batches(1),
        "module": MLP,
        "autoencoder": autoencoders[MLP],
        "feature": 3,
    }
    return ablation_effect(**(arguments | changed))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"feature": 24}, "feature must be an int from 0 to 23"),
        ({"feature": [1, 1]}, "feature must hold each number once"),
        ({"feature": []}, "feature must be one int or more"),
        ({"feature": 1.0}, "feature must be an int from 0 to 23"),
        (
            {"module": "gpt_neox.layers.7"},
            "modules must be names of .* Got 'gpt_neox.layers.7'",
        ),
        ({"module": [MLP, LAYER]}, "module must be the name of one module"),
        ({"module": "gpt_neox.embed_in", "what": "input"}, "must be a tensor of real"),
        ({"batches": []}, "batches is empty"),
        ({"sequences": [1, 100]}, "sequences must be numbers .* from 0 to 3. Got 100"),
        (
            {"sequences": [-1]},
            "sequences must be numbers .* from 0 to .* Got -1 instead",
        ),
        ({"sequences": np.zeros(0, int)}, "sequences must hold at least one number"),
        ({"autoencoder": LinearRegression().fit([[1]], [1])}, "autoencoder must have"),
        ({"autoencoder": Transcoder(4)}, "must be one that writes the rows that it re"),
        (
            {"autoencoder": FrozenEstimator(Transcoder(4))},
            r"Got FrozenEstimator\(.*Transcoder.* whose features add to the rows of",
        ),
        ({"model": tiny_model().to("meta")}, "on the device 'meta' have no values"),
        ({"model": broken()}, "'gpt_neox.layers.1.mlp' for batch 0 has .* not finite"),
        ({"sequences": [0.5]}, "sequences must be None or"),
        ({"batches": [{"input_ids": torch.ones(2, 3)}]}, "batches must hold token ids"),
    ],
)
def test_clear_errors(model, autoencoders, changed, message):
    with pytest.raises((ValueError, TypeError), match=message):
        wrong(model, autoencoders, **changed)


def test_a_part_of_a_model_gives_no_logits(model, autoencoders):
    with pytest.raises(ValueError, match="pass the whole language model"):
        wrong(model.gpt_neox, autoencoders, module="embed_in")
