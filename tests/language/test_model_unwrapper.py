"""All MLPs of a language model replaced by sparse connections between features."""

import copy
from functools import cache

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import ConvergenceWarning
from sklearn.frozen import FrozenEstimator

from skfeat import FeatureConnector, SparseAutoencoder, Transcoder
from skfeat.activations import ReLU, TopK
from skfeat.language import ModelUnwrapper
from skfeat.language.whole._trained import HeldSparsity
from tests.language_model import tiny_model
from tests.tiny_causal import N_TOKENS, TinyCausal, batches, tiny_causal

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:.*features are dead"
)
PART = SparseAutoencoder(48, k=6, max_iter=8)
TRANSCODER = Transcoder(48, k=6, max_iter=1)
MLPS = ["blocks.0.mlp", "blocks.1.mlp"]


def new(model=None, **changed):
    options = {
        "input_autoencoder": PART,
        "output_autoencoder": PART,
        "n_nonzero_coefs": 6,
        "max_iter": 12,
        "random_state": 0,
    }
    return ModelUnwrapper(model or tiny_causal(), **(options | changed))


def only_transcoders(part, **changed):
    """Return an unwrapper without what transcoders leave without effect."""
    unused = dict.fromkeys(("input_autoencoder", "output_autoencoder"))
    return new(transcoder=part, n_nonzero_coefs=10, **(unused | changed))


@cache
def fitted():
    return new().fit(batches())


@cache
def fitted_apart():
    return new(joint=False, max_iter="auto").fit(batches())


@cache
def fitted_transcoders():
    return only_transcoders(Transcoder(48, k=6, max_iter=8)).fit(batches())


def loss_of(model, ids):
    with torch.no_grad():
        logits = model(ids)[:, :-1].flatten(0, 1)
    return torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten()).item()


def rows_of_mlp(model, ids, name):
    """Return what an MLP reads and computes."""
    seen = []
    module = model.get_submodule(name)
    handle = module.register_forward_hook(lambda m, a, out: seen.extend([a[0], out]))
    with torch.no_grad():
        model(ids)
    handle.remove()
    return [part.flatten(0, 1).numpy() for part in seen]


def test_the_model_on_features_computes_what_the_parts_do():
    unwrapper = fitted()
    assert unwrapper.module_names_ == MLPS
    ids = batches(1, seed=5)[0]
    on_features = unwrapper.to_torch()
    for i, name in enumerate(MLPS):
        read, made = rows_of_mlp(on_features, ids, name)
        codes = unwrapper.input_autoencoders_[i].transform(read)
        features = unwrapper.connectors_[i].predict(codes)
        expected = unwrapper.output_autoencoders_[i].inverse_transform(features)
        np.testing.assert_allclose(made, expected, atol=2e-4)


def test_zeros_are_exact_and_the_budget_is_kept():
    for unwrapper in (fitted(), fitted_apart()):
        for module, connector in zip(
            map(unwrapper.to_torch().get_submodule, MLPS),
            unwrapper.connectors_,
            strict=True,
        ):
            assert connector.coef_.nnz <= 6 * 48
            assert (module.coef != 0).sum() == connector.coef_.nnz
            assert connector.coef_.nnz > 0.9 * 6 * 40


def test_training_together_lowers_what_is_lost_in_both_protocols():
    held_out = batches(4, seed=7)
    report = fitted().report(held_out, beside={"apart": fitted_apart()})
    assert max(report.lost()) < 0.8 * min(report.lost(by="apart"))
    assert min(report.lost(by="mean")) > 3 * max(report.lost())
    own, true = report.lost()
    assert max(own, true) < 2 * min(own, true) + 0.05


def test_report_agrees_with_the_model_on_features():
    held_out = batches(3, seed=8)
    unwrapper, ids = fitted(), torch.cat(held_out)
    report = unwrapper.report(held_out)
    loss = loss_of(unwrapper.model.eval(), ids)
    assert report.loss == pytest.approx(loss, rel=1e-5)
    assert report.n_predictions == ids[:, 1:].numel()
    replaced = unwrapper.to_torch()
    assert report.lost()[0] == pytest.approx(loss_of(replaced, ids) - loss, abs=1e-4)
    alone = unwrapper.to_torch(MLPS[1:])
    for value in report.lost("L2 alone"):
        assert value == pytest.approx(loss_of(alone, ids) - loss, abs=1e-4)
    # With the model's own inputs to each replaced MLP.
    model = copy.deepcopy(unwrapper.model).eval()
    module = replaced.get_submodule
    for name in MLPS:
        read, _ = rows_of_mlp(unwrapper.model.eval(), ids, name)
        made = module(name)(torch.from_numpy(read)).reshape(*ids.shape, -1)
        model.get_submodule(name).register_forward_hook(lambda m, a, o, made=made: made)
    assert report.lost()[1] == pytest.approx(loss_of(model, ids) - loss, abs=1e-4)


