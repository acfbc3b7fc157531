"""Transcoders in the files of SAELens, circuit-tracer and sparsify."""

import json

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.numpy import load_file, save_file  # noqa: E402

from skfeat import SparseAutoencoder, Transcoder  # noqa: E402
from skfeat.interop import (  # noqa: E402
    read_circuit_tracer,
    read_saelens_transcoder,
    read_sparsify,
    read_sparsify_transcoder,
    write_circuit_tracer,
    write_saelens_transcoder,
)

D, M, OUT, N = 6, 16, 5, 300
FITS = {
    "topk": {"k": 3},
    "batch_topk": {"activation": "batch_topk", "k": 2.5},
    "relu": {"activation": "relu"},
    "jumprelu": {"activation": "jumprelu"},
    "gated": {"activation": "gated"},
    "matryoshka": {"activation": "batch_topk", "k": 3, "prefixes": [4]},
}
ALL = pytest.mark.parametrize("params", FITS.values(), ids=FITS.keys())
SKIP = pytest.mark.parametrize("skip", [False, True], ids=["plain", "skip"])


def rows(dtype="float32"):
    rng = np.random.RandomState(0)
    X = (rng.randn(N, D) * 20 + 100).astype(dtype)
    return X, (np.maximum(X - 100, 0) @ rng.randn(D, OUT)).astype(dtype)


def fitted(dtype="float32", **params):
    return Transcoder(M, random_state=0, **params).partial_fit(*rows(dtype))


def assert_same(again, transcoder):
    X, Y = rows(transcoder.components_.dtype)
    np.testing.assert_array_equal(again.transform(X), transcoder.transform(X))
    np.testing.assert_array_equal(again.predict(X), transcoder.predict(X))
    assert again.score(X, Y) == transcoder.score(X, Y)
    assert again.components_.dtype == transcoder.components_.dtype
    assert hasattr(again, "skip_coef_") == transcoder.skip == again.skip
    assert again.n_targets_ == OUT
    assert again.n_features_in_ == D


@ALL
@SKIP
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_circuit_tracer_round_trip(params, skip, dtype, tmp_path):
    transcoder = fitted(dtype, skip=skip, **params)
    path = write_circuit_tracer(FrozenEstimator(transcoder), tmp_path / "l.safetensors")
    assert_same(read_circuit_tracer(path), transcoder)
    names = {"W_enc", "W_dec", "b_enc", "b_dec"} | ({"W_skip"} if skip else set())
    if transcoder.activation == "topk":
        names.add("k")
    elif transcoder.activation != "relu":
        names.add("activation_function.threshold")
    arrays = load_file(path)
    assert set(arrays) == names
    assert arrays["W_enc"].shape == (M, D)


@ALL
@SKIP
def test_saelens_round_trip(params, skip, tmp_path):
    transcoder = fitted(skip=skip, **params)
    if transcoder.activation == "topk":
        with pytest.raises(ValueError, match=r"no transcoder of SAELens has; fit"):
            write_saelens_transcoder(transcoder, tmp_path)
        assert not list(tmp_path.iterdir())
        return
    write_saelens_transcoder(transcoder, tmp_path, metadata={"hook_name": "in"})
    again = read_saelens_transcoder(tmp_path)
    assert_same(again, transcoder)
    assert again.metadata_["hook_name"] == "in"
    np.testing.assert_allclose(
        again.feature_density_, transcoder.feature_density_, rtol=1e-5, atol=1e-9
    )
    config = json.loads((tmp_path / "cfg.json").read_text())
    gate = "" if transcoder.activation == "relu" else "jumprelu_"
    assert config["architecture"] == f"{gate}{'skip_' * skip}transcoder"
    assert (config["d_in"], config["d_sae"], config["d_out"]) == (D, M, OUT)
    assert config["apply_b_dec_to_input"] is False


@pytest.mark.parametrize("params", [{"k": 3}, {"activation": "jumprelu"}])
@SKIP
def test_a_read_transcoder_computes_what_the_formula_says(params, skip, tmp_path):
    path = write_circuit_tracer(fitted(skip=skip, **params), tmp_path / "a.safetensors")
    arrays = {key: value.astype(np.float64) for key, value in load_file(path).items()}
    X, _ = rows("float64")
    u = X @ arrays["W_enc"].T + arrays["b_enc"]
    if "k" in arrays:
        least = np.sort(u, axis=1)[:, -int(arrays["k"])][:, None]
        codes = np.where((u >= least) & (u > 0), u, 0)
    else:
        codes = np.where(u > arrays["activation_function.threshold"], u, 0)
    expected = codes @ arrays["W_dec"] + arrays["b_dec"]
    if skip:
        expected += X @ arrays["W_skip"].T
    found = read_circuit_tracer(path).predict(X)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_a_read_transcoder_is_not_trained_on(tmp_path):
    path = write_circuit_tracer(fitted(k=3), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"This Transcoder was read from a file"):
        read_circuit_tracer(path).partial_fit(*rows())


