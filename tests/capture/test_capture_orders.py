"""Rows get their token, sequence and position in any order a module has them in."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from skfeat.capture import capture
from tests.adapters.test_torch_reader import assert_untouched, snapshot


def ids_of(n, length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(1, 20, (n, length), generator=generator)


class Ordered(nn.Module):
    """Embeds tokens, mixes their rows and holds the result in some order."""

    def __init__(self, order, mixing="local", lengths=None):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.linear = nn.Embedding(20, 6), nn.Linear(6, 7)
        self.held = nn.Identity()
        self.order, self.mixing, self.lengths = order, mixing, lengths

    def rows(self, ids):
        x = self.embed(ids)
        if self.mixing == "causal":
            x = x.cumsum(1)
        elif self.mixing == "anticausal":
            x = x.flip(1).cumsum(1).flip(1)
        elif self.mixing == "bidirectional":
            x = x + x.mean(1, keepdim=True)
        return self.linear(x).tanh()

    def forward(self, ids):
        x = self.rows(ids)
        if self.order == "time first":
            self.held(x.transpose(0, 1))
        elif self.order == "listed":
            self.held(x.flatten(0, 1))
        elif self.order == "listed time first":
            self.held(x.transpose(0, 1).flatten(0, 1))
        elif self.order == "packed":
            options = {"batch_first": True, "enforce_sorted": False}
            self.held(pack_padded_sequence(x, self.lengths, **options))
        elif self.order == "reversed":
            self.held(x.flip(1))
        else:
            self.held(x)
        return x


def assert_right(model, ids, found, module="held"):
    with torch.no_grad():
        expected = model.rows(ids).numpy()[found.sequence, found.position]
    np.testing.assert_allclose(found.activations[module], expected, atol=1e-6)
    np.testing.assert_array_equal(
        found.token_ids, ids.numpy()[found.sequence, found.position]
    )


@given(
    order=st.sampled_from(
        ["batch first", "time first", "listed", "listed time first", "packed"]
    ),
    mixing=st.sampled_from(["local", "causal", "anticausal", "bidirectional"]),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    seed=st.integers(0, 1000),
)
@settings(max_examples=30)
def test_any_order(order, mixing, shape, seed):
    lengths = np.random.default_rng(seed).integers(1, shape[1] + 1, shape[0])
    model = Ordered(order, mixing, torch.from_numpy(lengths))
    ids = ids_of(*shape, seed=seed)
    found = capture(model, [ids, ids + 0], ["held", "embed"])
    assert_right(model, torch.cat([ids, ids]), found)
    n_rows = lengths.sum() if order == "packed" else ids.numel()
    assert found.n_rows == 2 * n_rows
    weights = model.embed.weight.detach().numpy()[found.token_ids]
    np.testing.assert_array_equal(found.activations["embed"], weights)


@pytest.mark.parametrize("mixing", ["local", "causal", "anticausal"])
@pytest.mark.parametrize("shape", [(4, 4), (3, 8), (1, 6), (5, 2)])
def test_reversed_positions_are_refused(shape, mixing):
    model = Ordered("reversed", mixing)
    with pytest.raises(ValueError, match="'held' gives rows"):
        capture(model, [ids_of(*shape)], "held")


class Layer(nn.Module):
    """Holds a layer of torch that takes the positions first, or the sequences."""

    def __init__(self, layer, batch_first, self_attention=False):
        super().__init__()
        self.embed, self.layer = nn.Embedding(20, 8), layer
        self.batch_first, self.self_attention = batch_first, self_attention

    def forward(self, ids):
        x = self.embed(ids)
        x = x if self.batch_first else x.transpose(0, 1)
        x = self.layer(x, x, x) if self.self_attention else self.layer(x)
        x = x[0] if isinstance(x, tuple) else x
        return x if self.batch_first else x.transpose(0, 1)

    rows = forward


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("shape", [(5, 5), (3, 8), (8, 3), (2, 2)])
@pytest.mark.parametrize(
    "kind", ["lstm", "gru", "encoder", "attention"], ids=lambda kind: kind
)
def test_layers_of_torch(kind, shape, batch_first):
    torch.manual_seed(0)
    options = {"batch_first": batch_first}
    layer = {
        "lstm": lambda: nn.LSTM(8, 5, num_layers=2, bidirectional=True, **options),
        "gru": lambda: nn.GRU(8, 8, **options),
        "encoder": lambda: nn.TransformerEncoderLayer(8, 2, 16, **options),
        "attention": lambda: nn.MultiheadAttention(8, 2, **options),
    }[kind]()
    model = Layer(layer, batch_first, kind == "attention").eval()
    ids = ids_of(*shape)
    before = snapshot(model)
    found = capture(model, [ids], "layer")
    assert_untouched(model, before)
    assert found.n_rows == ids.numel()
    assert_right(model, ids, found, "layer")


def test_a_packed_lstm_keeps_to_its_lengths():
    class Packed(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.layer = nn.Embedding(20, 8), nn.LSTM(8, 5)

        def forward(self, ids):
            lengths = (ids != 0).sum(1)
            x = pack_padded_sequence(
                self.embed(ids), lengths, batch_first=True, enforce_sorted=False
            )
            return pad_packed_sequence(
                self.layer(x)[0], batch_first=True, total_length=ids.shape[1]
            )[0]

        rows = forward

    model, ids = Packed(), ids_of(4, 6)
    ids[0, 2:], ids[2, 4:], ids[3, 1:] = 0, 0, 0
    for what in ("output", "input"):
        found = capture(model, [ids], "layer", what=what)
        real = np.argwhere(ids.numpy())
        np.testing.assert_array_equal(
            np.column_stack([found.sequence, found.position]), real
        )
    assert_right(model, ids, capture(model, [ids], "layer"), "layer")


@pytest.mark.parametrize(
    "layer",
    [nn.LSTM(8, 5), nn.TransformerEncoderLayer(8, 2, 16)],
    ids=["lstm", "encoder"],
)
@pytest.mark.parametrize("shape", [(4, 4, 8), (5, 3, 8)])
def test_positions_first_in_the_batch_are_refused(layer, shape):
    with pytest.raises(ValueError, match=r"cannot be told|first axis of"):
        capture(layer, [torch.randn(shape)], "")


def test_a_single_sequence_without_a_batch_is_refused():
    with pytest.raises(ValueError, match="first axis of 'input' must count"):
        capture(nn.LSTM(8, 5), [torch.randn(6, 8)], "")


def test_rows_of_numbers_in_another_order():
    class Numbers(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(8, 3)

        def forward(self, x):
            return self.layer(x.transpose(0, 1)).transpose(0, 1)

    model = Numbers()
    for shape in ((2, 4, 8), (4, 4, 8)):
        x = torch.randn(shape)
        found = capture(model, [x], "layer")
        expected = model(x).detach().numpy()[found.sequence, found.position]
        np.testing.assert_allclose(found.activations["layer"], expected, atol=1e-6)


class Columns(nn.Module):
    """Convolves along positions, with the features before them."""

    def __init__(self, width):
        super().__init__()
        self.embed = nn.Embedding(20, 8)
        self.layer = nn.Conv1d(8, width, 3, padding=1)

    def forward(self, ids):
        return self.layer(self.embed(ids).transpose(1, 2)).transpose(1, 2)


@pytest.mark.parametrize("shape", [(3, 5), (1, 5), (5, 5)])
def test_features_before_positions_are_refused(shape):
    with pytest.raises(ValueError, match="not those of the positions of batch 0"):
        capture(Columns(5), [ids_of(*shape)], "layer")


def test_states_and_nested_tensors_are_refused():
    model = Layer(nn.LSTM(8, 5, num_layers=4), batch_first=True)
    with pytest.raises(ValueError, match="whose other outputs are its last states"):
        capture(model, [ids_of(3, 4)], "layer", index=1)

    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.layer = nn.Embedding(20, 8), nn.Identity()

        def forward(self, ids):
            x = self.embed(ids)
            return self.layer(torch.nested.nested_tensor([x[0], x[1, :2]]))

    with (
        pytest.warns(UserWarning, match="prototype"),
        pytest.raises(ValueError, match="enable_nested_tensor=False"),
    ):
        capture(Nested(), [ids_of(2, 4)], "layer")


class Pair(nn.Module):
    """An encoder and a decoder, both in blocks of one layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(20, 8)
        self.both = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)

    def forward(self, source, target):
        ahead = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        read = self.both.encoder(self.embed(source))
        return self.both.decoder(self.embed(target), read, tgt_mask=ahead)


