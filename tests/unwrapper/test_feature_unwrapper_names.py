"""Names of features: the same wherever an unwrapper gives them."""

import pickle

import numpy as np
import pytest
from sklearn import config_context
from sklearn.base import clone

from skfeat import SparseAutoencoder
from tests.unwrapper.test_feature_unwrapper import X, unwrapper

pytestmark = [
    pytest.mark.usefixtures("few_updates"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:.*features are dead:UserWarning"),
]
WIDTHS = (8, 11, 8)


@pytest.fixture
def fitted():
    parts = [SparseAutoencoder(m, k=3, max_iter=2) for m in WIDTHS]
    return unwrapper(autoencoder=parts, distill=False).fit(X)


def names_of(layer):
    return [f"F{layer + 1}_{i}" for i in range(WIDTHS[layer])]


def test_names_are_those_of_the_network(fitted):
    assert fitted.get_feature_names_out().tolist() == names_of(2)
    for layer, name in enumerate(fitted.layer_names_):
        for which in (layer, name, layer - 3):
            found = fitted.get_feature_names_out(layer=which)
            assert found.tolist() == fitted.network().feature_names_[layer]
            assert found.tolist() == names_of(layer)
    formula = fitted.connectors_[0].formula(3)
    assert formula.startswith(f"{fitted.get_feature_names_out(layer=1)[3]} =")
    with pytest.raises(ValueError, match="should have length equal"):
        fitted.get_feature_names_out(["a"])


@pytest.mark.parametrize("container", ["pandas", "polars"])
def test_every_layer_has_its_own_columns(fitted, container):
    pytest.importorskip(container)
    arrays = [fitted.transform(X, layer=layer) for layer in range(3)]
    framed = clone(fitted).set_output(transform=container).fit(X)
    for layer in range(3):
        frame = framed.transform(X, layer=layer)
        assert list(frame.columns) == names_of(layer)
        np.testing.assert_array_equal(frame.to_numpy(), arrays[layer])
    assert list(framed.fit_transform(X).columns) == names_of(2)
    with config_context(transform_output=container):
        assert list(fitted.transform(X, layer="0").columns) == names_of(0)
    assert isinstance(fitted.transform(X), np.ndarray)
    assert list(pickle.loads(pickle.dumps(framed)).transform(X).columns) == names_of(2)


def test_the_index_of_the_rows_stays(fitted):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(X, index=np.arange(len(X)) + 100, columns=list("abcdefg"))
    fitted.set_output(transform="pandas").fit(frame)
    assert fitted.transform(frame, layer=1).index.equals(frame.index)


@pytest.mark.parametrize("layer", [True, False, 3, -4, "nope", 1.0, None])
def test_no_such_layer(fitted, layer):
    for call in (
        lambda: fitted.transform(X, layer=layer),
        lambda: fitted.get_feature_names_out(layer=layer),
    ):
        with pytest.raises(ValueError, match=r"int from -3 to 2 .*\['0', '2', '4'\]. "):
            call()