def edited(tmp_path, **changed):
    path = write_circuit_tracer(fitted(k=3), tmp_path / "a.safetensors")
    arrays = {**load_file(path), **changed}
    save_file({key: a for key, a in arrays.items() if a is not None}, path)
    return path


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"W_dec": None}, "it has no 'W_dec'"),
        ({"W_out": np.zeros(3)}, "it also has 'W_out'"),
        ({"b_enc": np.zeros(3)}, r"b_enc has the shape \(3,\), which must be \(16,\)"),
        ({"k": np.array(0)}, "k must be from 1 to 16, not 0"),
        ({"k": np.array(2.5)}, "k is not a whole number"),
        ({"W_enc": np.full((M, D), np.nan)}, "'W_enc' has NaN or infinity"),
        (
            {"activation_function.threshold": np.zeros(M)},
            "it has both a k and",
        ),
    ],
)
def test_files_that_hold_something_else_are_refused(changed, message, tmp_path):
    path = edited(tmp_path, **changed)
    start = "Cannot read a transcoder of circuit-tracer from"
    with pytest.raises(ValueError, match=f"{start} .*: {message}"):
        read_circuit_tracer(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"architecture": "topk"}, "its architecture 'topk' is none of those that a T"),
        ({"d_out": 0}, "d_out must be a positive whole number, not 0"),
        ({"d_out": 7}, "W_dec has the shape"),
        ({"apply_b_dec_to_input": True}, "its apply_b_dec_to_input is true"),
        ({"normalize_activations": "layer_norm"}, "='layer_norm' cannot be expressed"),
    ],
)
def test_configurations_that_say_something_else_are_refused(changed, message, tmp_path):
    write_saelens_transcoder(fitted(activation="relu"), tmp_path)
    config = json.loads((tmp_path / "cfg.json").read_text())
    (tmp_path / "cfg.json").write_text(json.dumps(config | changed))
    with pytest.raises(ValueError, match=f"a transcoder of SAELens .*{message}"):
        read_saelens_transcoder(tmp_path)


def test_what_is_no_fitted_transcoder_is_not_written(tmp_path):
    path = tmp_path / "a.safetensors"
    for write, to in (
        (write_circuit_tracer, path),
        (write_saelens_transcoder, tmp_path / "b"),
    ):
        with pytest.raises(TypeError, match=r"must be a Transcoder. Got SparseAuto"):
            write(SparseAutoencoder(), to)
        with pytest.raises(NotFittedError):
            write(Transcoder(), to)
    with pytest.raises(ValueError, match=r"must end in .safetensors. Got"):
        write_circuit_tracer(fitted(k=3), tmp_path / "a.pt")
    with pytest.raises(FileNotFoundError, match=r"there is no '.*a.safetensors'"):
        read_circuit_tracer(path)
    assert not list(tmp_path.iterdir())


@SKIP
@pytest.mark.parametrize("activation", ["relu", "jumprelu"])
def test_saelens_computes_the_same(activation, skip, tmp_path):
    saes = pytest.importorskip("sae_lens.saes")
    transcoder = fitted(activation=activation, skip=skip)
    write_saelens_transcoder(transcoder, tmp_path)
    theirs = saes.SAE.load_from_disk(tmp_path)
    X, _ = rows()
    with torch.no_grad():
        found = theirs(torch.from_numpy(X)).numpy()
    np.testing.assert_allclose(found, transcoder.predict(X), rtol=1e-4, atol=1e-2)


def sparsify_folder(folder, *, skip=False, **changed):
    """Write a folder as sparsify does, and return its arrays."""
    rng = np.random.RandomState(0)
    shapes = {"encoder.weight": (M, D), "encoder.bias": (M,), "W_dec": (M, D)}
    shapes |= {"b_dec": (D,)} | ({"W_skip": (D, D)} if skip else {})
    arrays = {key: rng.randn(*shape).astype("f") for key, shape in shapes.items()}
    arrays["W_dec"][3] = 0  # of a feature that has never fired
    config = {"d_in": D, "num_latents": M, "k": 3, "activation": "topk"}
    config |= {"transcode": True, "skip_connection": skip, **changed}
    save_file(arrays, folder / "sae.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config))
    return arrays


@SKIP
def test_a_transcoder_of_sparsify_computes_what_the_library_does(skip, tmp_path):
    arrays = sparsify_folder(tmp_path, skip=skip)
    transcoder = read_sparsify_transcoder(tmp_path)
    X = np.random.RandomState(1).randn(N, D).astype("f")
    u = np.maximum(X @ arrays["encoder.weight"].T + arrays["encoder.bias"], 0)
    codes = np.where(u >= np.sort(u, axis=1)[:, -3][:, None], u, 0)
    expected = codes @ arrays["W_dec"] + arrays["b_dec"]
    if skip:
        expected = expected + X @ arrays["W_skip"].T
    np.testing.assert_allclose(transcoder.predict(X), expected, rtol=1e-4, atol=1e-4)
    assert transcoder.skip == skip
    assert transcoder.metadata_["num_latents"] == M


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"transcode": False}, "it is an autoencoder; use read_sparsify"),
        ({"k": None}, "k must be a whole number from 1 to 16, not None"),
        ({"k": 17}, "k must be a whole number from 1 to 16, not 17"),
        (
            {"activation": "groupmax"},
            "its activation must be 'topk', not 'groupmax', which a Tr",
        ),
        ({"num_latents": 7}, "encoder.weight has the shape"),
        ({"signed": True}, "it is a transcoder with codes below zero"),
    ],
)
def test_what_no_transcoder_of_sparsify_can_be_is_refused(changed, message, tmp_path):
    sparsify_folder(tmp_path, **changed)
    start = "Cannot read a transcoder of sparsify from"
    with pytest.raises(ValueError, match=f"{start} .*: {message}"):
        read_sparsify_transcoder(tmp_path)


def test_each_reader_of_sparsify_names_the_other(tmp_path):
    sparsify_folder(tmp_path)
    with pytest.raises(ValueError, match="a transcoder; use read_sparsify_transcoder"):
        read_sparsify(tmp_path)
