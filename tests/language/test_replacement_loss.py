"""The loss with a module replaced is that of a model that is replaced by hand."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from sklearn.frozen import FrozenEstimator
from torch import nn
from torch.nn.functional import cross_entropy

from skfeat import FeatureConnector, SparseAutoencoder
from skfeat.capture import capture
from skfeat.language import LayerPair, ReplacementLoss, replacement_loss
from skfeat.language._replacement_table import Losses
from skfeat.metrics import paired_noise
from tests.adapters.test_torch_reader import assert_untouched, snapshot
from tests.capture.test_capture import TinyLM, tokens
from tests.language_model import tiny_model

NAMES = ["original", "reconstruction", "dense", "sparse", "mean", "zero"]


def fit_pair(rows, source, module, **params):
    part = SparseAutoencoder(24, k=6, max_iter=40)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LayerPair(part, part, min_events=5, random_state=0, **params).fit(
            rows[source], rows[module]
        )


class Outputs(dict):
    """Logits as an attribute, as transformers gives them."""

    __getattr__ = dict.__getitem__


class CausalLM(nn.Module):
    """Embeds, adds what two blocks compute of the running mean, and predicts."""

    def __init__(self, *, form="attribute"):
        super().__init__()
        torch.manual_seed(3)
        self.form = form
        self.embed = nn.Embedding(20, 6)
        self.stream = nn.Identity()
        self.mlp = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 6))
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(6, 20)

    def forward(self, input_ids, attention_mask=None):
        x = self.embed(input_ids)
        counts = torch.arange(1, x.shape[1] + 1)[:, None]
        x = self.stream(self.dropout(x + x.cumsum(1) / counts))
        logits = self.head(x + self.mlp(x) / counts)
        if self.form == "attribute":
            return Outputs(logits=logits)
        return (None, logits) if self.form == "tuple" else logits


def token_batches(n=3, length=9, seed=0):
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        ids = torch.from_numpy(rng.integers(1, 20, (4, length)))
        mask = torch.ones_like(ids)
        for row, real in enumerate(rng.integers(3, length + 1, 4)):
            ids[row, real:], mask[row, real:] = 0, 0
        ids[:, 0] = 0
        found.append({"input_ids": ids, "attention_mask": mask})
    return found


@pytest.fixture(scope="module")
def lm():
    model = CausalLM().train()
    model.config = type("Config", (), {"bos_token_id": 0})()
    rows = capture(model, token_batches(30, seed=1), ["stream", "mlp"]).activations
    return model, fit_pair(rows, "stream", "mlp")


def by_hand(model, pair, batches, replace):
    """Compute the loss one token at a time, with the forward written out."""
    total = n = 0
    model.eval()
    with torch.no_grad():
        for batch in batches:
            ids, mask = batch["input_ids"], batch["attention_mask"]
            for row, kept in zip(ids, mask, strict=True):
                x = model.embed(row)
                x = x + x.cumsum(0) / torch.arange(1, len(x) + 1)[:, None]
                y = model.mlp(x)
                real = [i for i in range(len(row)) if kept[i] and row[i] != 0]
                for i in real:
                    y[i] = torch.as_tensor(replace(x[[i]].numpy(), y[[i]].numpy()))[0]
                z = model.head(x + y / torch.arange(1, len(x) + 1)[:, None])
                for i in real:
                    if i + 1 in real:
                        log_p = z[i].double().log_softmax(0)
                        total -= log_p[row[i + 1]].item()
                        n += 1
    model.train()
    return total / n, n


def test_losses_are_those_computed_by_hand(lm):
    model, pair = lm
    data = token_batches()
    before = snapshot(model)
    table = replacement_loss(model, data, "mlp", pair, source="stream")
    assert_untouched(model, before)
    assert table.replacement == NAMES
    replacements = [
        lambda x, y: y,
        lambda x, y: pair.reconstruct(y),
        lambda x, y: pair.predict(x, "dense"),
        lambda x, y: pair.predict(x),
        lambda x, y: pair.output_mean_[None],
        lambda x, y: np.zeros_like(y),
    ]
    expected = [by_hand(model, pair, data, replace) for replace in replacements]
    np.testing.assert_allclose(table.loss, [loss for loss, _ in expected], rtol=1e-5)
    assert len(set(np.round(table.loss, 6))) == len(NAMES), "the data shall tell them"
    assert table.n_predictions == [expected[0][1]] * len(NAMES)


def test_what_is_recovered():
    losses = {"original": 1.0, "sparse": 2.0, "mean": 3.0, "zero": 5.0}
    table = ReplacementLoss.from_losses(losses, 7)
    assert table.recovered_zero == [1, 0.75, 0.5, 0]
    assert table.recovered_mean == [1, 0.5, 0, -1]
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(table)
    assert frame.shape == (4, 5)
    assert "recovered (zero)" in str(table)
    assert str(table).splitlines()[2].split() == [
        "sparse",
        "2.0000",
        "0.7500",
        "0.5000",
    ]
    losses["zero"] = losses["mean"] = 1.0
    assert np.isnan(ReplacementLoss.from_losses(losses, 7).recovered_zero).all()


def test_a_floor_within_noise_has_no_share():
    losses = {"original": 2.0, "sparse": 2.12, "mean": 2.01, "zero": 4.0}
    noise = {"original": 0.0, "sparse": 0.05, "mean": 0.05, "zero": 0.1}
    table = ReplacementLoss.from_losses(losses, 7, noise)
    assert table.recovered_zero == pytest.approx([1, 0.94, 0.995, 0])
    assert np.isnan(table.recovered_mean).all()
    assert table.floors_within_noise == ["mean"]
    lines = str(table).splitlines()
    assert [line.endswith("floor within noise") for line in lines[:5]] == [
        *(False, True, True, True, True),
    ]
    assert (
        "floor within noise: replaced by mean, the module's output changes the loss by "
        "+0.01, and the noise is 0.05 (95 %, over sequences)"
    ) in " ".join(lines[5:])
    assert max(map(len, lines)) <= 100
    for other in (pickle.loads(pickle.dumps(table)), copy.copy(table)):
        assert str(dict(other)) == str(dict(table))
        assert other.noise == noise
        assert str(other) == str(table)
    better = ReplacementLoss.from_losses(losses | {"mean": 1.0}, 7, noise)
    assert better.floors_within_noise == []


def test_noise_is_that_of_sequences(lm):
    model, pair = lm
    data = token_batches(12)
    table = replacement_loss(model, data, "mlp", pair, source="stream")
    assert list(table.noise) == NAMES
    differences, sizes = [], []
    for batch in data:
        for row in range(4):
            one = {name: values[[row]] for name, values in batch.items()}
            found = replacement_loss(model, [one], "mlp", pair, source="stream")
            n = found.n_predictions[0]
            differences.append(n * (found.loss[-1] - found.loss[0]))
            sizes.append(n)
    expected = paired_noise(differences, sizes)
    assert table.noise["zero"] == pytest.approx(expected, rel=1e-4)
    assert 0 < table.noise["original"] < 1e-5  # rounding


def test_a_module_that_does_not_matter_is_flagged(lm):
    model, pair = lm
    other = CausalLM()
    other.config = model.config
    with torch.no_grad():
        for parameter in other.mlp.parameters():
            parameter.mul_(1e-9)
    for data in (token_batches(), [token_batches(1)[0]]):
        table = replacement_loss(other, data, "mlp", pair, source="stream")
        assert "zero" in table.floors_within_noise
        assert np.isnan(table.recovered_zero).all()
        assert "replaced by zero" in str(table)
    # Of one sequence, its predictions count one by one.
    ids = torch.arange(1, 19)[None]
    table = replacement_loss(model, [ids], "mlp", pair, source="stream")
    assert 0 < table.noise["zero"] < np.inf


def test_losses_that_overflow_have_no_noise():
    losses = Losses(["original", "zero"])
    values = np.array([1.0, 2.0, 3.0])
    for last in (3.0, np.inf):
        new = np.array([1.5, 2.5, last])
        losses.add(np.array([0, 2, 2]), {"original": values, "zero": new})
    assert losses.means() == {"original": 2.0, "zero": np.inf}
    assert np.isnan(losses.noise("zero"))
    noise = {name: losses.noise(name) for name in ("original", "zero")}
    table = ReplacementLoss.from_losses(losses.means() | {"mean": 3.0}, 6, noise)
    assert table.floors_within_noise == []
    assert "inf" in str(table)


@pytest.mark.parametrize("form", ["tensor", "tuple"])
def test_any_form_of_logits(lm, form):
    model, pair = lm
    other = CausalLM(form=form)
    other.config = model.config
    data = token_batches()
    expected = replacement_loss(model, data, "mlp", pair, source="stream")
    found = replacement_loss(other, data, "mlp", pair, source="stream")
    assert found == expected


def test_the_input_of_the_module_is_a_source_too(lm):
    model, pair = lm
    data = token_batches()
    options = {"source": "mlp", "source_what": "input"}
    found = replacement_loss(model, data, "mlp", pair, **options)
    assert found == replacement_loss(model, data, "mlp", pair, source="stream")


def test_special_tokens_and_padding_are_left_alone(lm):
    model, pair = lm
    data = token_batches()
    whole = replacement_loss(
        model, data, "mlp", pair, source="stream", special_tokens=None
    )
    kept = sum(int(batch["attention_mask"][:, 1:].sum()) for batch in data)
    assert whole.n_predictions[0] == kept
    # What stands where there is padding matters to nothing.
    for batch in (changed := token_batches()):
        batch["input_ids"][batch["attention_mask"] == 0] = 5
    options = {"source": "stream"}
    expected = replacement_loss(model, data, "mlp", pair, **options)
    found = replacement_loss(model, changed, "mlp", pair, **options)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-6)


def test_a_module_that_gives_a_tuple_keeps_its_other_entries():
    model = TinyLM(d=8)
    batches = [{"input_ids": tokens(4, 8, seed=seed, low=3)} for seed in range(20)]
    rows = capture(model, batches, ["embed", "attention"]).activations
    pair = fit_pair(rows, "embed", "attention")
    seen = []
    handle = model.attention.register_forward_hook(
        lambda module, args, output: seen.append([type(v) for v in output])
    )
    table = replacement_loss(model, batches[:2], "attention", pair, source="embed")
    handle.remove()
    assert all(types == [torch.Tensor, torch.Tensor, type(None)] for types in seen)
    assert all(loss != table.loss[0] for loss in table.loss[1:])


def test_a_nonlinear_connector_is_measured_too(lm):
    model, pair = lm
    rows = capture(model, token_batches(30, seed=1), ["stream", "mlp"]).activations
    frozen = [
        FrozenEstimator(part)
        for part in (pair.input_autoencoder_, pair.output_autoencoder_)
    ]
    other = FeatureConnector(alpha=0.0, link="identity", fit_intercept=False)
    both = LayerPair(*frozen, min_events=5, ridge=0, nonlinear_connector=other)
    both.fit(rows["stream"], rows["mlp"])
    table = replacement_loss(model, token_batches(), "mlp", both, source="stream")
    loss = dict(zip(table.replacement, table.loss, strict=True))
    assert loss["nonlinear"] == pytest.approx(loss["dense"], abs=1e-5)


def test_the_model_is_left_alone_after_an_error(lm, monkeypatch):
    model, pair = lm
    before = snapshot(model)

    def fail(*args):
        raise RuntimeError("no prediction")

    monkeypatch.setattr(LayerPair, "predict", fail)
    with pytest.raises(RuntimeError, match="no prediction"):
        replacement_loss(model, token_batches(), "mlp", pair, source="stream")
    assert_untouched(model, before)
    monkeypatch.undo()

    def refuse(module, args, output):
        if len(calls) == 1:
            raise RuntimeError("in the second pass")
        calls.append(1)

    calls = []
    handle = model.head.register_forward_hook(refuse)
    before = snapshot(model)
    with pytest.raises(ValueError, match=r"does not run on batch 0.*second pass"):
        replacement_loss(model, token_batches(), "mlp", pair, source="stream")
    assert_untouched(model, before)
    handle.remove()


def test_bad_input_gets_one_sentence(lm):
    model, pair = lm
    data = token_batches()

    def refused(match, *args, error=ValueError, **options):
        options = {"source": "stream"} | options
        with pytest.raises(error, match=match):
            replacement_loss(*args, **options)

    refused("pair must be a LayerPair", model, data, "mlp", 3, error=TypeError)
    refused("not fitted", model, data, "mlp", LayerPair())
    refused("must be an iterable", model, data[0], "mlp", pair, error=TypeError)
    refused("did you mean 'mlp'", model, data, "mpl", pair)
    refused(
        r"source='head' must run before module='mlp'",
        model,
        data,
        "mlp",
        pair,
        source="head",
    )
    refused("hold nothing to predict", model, [], "mlp", pair)
    pooled = nn.Sequential(model.embed, model.mlp, nn.Flatten())
    ids = [data[0]["input_ids"]]
    refused("must return logits of shape", pooled, ids, "1", pair, source="0")
    rows = [torch.ones(2, 6)]
    refused("has no token ids to predict", model.mlp, rows, "2", pair, source="0")
    refused(
        "source='mlp.1' gives rows of 12 values, but the pair was fitted to rows of 6",
        *(model, data, "mlp.2", pair),
        source="mlp.1",
    )
    refused(
        "module='mlp.0' gives rows of 12 values, but the pair was fitted to rows of 6",
        *(model, data, "mlp.0", pair),
    )
    own = r"source='mlp' must run before module='mlp', .*; it is that output"
    refused(own, model, data, "mlp", pair, source="mlp")
    refused("'mlp' holds no tensor at index 1", model, data, "mlp", pair, index=1)
    refused(
        "'stream' holds no tensor at index 2",
        *(model, data, "mlp", pair),
        source_index=2,
    )
    part = CausalLM()
    part.head = nn.Linear(6, 9)
    refused(
        "model returns logits of 9 tokens, but batch 0 holds token 18: pass the whole",
        *(part, data, "mlp", pair),
    )
    refused("on the device 'meta'", CausalLM().to("meta"), data, "mlp", pair)


def test_batches_without_kept_tokens_count_for_nothing(lm):
    model, pair = lm
    data = token_batches()
    empty = {name: torch.zeros_like(values) for name, values in data[0].items()}
    special = {**empty, "attention_mask": torch.ones_like(empty["input_ids"])}
    options = {"source": "stream"}
    expected = replacement_loss(model, data, "mlp", pair, **options)
    more = [empty, *data[:2], special, *data[2:]]
    assert replacement_loss(model, more, "mlp", pair, **options) == expected
    with pytest.raises(ValueError, match="batches hold nothing to predict"):
        replacement_loss(model, [empty, special], "mlp", pair, **options)


def test_a_model_of_transformers():
    pytest.importorskip("transformers")
    model = tiny_model()
    rng = np.random.default_rng(0)
    data = []
    for _ in range(8):
        ids = torch.from_numpy(rng.integers(1, 60, (4, 12)))
        data.append({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    source, module = "gpt_neox.layers.0", "gpt_neox.layers.1.mlp"
    pair = fit_pair(capture(model, data, [source, module]).activations, source, module)
    before = snapshot(model)
    table = replacement_loss(model, data[:2], module, pair, source=source)
    assert_untouched(model, before)
    model.eval()
    with torch.no_grad():
        losses = [
            model(**batch, labels=batch["input_ids"]).loss.item() for batch in data[:2]
        ]
        assert table.loss[0] == pytest.approx(np.mean(losses), rel=1e-5)
        weights = model.gpt_neox.layers[1].mlp.dense_4h_to_h
        weights.weight.zero_()
        weights.bias.copy_(torch.from_numpy(pair.output_mean_))
        logits = torch.cat([model(**batch).logits for batch in data[:2]])
    ids = torch.cat([batch["input_ids"] for batch in data[:2]])
    expected = cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).item()
    assert table.loss[NAMES.index("mean")] == pytest.approx(expected, rel=1e-5)