def test_report_has_every_row_and_shows_itself():
    report = fitted().report(batches(1), beside={"transcoders": fitted_transcoders()})
    rows = set(zip(report.replaced, report.by, strict=True))
    ways = ("features", "transcoders", "mean", "zero")
    choices = ("all", "L1 alone", "L2 alone")
    assert rows == {(choice, way) for choice in choices for way in ways}
    text = str(report)
    assert "lost (own)" in text
    assert "nats a token in the model itself" in text
    assert "<table>" in report._repr_html_()
    assert len(report.to_frame()) == len(report.by)
    layers = report.layers
    assert layers["inputs"] == pytest.approx([6] * 4, abs=0.5)
    assert layers["n_weights"][2:] == [0, 0]
    for touched, connections in zip(
        layers["touched"], layers["connections"], strict=True
    ):
        assert touched > connections
    with pytest.raises(ValueError, match="replaced and by must be one of"):
        report.lost("L9 alone")


def test_connections_touched_are_those_of_active_inputs():
    unwrapper, ids = fitted(), batches(1, seed=9)[0]
    layers = unwrapper.report([ids]).layers
    read, _ = rows_of_mlp(unwrapper.to_torch(), ids, MLPS[0])
    codes = unwrapper.input_autoencoders_[0].transform(read)
    weights = np.asarray((unwrapper.connectors_[0].coef_ != 0).sum(axis=0)).ravel()
    expected = ((codes != 0) @ weights).mean()
    assert layers["connections"][0] == pytest.approx(expected, rel=0.01)


