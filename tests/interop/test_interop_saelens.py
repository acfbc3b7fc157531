"""SAELens' files, of any version, read and written."""

import json

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.torch import load_file, save_file  # noqa: E402

from skfeat import SparseAutoencoder  # noqa: E402
from skfeat.interop import read_saelens, write_saelens  # noqa: E402
from tests.interop.test_interop import ALL, D, M, edit, make, rows  # noqa: E402
from tests.interop_formats import saelens  # noqa: E402


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
    with pytest.raises(TypeError, match=r"metadata must be .* Got \[1\] instead"):
        write_saelens(sae, tmp_path / "to", metadata=[1])
    with pytest.raises(TypeError, match=r"folder must be a path.* Got None instead"):
        write_saelens(sae, None)
    for metadata in ({"x": object()}, {"x": float("nan")}):
        with pytest.raises(TypeError, match="metadata must hold plain JSON values"):
            write_saelens(sae, tmp_path / "to", metadata=metadata)
    assert not (tmp_path / "to").exists()


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
    with pytest.raises(ValueError, match="'none' must not have a norm_scaling_fac"):
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