@pytest.mark.parametrize(
    "shapes", [((4, 6), (4, 6)), ((5, 5), (5, 5)), ((4, 6), (4, 3))]
)
def test_a_decoder_has_its_own_tokens(shapes):
    model = Pair().eval()
    source, target = ids_of(*shapes[0]), ids_of(*shapes[1], seed=1)
    for module, ids in (
        ("both.encoder.layers.0.linear1", source),
        ("both.decoder.layers.0.linear1", target),
        ("both.decoder", target),
    ):
        found = capture(model, [(source, target)], module)
        np.testing.assert_array_equal(found.token_ids, ids.ravel())
    with pytest.raises(
        ValueError, match=r"of 'source' and of 'target' of .* separate calls"
    ):
        capture(
            model,
            [(source, target)],
            ["both.encoder.layers.0", "both.decoder.layers.0"],
        )


def test_rows_that_depend_on_two_arguments_alike_are_refused():
    class Joint(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.layer = nn.Embedding(20, 8), nn.Identity()

        def forward(self, source, target):
            read = self.embed(source).mean(1, keepdim=True)
            x = self.embed(target)
            return self.layer(x + x.mean(1, keepdim=True) + read)

    batch = (ids_of(3, 5), ids_of(3, 5, seed=1))
    with pytest.raises(ValueError, match="'source' and 'target' of batch 0 alike"):
        capture(Joint(), [batch], "layer")
    found = capture(Joint(), [(batch[0][:, :4], batch[1])], "layer")
    np.testing.assert_array_equal(found.token_ids, batch[1].ravel())


def test_the_batch_is_run_again_only_where_the_shape_does_not_tell():
    for order, shape, runs in (
        ("batch first", (3, 5), 1),
        ("batch first", (4, 4), 3),
        ("listed", (3, 5), 3),
    ):
        model, calls = Ordered(order, "causal"), []
        handle = model.embed.register_forward_hook(
            lambda *args, calls=calls: calls.append(1)
        )
        capture(model, [ids_of(*shape, seed=seed) for seed in range(4)], "held")
        handle.remove()
        assert len(calls) == 3 + runs


@pytest.mark.parametrize("order", ["time first", "listed time first", "listed"])
@pytest.mark.parametrize("first", [(1, 1), (1, 4), (4, 1)])
def test_a_batch_that_leaves_the_order_open_decides_nothing(order, first):
    model = Ordered(order, "causal")
    batches = [ids_of(*first), ids_of(*first, seed=1), ids_of(4, 4)]
    found = capture(model, batches, "held")
    n = 2 * first[0]
    last = found.sequence >= n
    with torch.no_grad():
        rows = model.rows(batches[-1]).numpy()
    expected = rows[found.sequence[last] - n, found.position[last]]
    np.testing.assert_allclose(found.activations["held"][last], expected, atol=1e-6)
    for shape in ((1, 4), (4, 1)):
        with pytest.raises(ValueError, match="'held' gives rows"):
            capture(Ordered("reversed"), [ids_of(*shape), ids_of(4, 4)], "held")


def test_tokens_that_are_all_the_same_are_changed_all_the_same():
    for token in (0, 1, 7):
        model, ids = Ordered("time first"), torch.full((3, 3), token)
        assert_right(model, ids, capture(model, [ids], "held"))


def test_more_runs_leave_no_trace():
    class Stateful(Ordered):
        def __init__(self):
            super().__init__("time first")
            self.register_buffer("total", torch.zeros(3))
            self.register_buffer("links", torch.eye(3).to_sparse())
            self.last, self.calls, self.seen = None, 0, []

        def forward(self, ids):
            self.seen.append(len(ids))
            self.last, self.calls = ids, self.calls + 1
            self.total += torch.rand(3)
            return super().forward(ids)

    model, ids = Stateful(), ids_of(4, 4)
    torch.manual_seed(5)
    capture(model, [ids], "held")
    assert model.calls == 1
    assert model.seen == [4]
    assert torch.equal(model.last, ids)
    torch.manual_seed(5)
    np.testing.assert_allclose(model.total, torch.rand(3))


def test_rows_that_differ_from_run_to_run_are_told_by_shape_alone():
    class Noisy(Ordered):
        def forward(self, ids):
            return self.held(self.rows(ids) + torch.randn(*ids.shape, 7))

    model = Noisy("batch first")
    model.more = nn.GRU(2, 2)  # so that the order is measured
    assert capture(model, [ids_of(3, 5)], "held").n_rows == 15
    with pytest.raises(ValueError, match="gives other values in each run"):
        capture(model, [ids_of(4, 4)], "held")


def test_unpadded_rows():
    class Unpadded(nn.Module):
        def __init__(self, by_position):
            super().__init__()
            self.embed, self.layer = nn.Embedding(20, 8), nn.Linear(8, 3)
            self.by_position = by_position

        def forward(self, input_ids, attention_mask):
            x, mask = self.embed(input_ids), attention_mask.bool()
            if self.by_position:
                x, mask = x.transpose(0, 1), mask.T
            return self.layer(x[mask])

        def rows(self, ids):
            return self.layer(self.embed(ids))

    ids, mask = ids_of(3, 5), torch.ones(3, 5, dtype=torch.long)
    mask[0, 3:], mask[1, :2] = 0, 0
    batch = {"input_ids": ids, "attention_mask": mask}
    for by_position in (False, True):
        model = Unpadded(by_position)
        found = capture(model, [batch], "layer", keep_padding=True)
        assert found.n_rows == mask.sum()
        assert_right(model, ids, found, "layer")


def test_named_tokens_behind_any_arguments():
    class Wrapper(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed = nn.Embedding(20, 3)

        def forward(self, *args, **kwargs):
            return self.embed(*args, **kwargs)

    ids = ids_of(3, 5)
    found = capture(Wrapper(), [(ids,)], "embed")
    np.testing.assert_array_equal(found.token_ids, ids.ravel())


def test_a_table_beside_rows_of_numbers():
    class Graph(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(4, 3)

        def forward(self, x, edges):
            mixed = x.index_add(0, edges[0], x[edges[1]])
            return self.layer(mixed)

    edges = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
    found = capture(Graph(), [(torch.randn(6, 4), edges)], "layer")
    np.testing.assert_array_equal(found.sequence, np.arange(6))
