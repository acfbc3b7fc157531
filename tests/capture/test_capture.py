"""Captured rows are those of the model, wherever they come from and go to."""

import copy
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skfeat.capture import capture
from tests.adapters.test_torch_reader import assert_untouched, snapshot

ROOT = Path(__file__).parents[2]


def mlp():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(8, 3)
    )


def float_batches(*sizes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(size, 4, generator=generator) for size in sizes]


class Attention(nn.Module):
    """Takes a named argument and returns a tuple, as those of transformers do."""

    def __init__(self, d):
        super().__init__()
        self.proj = nn.Linear(d, d)

    def forward(self, *, hidden_states, mask=None):
        out = self.proj(hidden_states)
        return out, out.softmax(-1), None


class TinyLM(nn.Module):
    """A language model as far as a capture can tell."""

    def __init__(self, vocabulary=20, d=6):
        super().__init__()
        torch.manual_seed(1)
        self.embed = nn.Embedding(vocabulary, d)
        self.attention = Attention(d)
        self.mlp = nn.Sequential(nn.Linear(d, 2 * d), nn.GELU(), nn.Linear(2 * d, d))
        self.dropout = nn.Dropout(0.1)
        self.config = type("Config", (), {"bos_token_id": 0, "eos_token_id": [1, 2]})()

    def forward(self, input_ids, attention_mask=None, *, double=False):
        x = self.embed(input_ids)
        x = x + self.dropout(self.attention(hidden_states=x)[0])
        x = self.mlp(2 * x if double else x)
        return {"logits": x @ self.embed.weight.T}


