"""Images are drawn with where in them features of maps fire."""

import numpy as np
import pytest

from skfeat.activations import ReLU
from skfeat.chain import Chain, Step
from skfeat.chain._kinds import Window
from skfeat.inspection import FeatureMapDisplay
from skfeat.maps import Patches
from skfeat.maps._reads import Reads, field_of
from skfeat.network import SparseMapNetwork

pytest.importorskip("matplotlib")


def network(input_shape=(1, 8, 8)):
    """Make a network whose first feature is the mean of 3 x 3 pixels, pooled."""
    one = Window(1, (8, 8), (3, 3), (1, 1), (1, 1), (1, 1), (1, 1))
    pool = Window(1, (8, 8), (2, 2), (2, 2), (1, 1), (0, 0), (0, 0))
    arrays = {"coef": np.ones((1, 9)), "intercept": np.zeros(1)}
    steps = [
        Step("conv", "c", arrays, one.settings(groups=1)),
        Step("relu"),
        Step("max_pool", "", {}, pool.settings()),
    ]
    out = {"coef": np.ones((2, 4)), "intercept": np.zeros(2)}
    return SparseMapNetwork(
        front=Chain.from_steps(steps),
        encoder_coef=np.array([[1.0], [-1.0]]),
        encoder_intercept=np.zeros(2),
        encoder_bias=np.zeros(1),
        activation=ReLU(),
        coefs=[np.eye(1, 8)],
        intercepts=[np.zeros(1)],
        links=["relu"],
        decoder_coef=np.ones((1, 1)),
        decoder_intercept=np.zeros(1),
        back=Chain.from_steps([Step("affine", "fc", out)]),
        layer_names=["c", "d"],
        map_shapes=[(4, 4), (2, 2)],
        reads=[Reads(Patches((4, 4), 2, stride=2))],
        input_shape=input_shape,
    )


IMAGES = np.zeros((5, 1, 8, 8))
for _row in range(5):
    IMAGES[_row, 0, _row, 4] = 1.0 + _row


def test_where_a_feature_fires():
    display = FeatureMapDisplay.from_estimator(
        network(), IMAGES, features=[0], n_examples=3
    )
    assert display.axes_.shape == (1, 3)
    assert display.names == ["F1_0"]
    assert [text.get_text() for text in (display.axes_[0, 0].yaxis.label,)] == ["F1_0"]
    # The strongest image comes first, its frame holds the pixel, as large as is read.
    np.testing.assert_array_equal(display.images[0, 0], IMAGES[4, 0])
    top, left, bottom, right = display.boxes[0, 0]
    assert top <= 4 < bottom
    assert left <= 4 < right
    assert (bottom - top, right - left) == (4, 4)
    fired = display.activations[0, 0]
    assert fired.shape == (4, 4)
    assert fired.max() == 5.0
    assert len(display.patches_) == 3


def test_fields_grow_with_the_layers():
    assert field_of(network(), 0) == [(-1, 2, 2), (-1, 2, 2)]
    assert field_of(network(), 1) == [(-1, 4, 4), (-1, 4, 4)]


def test_only_patches():
    display = FeatureMapDisplay.from_estimator(
        network(), IMAGES, layer="d", patches=True, n_examples=2
    )
    assert display.patches_ == []
    left, right = display.axes_[0, 0].get_xlim()
    assert right - left == 5  # at the border of six


def test_what_is_refused():
    with pytest.raises(ValueError, match="must be of a convolutional model"):
        FeatureMapDisplay.from_estimator(network(None), IMAGES)
    with pytest.raises(ValueError, match="features must be"):
        FeatureMapDisplay.from_estimator(network(), IMAGES, features=[7])
    with pytest.raises(ValueError, match="images must be"):
        FeatureMapDisplay(images=IMAGES[0], activations=[], boxes=[], names=[]).plot()
