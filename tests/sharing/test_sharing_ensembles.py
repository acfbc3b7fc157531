"""FeatureEnsemble as a folder to share."""

import json
from functools import cache

import numpy as np
import pandas as pd
import pytest

from skfeat import FeatureEnsemble, SparseAutoencoder
from skfeat.datasets import make_sparse_features
from skfeat.sharing import from_pretrained, save_pretrained

pytestmark = pytest.mark.filterwarnings(
    "ignore::sklearn.exceptions.ConvergenceWarning", "ignore:.*features are dead"
)


@cache
def rows():
    X, _, _ = make_sparse_features(600, 8, 12, n_active=2, random_state=0)
    return pd.DataFrame(X, columns=[f"column {j}" for j in range(8)])


@cache
def fitted():
    part = SparseAutoencoder(14, k=2, max_iter=20)
    return FeatureEnsemble(
        part, n_fits=3, min_support=0.6, threshold=0.5, random_state=0
    ).fit(rows())


def test_it_computes_the_same_again(tmp_path):
    ensemble = fitted()
    save_pretrained(ensemble, tmp_path)
    again = from_pretrained(tmp_path)
    codes = ensemble.transform(rows())
    np.testing.assert_array_equal(again.transform(rows()), codes)
    np.testing.assert_array_equal(
        again.inverse_transform(codes), ensemble.inverse_transform(codes)
    )
    for name in ("features_", "support_", "mean_cosines_", "matched_cosines_"):
        np.testing.assert_array_equal(getattr(again, name), getattr(ensemble, name))
    assert len(again.autoencoders_) == 3
    np.testing.assert_array_equal(
        again.autoencoders_[1].transform(rows()),
        ensemble.autoencoders_[1].transform(rows()),
    )
    assert again.reference_ == ensemble.reference_
    assert list(again.feature_names_in_) == list(rows().columns)
    assert (again.n_fits, again.min_support, again.threshold) == (3, 0.6, 0.5)
    card = (tmp_path / "README.md").read_text()
    assert f"{len(ensemble.features_)} of 8 inputs, in 3 fits" in card


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["parts"].pop("fit_1"), "two fits at least, fit_0, fit_1"),
        (lambda c: c["fitted"].update(reference_=3), "from 0 to 2"),
        (lambda c: c["fitted"].pop("reference_"), "from 0 to 2"),
        (lambda c: c["fitted"].update(other=1), "also has 'other'"),
        (lambda c: c["parts"]["fit_0"].update({"class": "Transcoder"}), "must be a"),
    ],
)
def test_damaged_files_are_refused_in_a_sentence(change, message, tmp_path):
    save_pretrained(fitted(), tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("features_", 14, "features_ must be whole numbers from 0 to 13"),
        ("features_", -1, "features_ must be whole numbers from 0 to 13"),
        ("support_", 4, "support_ must be whole numbers from 1 to 3"),
    ],
)
def test_damaged_numbers_are_refused(name, value, message, tmp_path):
    save_pretrained(fitted(), tmp_path)
    with np.load(tmp_path / "arrays.npz") as file:
        arrays = dict(file)
    arrays[name][0] = value
    np.savez(tmp_path / "arrays.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        from_pretrained(tmp_path)