def test_the_model_and_global_state_are_left_alone():
    model = tiny_causal()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    new(model, max_iter=2).fit(batches(2)).report(batches(1))
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())
    assert all(weight.requires_grad for weight in model.parameters())
    assert all(weight.grad is None for weight in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_same_seed_gives_the_same_result():
    one, two = (new(max_iter=2).fit(batches(2)) for _ in range(2))
    for a, b in zip(one.layers(), two.layers(), strict=True):
        np.testing.assert_array_equal(a.coef.toarray(), b.coef.toarray())
        np.testing.assert_array_equal(a.encoder, b.encoder)


def test_transcoders_replace_mlps_and_are_trained_with_them():
    unwrapper, ids = fitted_transcoders(), batches(1, seed=5)[0]
    assert unwrapper.connectors_ == unwrapper.input_autoencoders_ == [None, None]
    on_features = unwrapper.to_torch()
    for name, transcoder in zip(MLPS, unwrapper.transcoders_, strict=True):
        read, made = rows_of_mlp(on_features, ids, name)
        np.testing.assert_allclose(made, transcoder.predict(read), atol=2e-4)
    part = Transcoder(48, k=6, max_iter=8)
    apart = only_transcoders(part, joint=False, max_iter="auto").fit(batches())
    report = unwrapper.report(batches(3, seed=8), beside={"apart": apart})
    assert report.lost()[0] < report.lost(by="apart")[0]


def test_skip_of_a_transcoder_is_trained_and_kept():
    part = Transcoder(24, k=3, skip=True, max_iter=4)
    unwrapper = only_transcoders(part, max_iter=2).fit(batches(2))
    read, made = rows_of_mlp(unwrapper.to_torch(), batches(1)[0], MLPS[0])
    predicted = unwrapper.transcoders_[0].predict(read)
    np.testing.assert_allclose(made, predicted, atol=2e-4)


def test_frozen_parts_stay_as_they_are():
    first = fitted_apart()
    frozen = [FrozenEstimator(part) for part in first.input_autoencoders_]
    outputs = [FrozenEstimator(part) for part in first.output_autoencoders_]
    connectors = [FrozenEstimator(first.connectors_[0]), FeatureConnector()]
    unwrapper = new(
        input_autoencoder=frozen,
        output_autoencoder=outputs,
        connector=connectors,
        max_iter=2,
    ).fit(batches(2))
    assert unwrapper.input_autoencoders_ == first.input_autoencoders_
    assert unwrapper.output_autoencoders_ == first.output_autoencoders_
    assert unwrapper.connectors_[0] is first.connectors_[0]
    assert unwrapper.connectors_[1] is not first.connectors_[1]


def test_a_list_mixes_transcoders_and_pairs():
    kept = fitted_transcoders().transcoders_[0]
    unwrapper = new(transcoder=[FrozenEstimator(kept), None], max_iter=2)
    unwrapper.fit(batches(2))
    assert unwrapper.transcoders_ == [kept, None]
    assert unwrapper.connectors_[0] is None
    assert unwrapper.connectors_[1].coef_.nnz


@pytest.mark.parametrize("activation", ["relu", "jumprelu", "batch_topk"])
def test_autoencoders_of_other_activations(activation):
    part = SparseAutoencoder(32, activation=activation, k=6, max_iter=4)
    unwrapper = new(
        input_autoencoder=part,
        output_autoencoder=part,
        connector=FeatureConnector(link="identity"),
        max_iter=2,
    ).fit(batches(2))
    read, made = rows_of_mlp(unwrapper.to_torch(), batches(1)[0], MLPS[0])
    codes = unwrapper.input_autoencoders_[0].transform(read)
    features = unwrapper.connectors_[0].predict(codes)
    expected = unwrapper.output_autoencoders_[0].inverse_transform(features)
    np.testing.assert_allclose(made, expected, atol=1e-3)


def test_a_budget_may_be_shared_between_layers():
    unwrapper = new(shared_budget=True).fit(batches())
    sizes = [connector.coef_.nnz for connector in unwrapper.connectors_]
    assert sum(sizes) <= 2 * 6 * 48
    assert sizes[0] != sizes[1]


def test_padding_counts_for_nothing():
    pytest.importorskip("transformers")
    model = tiny_model()
    rng = np.random.default_rng(0)
    ids = torch.from_numpy(rng.integers(1, 60, (8, 10)))
    part = SparseAutoencoder(24, k=4, max_iter=4)
    plain = [{"input_ids": ids, "attention_mask": torch.ones_like(ids)}]
    padded = [
        {
            "input_ids": torch.cat([ids, torch.zeros_like(ids)], dim=1),
            "attention_mask": torch.cat(
                [torch.ones_like(ids), torch.zeros_like(ids)], dim=1
            ),
        }
    ]
    unwrapper = new(model, input_autoencoder=part, output_autoencoder=part, max_iter=2)
    unwrapper.fit(plain)
    one, two = unwrapper.report(plain), unwrapper.report(padded)
    assert one.n_predictions == two.n_predictions == 72
    np.testing.assert_allclose(one.own, two.own, atol=1e-5)
    np.testing.assert_allclose(one.true, two.true, atol=1e-5)
    again = clone(unwrapper).fit(padded)
    for a, b in zip(unwrapper.output_means_, again.output_means_, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_without_a_model_a_sentence_says_what_to_do():
    unwrapper = copy.copy(fitted()).set_params(model=None)
    with pytest.raises(ValueError, match="use set_params"):
        unwrapper.to_torch()


class TwoRuns(TinyCausal):
    """A model that calls an MLP twice."""

    def forward(self, input_ids):
        return super().forward(input_ids) + 0 * self.blocks[0].mlp(
            self.embed(input_ids)
        ).sum(2, keepdim=True)


class Unused(TinyCausal):
    """A model with a module that never runs."""

    def __init__(self):
        super().__init__()
        self.unused = torch.nn.Linear(2, 2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"modules": ["blocks.7.mlp"]}, "modules must be names of modules"),
        ({"modules": "mlp"}, "names of modules of TinyCausal. Got 'mlp' instead"),
        ({"modules": []}, r"or a sequence of at least one name. Got \[\] instead"),
        ({"modules": [""]}, "inside the model.*'' is the whole model"),
        ({"modules": ["blocks"]}, "'blocks' is a ModuleList, which runs not at all"),
        ({"modules": ["blocks.0", MLPS[0]]}, "'blocks.0' holds 'blocks.0.mlp'"),
        ({"model": Unused(), "modules": ["unused"]}, "runs 0 times"),
        ({"input_autoencoder": [PART]}, "list of 2"),
        ({"transcoder": [None] * 3}, "list of 2"),
        ({"model": torch.nn.Linear(2, 2)}, "modules=None needs modules called"),
        ({"model": TwoRuns()}, "runs 2 times"),
        ({"input_autoencoder": [PART, 3]}, "input_autoencoder"),
        ({"output_autoencoder": SparseAutoencoder(48, k=0)}, "'k' parameter"),
    ],
)
def test_what_is_not_possible_is_refused_in_a_sentence(changed, message):
    with pytest.raises(ValueError, match=message):
        new(**changed).fit(batches(1))


