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

from interop_formats import FORMATS, openai, saelens, sparsify, tied  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from skfeat import SparseAutoencoder  # noqa: E402
from skfeat.interop import (  # noqa: E402
    read_dictionary_learning,
    read_openai,
    read_saelens,
    read_sparsify,
    read_tied,
    write_saelens,
)

ALL = pytest.mark.parametrize("name", FORMATS)
D, M = 6, 10


def rows(n=50, d=D, seed=7):
    return np.random.default_rng(seed).normal(size=(n, d)) * 3 + 1


def make(name, folder, d=D, m=M, seed=0):
    folder.mkdir(exist_ok=True)
    return FORMATS[name](folder, np.random.default_rng(seed), d, m)


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


@ALL
def test_saelens_round_trip(name, tmp_path):
    file = make(name, tmp_path / "from")
    sae, X = file.read(file.path), rows()
    write_saelens(sae, tmp_path / "to" / "new")
    again = read_saelens(tmp_path / "to" / "new")
    np.testing.assert_array_equal(again.transform(X), sae.transform(X))
    np.testing.assert_array_equal(again.components_, sae.components_)
    np.testing.assert_array_equal(again.intercept_, sae.intercept_)
    written = {path.name for path in (tmp_path / "to" / "new").iterdir()}
    assert written == {"cfg.json", "sae_weights.safetensors"}


FITS = {
    "relu": {"activation": "relu"},
    "topk": {"k": 3},
    "batch_topk": {"activation": "batch_topk", "k": 3},
    "jumprelu": {"activation": "jumprelu"},
    "gated": {"activation": "gated"},
    "tied": {"k": 3, "tied": True},
    "matryoshka": {"k": 3, "prefixes": [4, 8]},
    "unscaled": {"k": 3, "scale": False},
}


@pytest.mark.parametrize("params", FITS.values(), ids=FITS.keys())
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_own_fits_round_trip(params, dtype, tmp_path):
    X = (rows(400) * 20 + 100).astype(dtype)
    sae = SparseAutoencoder(16, random_state=0, **params).partial_fit(X)
    write_saelens(sae, tmp_path, metadata={"model_name": "some", "context_size": 8})
    again = read_saelens(tmp_path)
    np.testing.assert_array_equal(again.transform(X), sae.transform(X))
    np.testing.assert_array_equal(
        again.inverse_transform(sae.transform(X)),
        sae.inverse_transform(sae.transform(X)),
    )
    assert again.score(X) == sae.score(X)
    assert again.components_.dtype == sae.components_.dtype
    np.testing.assert_allclose(
        again.feature_density_, sae.feature_density_, rtol=1e-5, atol=1e-9
    )
    assert again.l0_ == pytest.approx(sae.l0_, rel=1e-5)
    assert again.metadata_["model_name"] == "some"
    assert again.metadata_["training_architecture"] == sae.activation
    # Metadata go on to the next file.
    write_saelens(again, tmp_path / "next")
    config = json.loads((tmp_path / "next" / "cfg.json").read_text())
    assert config["metadata"]["context_size"] == 8
    assert config["apply_b_dec_to_input"] is True
    assert config["dtype"] == dtype