def tokens(*shape, seed=0, low=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(low, 20, shape, generator=generator)


LM_BATCHES = [tokens(2, 5, seed=seed) for seed in range(6)]


def test_rows_of_an_mlp_are_what_its_layers_compute():
    model, batches = mlp(), float_batches(5, 1, 7)
    X = torch.cat(batches)
    found = capture(model, batches, ["0", "1", "3"])
    model.eval()
    with torch.no_grad():
        pre = model[0](X)
        expected = {"0": pre, "1": pre.relu(), "3": model[3](pre.relu())}
    for name, rows in expected.items():
        assert found.activations[name].dtype == np.float32
        # An in-place ReLU follows layer 0: its rows are kept from it.
        np.testing.assert_allclose(found.activations[name], rows, rtol=1e-6, atol=1e-7)
    assert (found.activations["0"] < 0).any()
    np.testing.assert_array_equal(found.sequence, np.arange(13))
    np.testing.assert_array_equal(found.position, np.zeros(13))
    assert found.token_ids is None
    assert found.n_rows == 13
    assert repr(found) == "Capture(13 rows of '0' (8), '1' (8), '3' (3))"


def test_inputs():
    model, batches = mlp(), float_batches(5, 3)
    found = capture(model, batches, ["", "1"], what="input", dtype=np.float64)
    assert found.activations[""].dtype == np.float64
    np.testing.assert_array_equal(found.activations[""], torch.cat(batches))
    outputs = capture(model, batches, "0", dtype="float64")
    np.testing.assert_array_equal(found.activations["1"], outputs.activations["0"])


def test_tokens_are_found_again():
    model, ids = TinyLM(), [tokens(3, 7), tokens(2, 5, seed=1)]
    found = capture(model, ids, ["mlp", "mlp.0", "embed"], special_tokens=None)
    assert found.n_rows == 3 * 7 + 2 * 5
    np.testing.assert_array_equal(np.unique(found.sequence), np.arange(5))
    weights = model.embed.weight.detach().numpy()
    sequences = [*ids[0], *ids[1]]
    for row in range(found.n_rows):
        token = sequences[found.sequence[row]][found.position[row]]
        assert found.token_ids[row] == token
        np.testing.assert_array_equal(found.activations["embed"][row], weights[token])


def test_padding_and_special_tokens():
    model, ids = TinyLM(), tokens(4, 6, low=3)
    ids[0, 0], ids[1, 2], ids[2, 5] = 0, 1, 2  # named by the model's config
    mask = torch.ones_like(ids)
    mask[3, 4:], mask[0, :3] = 0, 0
    batch = {"input_ids": ids, "attention_mask": mask}
    everything = capture(model, [batch], "mlp", keep_padding=True, special_tokens=None)
    assert everything.n_rows == 24
    ordinary = (ids >= 3).numpy().ravel()
    real = mask.bool().numpy().ravel()
    for options, keep in [
        ({}, ordinary & real),
        ({"keep_padding": True}, ordinary),
        ({"special_tokens": None}, real),
        ({"special_tokens": [7, 9]}, real & ~np.isin(ids.numpy().ravel(), [7, 9])),
        ({"special_tokens": np.array([7])}, real & (ids.numpy().ravel() != 7)),
    ]:
        found = capture(model, [batch], "mlp", **options)
        for name in ("sequence", "position", "token_ids"):
            expected = getattr(everything, name)[keep]
            np.testing.assert_array_equal(getattr(found, name), expected)
        np.testing.assert_array_equal(
            found.activations["mlp"], everything.activations["mlp"][keep]
        )


@given(
    shapes=st.lists(
        st.tuples(st.integers(1, 4), st.integers(1, 6)), min_size=1, max_size=4
    ),
    seed=st.integers(0, 100),
    keep_padding=st.booleans(),
    special=st.sampled_from([None, "auto", [5, 6, 7]]),
)
@settings(max_examples=30)
@pytest.mark.filterwarnings("ignore:capture keeps no row")
def test_any_batches(tmp_path_factory, shapes, seed, keep_padding, special):
    rng = np.random.default_rng(seed)
    model = TinyLM()
    batches = [
        {
            "input_ids": torch.from_numpy(rng.integers(0, 20, shape)),
            "attention_mask": torch.from_numpy(rng.integers(0, 2, shape)),
        }
        for shape in shapes
    ]
    options = {"keep_padding": keep_padding, "special_tokens": special}
    found = capture(model, batches, "embed", **options)
    dropped = {None: [], "auto": [0, 1, 2]}.get(special if special != [5, 6, 7] else 0)
    dropped = special if dropped is None else dropped
    expected, first = [], 0
    for batch in batches:
        ids, mask = batch["input_ids"].numpy(), batch["attention_mask"].numpy()
        for (s, p), token in np.ndenumerate(ids):
            if (mask[s, p] or keep_padding) and token not in dropped:
                expected.append((first + s, p, token))
        first += len(ids)
    rows = zip(found.sequence, found.position, found.token_ids, strict=True)
    assert list(rows) == expected
    weights = model.embed.weight.detach().numpy()[found.token_ids]
    np.testing.assert_array_equal(found.activations["embed"], weights)
    folder = tmp_path_factory.mktemp("any") / "rows"
    assert_same(capture(model, batches, "embed", out=folder, **options), found)


def assert_same(a, b):
    assert a.activations.keys() == b.activations.keys()
    for name, rows in a.activations.items():
        np.testing.assert_array_equal(rows, b.activations[name])
        assert rows.dtype == b.activations[name].dtype
    for name in ("sequence", "position"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    assert (a.token_ids is None) == (b.token_ids is None)
    if a.token_ids is not None:
        np.testing.assert_array_equal(a.token_ids, b.token_ids)


@pytest.mark.parametrize(
    "batch",
    [
        tokens(2, 5),
        tokens(2, 5).int(),
        tokens(2, 5).numpy(),
        (tokens(2, 5),),
        [tokens(2, 5), torch.ones(2, 5)],
        {"input_ids": tokens(2, 5)},
        {"attention_mask": torch.ones(2, 5).bool(), "input_ids": tokens(2, 5)},
        {"input_ids": tokens(2, 5), "double": False},
    ],
    ids=range(8),
)
def test_kinds_of_batches(batch):
    model = TinyLM()
    expected = capture(model, [tokens(2, 5)], "mlp")
    assert_same(capture(model, [batch], "mlp"), expected)


def test_named_values_reach_the_model():
    ids = tokens(2, 5)
    once = capture(TinyLM(), [{"input_ids": ids}], "mlp", what="input")
    twice = capture(TinyLM(), [{"input_ids": ids, "double": True}], "mlp", what="input")
    np.testing.assert_allclose(
        twice.activations["mlp"], 2 * once.activations["mlp"], rtol=1e-6
    )


def test_tuples_and_named_inputs():
    model, ids = TinyLM(), tokens(2, 5)
    first = capture(model, [ids], "attention")
    second = capture(model, [ids], "attention", index=1)
    np.testing.assert_allclose(second.activations["attention"].sum(1), 1, rtol=1e-5)
    assert not np.allclose(first.activations["attention"].sum(1), 1)
    inputs = capture(model, [ids], "attention", what="input")
    embedded = capture(model, [ids], "embed")
    np.testing.assert_array_equal(
        inputs.activations["attention"], embedded.activations["embed"]
    )
    assert capture(model, [ids], "").activations[""].shape[1] == 20
    for index in (2, 3):
        with pytest.raises(ValueError, match=f"holds no tensor at index {index}"):
            capture(model, [ids], "attention", index=index)


def test_tables_of_whole_numbers_are_no_tokens():
    class Columns(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(20, 3)
            self.linear = nn.Linear(12, 2)

        def forward(self, x):
            return self.linear(self.embed(x).flatten(1))

    found = capture(Columns(), [tokens(5, 4), tokens(3, 4)], "linear")
    assert found.token_ids is None
    np.testing.assert_array_equal(found.sequence, np.arange(8))


def test_experts_see_all_tokens_in_one_list():
    class Experts(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.expert = nn.Embedding(20, 3), nn.Linear(3, 2)

        def forward(self, ids):
            x = self.embed(ids)
            return self.expert(x.flatten(0, 1)).unflatten(0, ids.shape)

    found = capture(Experts(), [tokens(3, 4)], ["expert", "embed"])
    assert found.activations["expert"].shape == (12, 2)
    np.testing.assert_array_equal(found.position, 3 * [0, 1, 2, 3])


def test_numpy_rows_take_the_dtype_of_the_model():
    X = np.arange(12.0).reshape(3, 4)
    X.flags.writeable = False
    model = mlp()
    assert_same(
        capture(model, [X], "0"), capture(model, [torch.tensor(X).float()], "0")
    )


def test_half_precision():
    model = mlp().bfloat16()
    batches = [batch.bfloat16() for batch in float_batches(5)]
    found = capture(model, batches, "0", dtype="float16")
    assert found.activations["0"].dtype == np.float16
    exact = capture(model, batches, "0")
    np.testing.assert_allclose(
        found.activations["0"], exact.activations["0"], rtol=1e-3, atol=1e-6
    )


def test_the_model_is_left_as_it_was():
    model = TinyLM()
    model.mlp.eval()
    model.embed.weight.requires_grad_(False)
    model(tokens(2, 5))["logits"].sum().backward()
    for module in model.modules():
        module.register_forward_hook(lambda *args: None)
    before = snapshot(model)
    seen = []

    def batches():
        for batch in LM_BATCHES:
            # Between batches, too.
            assert_untouched(model, before)
            assert torch.is_grad_enabled()
            seen.append(batch)
            yield batch

    capture(model, batches(), ["mlp", "attention"])
    assert_untouched(model, before)
    assert len(seen) == len(LM_BATCHES)


@pytest.mark.parametrize("what", ["input", "output"])
def test_a_raising_forward_leaves_the_model_as_it_was(what):
    model, enabled = TinyLM(), torch.is_grad_enabled()

    def refuse(*args):
        raise ZeroDivisionError

    model.mlp[1].register_forward_hook(refuse)
    before = snapshot(model)
    with pytest.raises(ZeroDivisionError):
        capture(model, LM_BATCHES, ["embed", "mlp.0"], what=what)
    assert_untouched(model, before)
    assert torch.is_grad_enabled() == enabled


def test_batches_are_not_written_on():
    model = nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 2))
    X = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    tensor = torch.tensor(X)
    capture(model, [tensor, X], "0")
    np.testing.assert_array_equal(
        tensor, np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    )
    assert (X < 0).any()


def test_dropout_is_off_and_training_goes_on():
    model = mlp()
    first = capture(model, float_batches(50), "2")
    assert_same(first, capture(model, float_batches(50), "2"))
    assert model.training
    assert all(module.training for module in model.modules())
    model(float_batches(3)[0]).sum().backward()


def test_grad_mode_is_the_callers():
    with torch.no_grad():
        capture(mlp(), float_batches(3), "0")
        assert not torch.is_grad_enabled()
    X = float_batches(3)[0].requires_grad_()
    assert capture(mlp(), [X], "0").activations["0"].shape == (3, 8)
    assert X.grad is None


def test_global_state_is_left_alone():
    numpy_state = np.random.get_state()[1].copy()  # noqa: NPY002
    torch_state, threads = torch.get_rng_state(), torch.get_num_threads()
    filters, call = list(warnings.filters), nn.Module.__call__
    model = copy.deepcopy(mlp())
    torch.set_rng_state(torch_state)
    capture(model, float_batches(3), "0")
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert torch.get_num_threads() == threads
    assert warnings.filters == filters
    assert nn.Module.__call__ is call


def test_a_shared_module_is_seen_under_either_name():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(4, 4)
            self.b = self.a

        def forward(self, x):
            return self.a(x)

    found = capture(Shared(), float_batches(3), ["a", "b"])
    np.testing.assert_array_equal(found.activations["a"], found.activations["b"])


def test_two_threads_round_one_model():
    model, found = mlp(), {}
    expected = capture(model, float_batches(20, 20), "3")

    def work(i):
        found[i] = capture(model, float_batches(20, 20), "3")

    threads = [threading.Thread(target=work, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(3):
        assert_same(found[i], expected)
    assert model.training
