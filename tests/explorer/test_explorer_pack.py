"""The parts of the explorer's page that know no network."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import sparse

from skfeat.explorer._description import Explorer, Gap, Layer, strongest_by_row
from skfeat.explorer._pack import pack
from skfeat.explorer._page import page_text
from skfeat.explorer._rows import as_labels, as_random, check_image_shape
from skfeat.explorer._statistics import (
    N_BINS,
    choose_rows,
    count_classes,
    summarize,
)
from tests.explorer.unpacked import unpack


@given(
    arrays.arrays(
        st.sampled_from([np.float32, np.float64, np.int64, np.uint8]),
        st.integers(0, 9),
        elements={"min_value": 0, "max_value": 200},
    ),
    st.text(),
)
def test_what_is_packed_comes_back(array, text):
    plain = {"a": [array, {"name": text}], "b": [None, 1, 2.5, True], "c": array}
    found = unpack(pack(plain))
    assert found["a"][1] == {"name": text}
    assert found["b"] == plain["b"]
    for own in (found["a"][0], found["c"]):
        np.testing.assert_allclose(own, array, rtol=2e-4, atol=1e-37)


def test_packed_numbers_keep_their_sign_and_what_is_not_finite():
    values = np.array([-3, 70_000], np.int64)
    floats = np.array([np.nan, np.inf, -np.inf, np.finfo(np.float32).max, -1e-30])
    found = unpack(pack({"ints": values, "floats": floats, "nothing": np.nan}))
    assert found["ints"].tolist() == values.tolist()
    np.testing.assert_allclose(found["floats"], floats.astype(np.float32), rtol=2e-4)
    assert found["nothing"] is None


def a_page(title, name):
    layers = [
        Layer("first", "features", [name, "b"], np.array([1.0, 2.0])),
        Layer("second", "features", ["c"], np.array([3.0])),
    ]
    gap = Gap.of(np.array([[1.0, 2.0]]), sparse.csr_array([[1.0, -2.0]]))
    return Explorer(
        title=title,
        layers=layers,
        gaps=[gap],
        rows=[],
        examples={"kind": "none", "rows": np.zeros(0, int), "labels": None},
        flow="product",
        strength_name="strength",
        part_name="part",
    )


def test_no_name_can_end_the_script_or_add_elements():
    evil = '</script><img src=x onerror="alert(1)">{{script}}{{data}}'
    text = page_text(a_page(evil, evil))
    plain = page_text(a_page("plain", "a"))
    for mark in ("<script", "</script", "<img"):
        assert text.count(mark) == plain.count(mark)
    assert text.count("&lt;/script&gt;&lt;img") == 2  # the title, and the heading


def test_the_page_names_nothing_outside_of_itself():
    text = page_text(a_page("plain", "a"))
    assert "http://" not in text
    assert "https://" not in text
    assert "{{" not in text
    assert "default-src 'none'" in text


def test_a_gap_keeps_the_strongest_edges_in_their_order():
    weights = sparse.csr_array([[1.0, 0, -2], [0, 0, 0], [4, 5, 6]])
    flows = sparse.csr_array([[9.0, 1, 8], [1, 1, 1], [0, 2, 7]])
    whole = Gap.of(flows, weights)
    assert whole.indptr.tolist() == [0, 2, 2, 5]
    assert whole.weights.tolist() == [1, -2, 4, 5, 6]
    assert whole.strength.tolist() == [9, 8, 0, 2, 7]
    part = Gap.of(flows, weights, most=3)
    assert (part.indptr.tolist(), part.n_edges) == ([0, 2, 2, 3], 5)
    assert part.indices.tolist() == [0, 2, 2]
    without = Gap.of(-flows)
    assert without.weights is None
    assert without.strength.tolist() == flows.data.tolist()


@given(
    arrays.arrays(np.float64, (5, 7), elements=st.integers(-3, 3)), st.integers(1, 4)
)
def test_the_strongest_of_each_row(values, most):
    found = strongest_by_row(sparse.csr_array(values), most).toarray()
    for own, kept in zip(values, found, strict=True):
        assert ((kept == own) | (kept == 0)).all()
        sizes = np.sort(np.abs(own))[::-1][:most]
        np.testing.assert_array_equal(np.sort(np.abs(kept))[::-1][:most], sizes)


@given(arrays.arrays(np.float32, (30, 4), elements=st.floats(-2, 5, width=16)))
def test_statistics_are_those_of_the_values(values):
    found = summarize(sparse.csc_array(values))
    np.testing.assert_allclose(found.density, (values != 0).mean(axis=0))
    np.testing.assert_array_equal(found.histogram.sum(axis=1), (values != 0).sum(0))
    np.testing.assert_allclose(found.high, np.maximum(values.max(axis=0), 0))
    np.testing.assert_allclose(found.low, np.minimum(values.min(axis=0), 0))
    assert found.histogram.shape == (4, N_BINS)


def test_examples_are_the_strongest_rows_and_one_of_each_level():
    values = np.zeros((40, 2))
    values[:30, 0] = np.linspace(0.1, 3, 30)
    values[[4, 9], 1] = 1, 1
    columns = sparse.csc_array(values)
    found = summarize(columns)
    choose_rows(columns, found, 2, 3, np.random.RandomState(0))
    assert found.rows[0, :2].tolist() == [29, 28]
    np.testing.assert_array_equal(found.values[0], values[found.rows[0], 0])
    # From the highest level to the lowest, and none of the strongest again.
    assert [int(v) for v in found.values[0, 2:]] == [2, 1, 0]
    assert len(set(found.rows[0])) == 5
    assert found.rows[1].tolist() == [4, 9, -1, -1, -1]


def test_firings_are_counted_by_label():
    columns = sparse.csc_array([[1.0, 0], [2, 0], [-3, 4]])
    counts = count_classes(columns, np.array([1, 1, 0]), 2)
    assert counts.tolist() == [[1, 2], [1, 0]]


def test_labels():
    assert as_labels(None, 3) is None
    labels = as_labels(np.array([2.0, 0.5, 2.0])[:, None], 3)
    assert (labels.texts, labels.classes) == (["2", "0.5", "2"], ["0.5", "2"])
    assert as_labels(np.array(["b", 1, None], object), 3).classes == ["1", "None", "b"]
    many = as_labels(np.arange(100) / 7, 100)
    assert (len(many.texts), many.classes) == (100, [])
    with pytest.raises(ValueError, match="y must be None or one label for each of the"):
        as_labels([1, 2], 3)


@pytest.mark.parametrize("shape", [(3, 3), (2, 3, 1), (2.0, 4), "ab"])
def test_an_image_shape_fits_the_rows(shape):
    assert check_image_shape((2, 4), 8) == (2, 4)
    with pytest.raises(ValueError, match="image_shape must be None or"):
        check_image_shape(shape, 8)


def test_random_states():
    state = np.random.RandomState(0)
    assert as_random(state) is state
    assert as_random(3).randint(100) == np.random.RandomState(3).randint(100)
    with pytest.raises(ValueError, match="random_state must be None, an int from 0"):
        as_random(-1)