def test_a_rewritten_folder_keeps_nothing_of_the_old_autoencoder(tmp_path):
    X = rows(100)
    fitted = SparseAutoencoder(12, k=2, random_state=0).partial_fit(X)
    write_saelens(fitted, tmp_path / "to")
    assert (tmp_path / "to" / "sparsity.safetensors").is_file()
    file = make("tied", tmp_path / "from")
    write_saelens(file.read(file.path), tmp_path / "to")
    assert not (tmp_path / "to" / "sparsity.safetensors").exists()
    assert read_saelens(tmp_path / "to").n_components == M


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    X = rows(100)
    sae = SparseAutoencoder(12, k=2, random_state=0).partial_fit(X)
    write_saelens(sae, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(*args):
        raise OSError("disk full")

    import safetensors.numpy

    monkeypatch.setattr(safetensors.numpy, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        write_saelens(sae, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(TypeError, match="autoencoder must be a SparseAutoencoder"):
        write_saelens(Ridge(), tmp_path)
    with pytest.raises(NotFittedError):
        write_saelens(SparseAutoencoder(), tmp_path)
    sae = SparseAutoencoder(12, k=2, random_state=0).partial_fit(rows(100))
    for metadata in ({"x": object()}, {"x": float("nan")}):
        with pytest.raises(TypeError, match="metadata must hold plain JSON values"):
            write_saelens(sae, tmp_path / "to", metadata=metadata)
    assert not (tmp_path / "to").exists()


def edit(path, **changes):
    config = json.loads(path.read_text())
    config.update(changes)
    config = {key: value for key, value in config.items() if value is not None}
    path.write_text(json.dumps(config))


OLD = {
    "relu": ("standard", {}),
    "named": ("standard", {"architecture": "standard", "activation_fn": "relu"}),
    "topk": (
        "topk",
        {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": 3}},
    ),
    "topk 2": (
        "topk",
        {"activation_fn": "topk", "activation_fn_kwargs": {"k": 3}},
    ),
    "version 5": ("standard", {"sae_lens_version": "5.3.1"}),
    "not normalised": ("standard", {"normalize_activations": False}),
}


@pytest.mark.parametrize(("architecture", "more"), OLD.values(), ids=OLD.keys())
def test_configurations_before_version_6(architecture, more, tmp_path):
    file = saelens(tmp_path, np.random.default_rng(0), D, M, architecture)
    config = {"d_in": D, "d_sae": M, "dtype": "float32", "hook_point": "h.1", **more}
    (tmp_path / "cfg.json").write_text(json.dumps(config))
    sae, X = read_saelens(tmp_path), rows()
    np.testing.assert_allclose(sae.transform(X), file.encode(X), rtol=1e-5, atol=2e-6)
    assert sae.metadata_["hook_name"] == "h.1"


def test_a_norm_scaling_factor_is_folded(tmp_path):
    file = saelens(
        *(tmp_path, np.random.default_rng(0), D, M, "jumprelu"),
        normalize_activations="expected_average_only_in",
    )
    with pytest.raises(
        ValueError, match="'expected_average_only_in' needs a norm_scal"
    ):
        read_saelens(tmp_path)
    for unit_norm in (False, True):
        sae = read_saelens(tmp_path, norm_scaling_factor=0.2, unit_norm=unit_norm)
        X = rows() * 5
        back = sae.inverse_transform(sae.transform(X))
        expected = file.decode(file.encode(0.2 * X)) / 0.2
        np.testing.assert_allclose(back, expected, rtol=1e-4, atol=1e-4)
    sae = read_saelens(tmp_path, norm_scaling_factor=0.2)
    np.testing.assert_allclose(
        sae.transform(X), file.encode(0.2 * X), rtol=1e-4, atol=1e-5
    )
    for factor in (0, -1.0, np.inf, "a"):
        with pytest.raises(ValueError, match="norm_scaling_factor must be positive"):
            read_saelens(tmp_path, norm_scaling_factor=factor)
    edit(tmp_path / "cfg.json", normalize_activations="none")
    with pytest.raises(ValueError, match="'none' has no place for a norm_scaling_fac"):
        read_saelens(tmp_path, norm_scaling_factor=0.2)


@pytest.mark.parametrize("mode", ["layer_norm", "constant_norm_rescale"])
def test_rows_normalised_before(mode, tmp_path):
    file = saelens(
        *(tmp_path, np.random.default_rng(0), D, M, "topk"), normalize_activations=mode
    )
    with pytest.raises(ValueError, match=f"{mode}' normalises each row by itself"):
        read_saelens(tmp_path)
    X = rows()
    codes = read_saelens(tmp_path, normalized=True).transform(X)
    np.testing.assert_allclose(codes, file.encode(X), rtol=1e-5, atol=2e-6)


def test_a_finetuned_scale_of_the_codes_is_folded(tmp_path):
    file = saelens(tmp_path, np.random.default_rng(0), D, M, "standard")
    path = tmp_path / "sae_weights.safetensors"
    tensors, scale = load_file(path), np.linspace(0.5, 2, M, dtype=np.float32)
    ones = {**tensors, "scaling_factor": torch.ones(M)}
    save_file(ones, path)
    X = rows()
    plain = read_saelens(tmp_path)
    np.testing.assert_allclose(
        plain.inverse_transform(plain.transform(X)),
        file.decode(file.encode(X)),
        rtol=1e-5,
        atol=1e-5,
    )
    save_file({**tensors, "scaling_factor": torch.tensor(scale)}, path)
    with pytest.raises(ValueError, match="but finetuning_scaling_factor is not true"):
        read_saelens(tmp_path)
    edit(tmp_path / "cfg.json", finetuning_scaling_factor=True)
    scaled = read_saelens(tmp_path)
    np.testing.assert_allclose(
        scaled.inverse_transform(scaled.transform(X)),
        file.decode(file.encode(X) * scale),
        rtol=1e-5,
        atol=1e-5,
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


def test_a_large_decoder_bias_is_folded_without_loss(tmp_path):
    file = saelens(
        *(tmp_path, np.random.default_rng(0), D, M, "jumprelu"),
        dtype=torch.float64,
        apply_b_dec_to_input=False,
    )
    path = tmp_path / "sae_weights.safetensors"
    tensors = load_file(path)
    tensors["b_dec"] *= 1e6
    save_file(tensors, path)
    X = rows()
    np.testing.assert_allclose(
        read_saelens(tmp_path).transform(X), file.encode(X), rtol=1e-6, atol=1e-7
    )
