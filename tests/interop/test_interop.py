"""What is read from a file computes what the library that wrote it computes."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.utils.validation import check_is_fitted

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.torch import load_file, save_file  # noqa: E402

from skfeat import SparseAutoencoder  # noqa: E402
from skfeat.interop import (  # noqa: E402
    read_dictionary_learning,
    read_openai,
    read_sparsify,
    read_tied,
)
from tests.interop_formats import FORMATS, openai, sparsify, tied  # noqa: E402

ALL = pytest.mark.parametrize("name", FORMATS)
D, M = 6, 10


def rows(n=50, d=D, seed=7):
    return np.random.default_rng(seed).normal(size=(n, d)) * 3 + 1


def make(name, folder, d=D, m=M, seed=0):
    folder.mkdir(exist_ok=True)
    return FORMATS[name](folder, np.random.default_rng(seed), d, m)


def edit(path, **changes):
    config = json.loads(path.read_text())
    config.update(changes)
    config = {key: value for key, value in config.items() if value is not None}
    path.write_text(json.dumps(config))


@ALL
def test_codes_and_reconstructions(name, tmp_path):
    file = make(name, tmp_path)
    sae = file.read(file.path)
    X = rows()
    expected = file.encode(X)
    assert 0 < (expected > 0).mean() < 1
    codes = sae.transform(X)
    np.testing.assert_allclose(codes, expected, rtol=1e-5, atol=2e-6)
    np.testing.assert_array_equal(codes > 0, expected > 0)
    np.testing.assert_allclose(
        sae.inverse_transform(codes), file.decode(expected), rtol=1e-5, atol=1e-5
    )
    single = sae.transform(X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, expected, rtol=1e-4, atol=1e-5)


@ALL
@given(d=st.integers(1, 12), m=st.integers(3, 20), seed=st.integers(0, 1000))
@settings(max_examples=5)
def test_any_shape(name, d, m, seed, tmp_path_factory):
    file = make(name, tmp_path_factory.mktemp("any"), d, m, seed)
    X = rows(20, d, seed)
    np.testing.assert_allclose(
        file.read(file.path).transform(X), file.encode(X), rtol=1e-4, atol=1e-5
    )


@ALL
def test_it_is_a_fitted_estimator(name, tmp_path):
    file = make(name, tmp_path)
    sae = file.read(str(file.path))
    assert isinstance(sae, SparseAutoencoder)
    check_is_fitted(sae)
    assert sae.activation == file.activation
    assert (sae.n_features_in_, sae.n_components) == (D, M)
    assert sae.components_.shape == sae.encoder_coef_.shape == (M, D)
    assert sae.intercept_.shape == (D,)
    assert sae.encoder_intercept_.shape == (M,)
    has_threshold = file.activation in ("jumprelu", "batch_topk", "gated")
    assert hasattr(sae, "threshold_") == has_threshold
    for attribute in ("components_", "encoder_coef_", "intercept_"):
        array = getattr(sae, attribute)
        assert array.dtype == (np.float64 if "float64" in name else np.float32)
        assert array.flags.c_contiguous
        assert array.flags.writeable
    X = rows()
    assert isinstance(sae.score(X), float)
    assert len(sae.get_feature_names_out()) == M
    assert sae.make_activation().name in ("relu", "topk", "jumprelu")
    frozen = FrozenEstimator(sae).fit(X, None)
    np.testing.assert_array_equal(frozen.transform(X), sae.transform(X))
    line = make_pipeline(FrozenEstimator(sae), Ridge()).fit(X, X[:, 0])
    assert line.predict(X).shape == (50,)
    again = pickle.loads(pickle.dumps(sae))
    np.testing.assert_array_equal(again.transform(X), sae.transform(X))
    assert again.metadata_ == sae.metadata_
    sparse = sae.set_params(sparse_output=True).transform(X)
    np.testing.assert_array_equal(sparse.toarray(), again.transform(X))
    with pytest.raises(ValueError, match="X has 7 features, but"):
        sae.transform(rows(d=7))
    with pytest.raises(NotFittedError):
        clone(sae).transform(X)
    assert clone(sae).get_params() == sae.get_params()
    assert "SparseAutoencoder" in repr(sae)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.filterwarnings("ignore:.*features are dead:UserWarning")
def test_training_starts_afresh_or_not_at_all(tmp_path):
    file = make("saelens topk", tmp_path)
    sae, X = file.read(file.path), rows(200)
    for again in (sae, pickle.loads(pickle.dumps(sae))):
        with pytest.raises(ValueError, match="holds no state of its training"):
            again.partial_fit(X)
    sae.set_params(warm_start=True, max_iter=2)
    with pytest.raises(ValueError, match="holds no state of its training"):
        sae.fit(X)
    sae.set_params(warm_start=False, random_state=0).fit(X)
    assert sae.n_iter_ > 0
    sae.partial_fit(X)


@ALL
def test_unit_norm(name, tmp_path):
    file = make(name, tmp_path)
    if "tied" in name and "openai" not in name:
        pytest.skip("its decoder rows have norm one, but for the centring")
    options = {"unit_norm": True}
    if "topk" in name and not any(s in name for s in ("by norm", "sparsify")):
        with pytest.raises(ValueError, match="unit_norm=True is not possible"):
            file.read(file.path, **options)
        return
    if name in ("sparsify bfloat16", "saelens bfloat16"):
        with pytest.raises(ValueError, match="rows of its decoder differ in norm"):
            file.read(file.path, **options)
        return
    raw, unit, X = file.read(file.path), file.read(file.path, **options), rows()
    np.testing.assert_allclose(np.linalg.norm(unit.components_, axis=1), 1, rtol=1e-6)
    norms = np.linalg.norm(raw.components_.astype(float), axis=1)
    np.testing.assert_allclose(
        unit.transform(X), raw.transform(X) * norms, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        unit.inverse_transform(unit.transform(X)),
        raw.inverse_transform(raw.transform(X)),
        rtol=1e-4,
        atol=1e-4,
    )


def test_openai_top_k(tmp_path):
    file = openai(tmp_path, np.random.default_rng(0), D, M)
    state = torch.load(file.path, weights_only=True)
    state["activation"] = "TopK"
    state["activation_state_dict"] = {"k": M, "postact_fn": "ReLU"}
    torch.save(state, file.path)
    with pytest.raises(ValueError, match="normalises each row by itself"):
        read_openai(file.path)
    sae, X = read_openai(file.path, normalized=True), rows()
    assert (sae.activation, sae.k) == ("topk", M)
    np.testing.assert_allclose(sae.transform(X), file.encode(X), rtol=1e-5, atol=2e-6)


def test_tied_without_norms_in_the_encoder(tmp_path):
    file = tied(tmp_path, np.random.default_rng(0), D, M)
    stored, X = load_file(file.path), rows()
    sae = read_tied(file.path, norm_encoder=False)
    pre = X @ stored["encoder"].double().numpy().T + stored["encoder_bias"].numpy()
    np.testing.assert_allclose(
        sae.transform(X), np.maximum(pre, 0), rtol=1e-5, atol=1e-5
    )
    np.testing.assert_allclose(np.linalg.norm(sae.components_, axis=1), 1, rtol=1e-6)


def test_sparsify_with_an_expansion_factor(tmp_path):
    file = sparsify(
        *(tmp_path, np.random.default_rng(0), D, 2 * D),
        num_latents=0,
        expansion_factor=2,
    )
    sae, X = read_sparsify(tmp_path), rows()
    np.testing.assert_allclose(sae.transform(X), file.encode(X), rtol=1e-5, atol=2e-6)
    edit(tmp_path / "cfg.json", expansion_factor=3)
    with pytest.raises(
        ValueError, match=r"has the shape \(12, 6\), which must be \(18"
    ):
        read_sparsify(tmp_path)


def test_a_checkpoint_and_safetensors_of_dictionary_learning(tmp_path):
    file = make("dictionary_learning BatchTopKSAE", tmp_path)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "ae.pt").rename(tmp_path / "checkpoints" / "ae_7.pt")
    sae = read_dictionary_learning(tmp_path, weights="checkpoints/ae_7.pt")
    X = rows()
    np.testing.assert_allclose(sae.transform(X), file.encode(X), rtol=1e-5, atol=2e-6)
    state = torch.load(tmp_path / "checkpoints" / "ae_7.pt", weights_only=True)
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "s.safetensors")
    again = read_dictionary_learning(tmp_path, weights="s.safetensors")
    np.testing.assert_array_equal(again.transform(X), sae.transform(X))
