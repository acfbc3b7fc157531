"""Maps of convolutions become rows with their sample and place, and maps again."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from skfeat import SparseAutoencoder
from skfeat.capture import Capture, capture


def conv_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())


def images(n, height=8, width=6):
    generator = torch.Generator().manual_seed(n)
    return torch.randn(n, 2, height, width, generator=generator)


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    height=st.integers(3, 6),
    width=st.integers(3, 6),
    module=st.sampled_from(["0", "1"]),
)
@settings(max_examples=15)
def test_maps_become_rows_and_maps_again(sizes, height, width, module):
    model = conv_net()[:2]
    batches = [images(n, height, width) for n in sizes]
    found = capture(model, batches, module)
    whole = torch.cat([model[: int(module) + 1](batch) for batch in batches])
    expected = whole.detach().numpy()
    assert found.map_shape == expected.shape[2:]
    np.testing.assert_array_equal(found.to_maps(module), expected)
    rows, columns = np.unravel_index(found.position, found.map_shape)
    np.testing.assert_array_equal(
        found.activations[module], expected[found.sequence, :, rows, columns]
    )


class Layout(nn.Module):
    """Gives a channel-first series in another layout."""

    def __init__(self, layout):
        super().__init__()
        self.layout, self.layer = layout, nn.Identity()

    def forward(self, x):
        match self.layout:
            case "channels_last":
                x = x.movedim(1, -1)
            case "time_first":
                x = x.permute(2, 0, 1)
        return self.layer(x)


@pytest.mark.parametrize("layout", ["channels_first", "channels_last", "time_first"])
@pytest.mark.parametrize("shape", [(4, 3, 7), (4, 4, 4), (1, 3, 5)])
def test_layouts_of_series(layout, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = capture(Layout(layout), [x, x], "layer", layout=layout)
    np.testing.assert_array_equal(found.to_maps("layer"), torch.cat([x, x]))
    assert found.map_shape == (shape[2],)


def test_input_with_the_positions_first():
    x = torch.randn(7, 4, 3, generator=torch.Generator().manual_seed(0))
    found = capture(
        nn.Sequential(nn.Tanh()), [x], "", what="input", layout="time_first"
    )
    np.testing.assert_array_equal(found.to_maps(""), x.permute(1, 2, 0))


def test_positions_are_drawn_for_each_sample():
    model, batches = conv_net(), [images(3), images(4)]
    whole = capture(model, batches, "1")
    found = capture(model, batches, "1", n_positions=5, random_state=1)
    assert np.bincount(found.sequence).tolist() == [5] * 7
    # Other positions in other samples, and none twice.
    drawn = {tuple(found.position[found.sequence == i]) for i in range(7)}
    assert len(drawn) == 7
    assert len(set(zip(found.sequence, found.position, strict=True))) == 35
    maps = found.to_maps("1")
    kept = ~np.isnan(maps)
    assert kept.sum() == 35 * 5
    np.testing.assert_array_equal(maps[kept], whole.to_maps("1")[kept])
    again = capture(model, batches, "1", n_positions=5, random_state=1)
    np.testing.assert_array_equal(again.position, found.position)
    other = capture(model, batches, "1", n_positions=5, random_state=2)
    assert not np.array_equal(other.position, found.position)
    more = capture(model, batches, "1", n_positions=1000)
    np.testing.assert_array_equal(more.activations["1"], whole.activations["1"])


def test_global_random_numbers_are_left_alone():
    model, batches = conv_net(), [images(2)]
    before = torch.get_rng_state()
    capture(model, batches, "1", n_positions=3)
    torch.testing.assert_close(torch.get_rng_state(), before)


def test_folder_holds_the_sizes_and_continues_with_the_same_draw(tmp_path):
    model, batches = conv_net(), [images(3), images(2), images(4)]
    kept = capture(model, batches, ["0", "1"], n_positions=4, random_state=3)
    options = {"n_positions": 4, "random_state": 3, "out": tmp_path / "rows"}

    def stop(progress):
        if progress.n_batches == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        capture(model, batches, ["0", "1"], callback=stop, **options)
    assert Capture.load(tmp_path / "rows").map_shape == (6, 4)
    found = capture(model, batches, ["0", "1"], **options)
    assert found.map_shape == kept.map_shape == (6, 4)
    np.testing.assert_array_equal(found.to_maps("0"), kept.to_maps("0"))
    with pytest.raises(ValueError, match="of random_state=3 not 0; name another"):
        capture(model, batches, ["0", "1"], **options | {"random_state": 0})


def test_features_are_put_back_to_maps():
    found = capture(conv_net(), [images(6)], "1")
    rows = found.activations["1"]
    sae = SparseAutoencoder(8, k=2, sparse_output=True, random_state=0)
    codes = sae.partial_fit(rows).transform(rows)
    maps = found.to_maps(codes)
    assert maps.shape == (6, 8, 6, 4)
    np.testing.assert_array_equal(maps[2, :, 3, 1], codes.toarray()[2 * 24 + 3 * 4 + 1])


def test_series_of_several_lengths():
    model = nn.Sequential(nn.Conv1d(2, 3, 3))
    batches = [torch.ones(2, 2, 9), torch.ones(1, 2, 5)]
    found = capture(model, batches, "0", layout="channels_first")
    assert found.map_shape == (7,)
    maps = found.to_maps("0", fill=0)
    assert (maps[2, :, 3:] == 0).all()
    assert (maps[:2] != 0).all()


def test_drawn_positions_of_text():
    model = nn.Sequential(nn.Embedding(9, 4), nn.ReLU())
    found = capture(model, [torch.ones(3, 7, dtype=torch.int64)], "1", n_positions=2)
    assert np.bincount(found.sequence).tolist() == [2, 2, 2]
    assert found.map_shape is None


class Transposed(nn.Module):
    """Puts the samples last."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()

    def forward(self, x):
        return self.layer(x.permute(3, 1, 2, 0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ({"layout": "nchw"}, "layout must be one of 'auto', .* Got 'nchw' instead"),
        ({"n_positions": 0}, "n_positions must be an int of at least 1. Got 0"),
        ({"random_state": None}, "random_state must be an int from 0 .* Got None"),
        ({"modules": ["0", "2"]}, r"'0' and '2' hold maps of \(6, 4\) and maps of"),
        ({"modules": ["0", "3"]}, r"'0' and '3' hold maps of \(6, 4\) and rows for"),
        ({"modules": "3", "layout": "channels_first"}, "maps of 3-D or more, but the"),
        ({"layout": "time_first"}, r"needs maps of \(time, n, channels\), but the out"),
        ({"batches": [images(2), images(2, 9)]}, "Batch 1 has .7, 4., those before it"),
        (
            {"model": Transposed(), "modules": "layer"},
            "maps of 6 samples .* layout must say where the samples stand",
        ),
    ],
)
def test_refusals(call, message, tmp_path):
    given = {"model": conv_net(), "batches": [images(2)], "modules": "0"} | call
    with pytest.raises(ValueError, match=message):
        capture(**given)
    if "batches" in call:
        with pytest.raises(ValueError, match=message):
            capture(**given, out=tmp_path / "rows")


def test_to_maps_refuses_what_has_no_place():
    found = capture(conv_net(), [images(2)], "1")
    with pytest.raises(ValueError, match=r"must have the shape \(48, m\).* Got \(3, 3"):
        found.to_maps(np.ones((3, 3)))
    with pytest.raises(ValueError, match=r"values must be one of \['1'\] or an array"):
        found.to_maps("2")
    rows = capture(conv_net(), [images(2)], "3")
    with pytest.raises(ValueError, match="to_maps needs a capture of maps"):
        rows.to_maps("3")