def test_one_module_by_its_name():
    found = new(modules=MLPS[1], max_iter=1).fit(batches(1))
    assert found.module_names_ == MLPS[1:]
    expected = new(modules=MLPS[1:], max_iter=1).fit(batches(1))
    assert found.loss_curve_ == expected.loss_curve_


def test_a_single_batch_is_refused():
    with pytest.raises(TypeError, match="iterable of batches"):
        new().fit(batches(1)[0])
    with pytest.raises(TypeError, match="beside must be a dict"):
        fitted().report(batches(1), beside=[fitted()])


class Backwards(TinyCausal):
    """A model that sees what it would have to predict."""

    def forward(self, input_ids):
        return super().forward(input_ids.flip(1)).flip(1)


def test_tokens_that_are_all_the_same_are_fitted():
    fitted = new().fit([torch.zeros(8, 5, dtype=torch.int64)] * 2)
    assert all(np.isfinite(c.coef_.data).all() for c in fitted.connectors_)


def test_a_model_that_gives_nan_is_refused():
    model = tiny_causal()
    with torch.no_grad():
        next(reversed(list(model.parameters()))).fill_(torch.nan)
    with pytest.raises(ValueError, match="model must give numbers"):
        new(model).fit(batches(2))


def test_a_model_that_sees_later_tokens_is_refused():
    with pytest.raises(ValueError, match="causal"):
        new(Backwards()).fit(batches(1))


def test_clones_have_the_parameters():
    unwrapper = new()
    again = clone(unwrapper)
    assert again.get_params(deep=False).keys() == unwrapper.get_params(False).keys()
    assert again.model is not unwrapper.model
    assert again.model.logits.out_features == N_TOKENS


def test_what_training_together_alone_uses_is_told_without_it():
    with pytest.warns(UserWarning, match="max_iter .which needs joint=True"):
        new(joint=False, max_iter=3).fit(batches(1))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"input_autoencoder": PART, "connector": FeatureConnector()},
            "input_autoencoder .which needs a layer without a transcoder. and conn",
        ),
        ({"n_nonzero_coefs": 6}, "n_nonzero_coefs .which needs a layer without a tran"),
        ({"shared_budget": True}, "shared_budget .which needs a layer without a trans"),
        (
            {"transcoder": [TRANSCODER, None], "shared_budget": True},
            "shared_budget .which needs two connectors or more with a budget",
        ),
        (
            {
                "transcoder": [None, TRANSCODER],
                "input_autoencoder": [PART, PART],
                "output_autoencoder": [PART, None],
            },
            r": input_autoencoder\[1\] .which needs a layer without a transcoder. ch",
        ),
    ],
)
def test_what_transcoders_leave_without_effect_is_told(changed, message):
    options = {"transcoder": TRANSCODER, "n_nonzero_coefs": 10, "max_iter": 1}
    with pytest.warns(UserWarning, match=message):
        ModelUnwrapper(tiny_causal(), **(options | changed)).fit(batches(1))


@pytest.mark.filterwarnings("default::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    ("changed", "count"),
    [
        ({"joint": False, "max_iter": "auto"}, "4 of 6 parts (input_autoencoder[0], "),
        ({}, "2 of 2 parts (transcoder[0], transcoder[1])."),
        (
            {
                "transcoder": TRANSCODER,
                "input_autoencoder": None,
                "output_autoencoder": None,
                "n_nonzero_coefs": 10,
            },
            "2 of 2 parts (transcoder",
        ),
    ],
    ids=["apart", "joint", "transcoders"],
)
def test_parts_that_did_not_converge_are_told_once(changed, count):
    part = clone(PART).set_params(max_iter=1)
    parts = {"input_autoencoder": part, "output_autoencoder": part, "max_iter": 1}
    with pytest.warns(ConvergenceWarning, match="max_iter=1 epochs") as told:
        new(**(parts | changed)).fit(batches(1))
    (text,) = (str(w.message) for w in told if w.category is ConvergenceWarning)
    assert f"It happened in {count}" in text


def test_a_penalty_holds_the_number_of_active_features():
    codes = np.array([[1.0, 0.0, 2.0], [0.0, 0.0, 1.0]])
    held = HeldSparsity(ReLU(), codes)
    assert held.target == 1.5
    first = held.penalty
    held.codes = torch.ones(4, 3, requires_grad=True)
    loss = held.loss()
    assert held.penalty > first
    assert float(loss.detach()) == pytest.approx(3 * held.penalty)
    higher = held.penalty
    held.codes = torch.eye(3)
    held.loss()
    assert held.penalty < higher
    assert held.loss() == 0.0  # of a batch that has not run
    assert HeldSparsity(TopK(2), codes).penalty == 0.0
