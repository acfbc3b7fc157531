"""What a SparseAutoencoder cannot express is refused by name."""

import inspect
import json
from collections import OrderedDict

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.torch import save_file  # noqa: E402

from skfeat import interop  # noqa: E402
from tests.interop.test_interop_hostile import D, M, edit, load, make, refused, save  # noqa: E402
from tests.interop_formats import dictionary_learning  # noqa: E402

SAELENS = {
    **{
        name: ({"architecture": name}, f"its architecture '{name}' is none of those")
        for name in [
            *("matching_pursuit", "transcoder", "skip_transcoder"),
            *("jumprelu_transcoder", "temporal", "batchtopk", "crosscoder"),
        ]
    },
    "no architecture": ({"architecture": ...}, "cfg.json has no 'architecture'"),
    "odd architecture": ({"architecture": ["topk"]}, r"its architecture \['topk'\]"),
    "no k": ({"k": ...}, "it has no k, the number of active features"),
    "k null": ({"k": None}, "it has no k"),
    "k text": ({"k": "3"}, "k must be a whole number from 1 to 8, not '3'"),
    "k real": ({"k": 3.0}, "k must be a whole number from 1 to 8, not 3.0"),
    "k bool": ({"k": True}, "k must be a whole number from 1 to 8, not True"),
    "k zero": ({"k": 0}, "k must be a whole number from 1 to 8, not 0"),
    "k large": ({"k": M + 1}, "k must be a whole number from 1 to 8, not 9"),
    "no d_in": ({"d_in": ...}, "d_in must be a positive whole number, not None"),
    "d_in": ({"d_in": D + 1}, r"W_enc has the shape \(5, 8\), which must be \(6, 8\)"),
    "d_sae": ({"d_sae": -1}, "d_sae must be a positive whole number, not -1"),
    "whitening": (
        {"normalize_activations": "covariance_whitening"},
        "its normalize_activations='covariance_whitening' cannot be expressed",
    ),
    "flag": (
        {"apply_b_dec_to_input": "yes"},
        "apply_b_dec_to_input must be true or false, not 'yes'",
    ),
    "metadata": ({"metadata": 3}, "its metadata is not a JSON object"),
    "version": (
        {"metadata": {"sae_lens_version": "new"}},
        "its sae_lens_version 'new' is not a version",
    ),
    "old, no k": (
        {"metadata": {}, "activation_fn": "topk", "k": ...},
        "it has no k",
    ),
    "old tanh": (
        {"metadata": {}, "architecture": "standard", "activation_fn": "tanh-relu"},
        "its activation 'tanh-relu' is neither relu nor topk",
    ),
}


@pytest.mark.parametrize(("changes", "match"), SAELENS.values(), ids=SAELENS.keys())
def test_saelens_configurations(changes, match, tmp_path):
    file, _ = make("saelens", tmp_path)
    edit(tmp_path / "cfg.json", **changes)
    refused(file, match)


def test_saelens_sparsity(tmp_path):
    file, _ = make("saelens", tmp_path)
    for logs, match in [
        (torch.ones(M), "must hold logarithms of shares"),
        (torch.zeros(M - 1), r"sparsity has the shape \(7,\), which must be \(8,\)"),
        (torch.full((M,), torch.nan), "'sparsity' has NaN or infinity"),
    ]:
        save_file({"sparsity": logs}, tmp_path / "sparsity.safetensors")
        refused(file, match)


def test_a_decoder_row_of_zeros_by_whose_norm_it_divides(tmp_path):
    file, weights = make("saelens", tmp_path)
    edit(tmp_path / "cfg.json", rescale_acts_by_decoder_norm=True)
    values = load(weights)
    values["W_dec"][0] = 0
    save(values, weights)
    refused(file, "a row of its decoder is zero")


TRAINERS = {
    "no class": ({"trainer": {}}, "config.json names no dict_class"),
    "no trainer": ({"trainer": ...}, "config.json names no dict_class"),
    "identity": ({"dict_class": "IdentityDict"}, "its dict_class 'IdentityDict' is"),
    "other": ({"dict_class": "CrossCoder"}, "its dict_class 'CrossCoder' is none of"),
    "odd": ({"dict_class": []}, r"its dict_class \[\] is none of"),
    "width": ({"activation_dim": 6}, r"shape \(8, 5\), which must be \(8, 6\)"),
    "size": ({"dict_size": 9}, r"shape \(8, 5\), which must be \(9, 5\)"),
    "k": ({"k": 4}, "its k is 4 in config.json, but 3"),
    "k text": ({"k": "3"}, "its k is '3' in config.json, but 3"),
}


@pytest.mark.parametrize(("changes", "match"), TRAINERS.values(), ids=TRAINERS.keys())
def test_dictionary_learning_configurations(changes, match, tmp_path):
    file, _ = make("dictionary_learning", tmp_path)
    path = tmp_path / "config.json"
    if "trainer" not in changes:
        changes = {"trainer": {**json.loads(path.read_text())["trainer"], **changes}}
    edit(path, **changes)
    refused(file, match)


def test_dictionary_learning_without_k(tmp_path):
    file, weights = make("dictionary_learning", tmp_path)
    values = OrderedDict(load(weights))
    trainer = json.loads((tmp_path / "config.json").read_text())["trainer"]
    del values["k"]
    torch.save(values, weights)
    assert file.read(file.path).k == 3  # older releases kept it there alone
    del trainer["k"]
    edit(tmp_path / "config.json", trainer=trainer)
    refused(file, "it has no k")
    values["k"] = torch.tensor(2.5)
    torch.save(values, weights)
    refused(file, "k is not a whole number")


@pytest.mark.parametrize("kind", ["BatchTopKSAE", "MatryoshkaBatchTopKSAE"])
def test_a_threshold_that_was_never_learnt(kind, tmp_path):
    file = dictionary_learning(tmp_path, np.random.default_rng(0), D, M, kind)
    values = load(tmp_path / "ae.pt")
    torch.save({**values, "threshold": torch.tensor(-1.0)}, tmp_path / "ae.pt")
    refused(file, "its threshold is below zero, which means that it was never trained")
    del values["threshold"]
    torch.save(values, tmp_path / "ae.pt")
    refused(file, "it has no 'threshold'")


def test_matryoshka_groups_add_up(tmp_path):
    kind = "MatryoshkaBatchTopKSAE"
    file = dictionary_learning(tmp_path, np.random.default_rng(0), D, M, kind)
    values = load(tmp_path / "ae.pt")
    torch.save({**values, "group_sizes": torch.tensor([1, M])}, tmp_path / "ae.pt")
    refused(file, "its group_sizes do not add up to the number of features")


@pytest.mark.parametrize("name", ["dictionary_learning", "sparsify"])
def test_decoders_without_norm_one(name, tmp_path):
    file, weights = make(name, tmp_path)
    key = "W_dec" if name == "sparsify" else "decoder.weight"
    values = load(weights)
    save({**values, key: values[key] * 3}, weights)
    refused(file, "rows of its decoder must have norm one, but have norms from")


SPARSIFY = {
    "transcoder": (
        {"transcode": True},
        "it is a transcoder; use read_sparsify_transcoder",
    ),
    "skip": ({"skip_connection": True}, "an autoencoder with a skip connection"),
    "signed": ({"signed": True}, "an autoencoder with codes below zero"),
    "groupmax": (
        {"activation": "groupmax"},
        "its activation must be 'topk', not 'groupmax'",
    ),
    "no k": ({"k": ...}, "it has no k"),
    "k": ({"k": 99}, "k must be a whole number from 1 to 8, not 99"),
    "no d_in": ({"d_in": ...}, "d_in must be a whole number, not None"),
    "d_in": ({"d_in": 6}, r"shape \(8, 5\), which must be \(8, 6\)"),
    "latents": ({"num_latents": 16}, r"shape \(8, 5\), which must be \(16, 5\)"),
}


@pytest.mark.parametrize(("changes", "match"), SPARSIFY.values(), ids=SPARSIFY.keys())
def test_sparsify_configurations(changes, match, tmp_path):
    file, _ = make("sparsify", tmp_path)
    edit(tmp_path / "cfg.json", **changes)
    refused(file, match)


def test_sparsify_hookpoints_are_named(tmp_path):
    for hookpoint in ("layers.1", "layers.0"):
        (tmp_path / hookpoint).mkdir()
        make("sparsify", tmp_path / hookpoint)
    file, _ = make("sparsify", tmp_path / "layers.0")
    refused(
        file._replace(path=tmp_path), "name one of its hookpoints: layers.0, layers.1"
    )


def test_gemma_scope_transcoders(tmp_path):
    file, weights = make("gemma_scope 2", tmp_path)
    edit(tmp_path / "config.json", hf_hook_point_out="layers.1.mlp.output")
    refused(file, "it is a transcoder .it has a hf_hook_point_out., which")
    edit(tmp_path / "config.json", hf_hook_point_out=..., architecture="topk")
    refused(file, "its architecture is 'topk', which a SparseAutoencoder cannot")
    (tmp_path / "config.json").unlink()
    values = load(weights)
    save({**values, "affine_skip_connection": torch.ones(D, D)}, weights)
    refused(file, "a transcoder with an affine_skip_connection")
    save({**values, "w_dec": torch.ones(M, D + 1)}, weights)
    refused(file, r"W_dec has the shape \(8, 6\), which must be \(8, 5\)")


OPENAI = {
    "activation": ({"activation": "Identity"}, "its activation 'Identity' is neither"),
    "no k": ({"activation": "TopK"}, "it has no k"),
    "k": (
        {"activation": "TopK", "activation_state_dict": {"k": 99}},
        "k must be a whole number from 1 to 8, not 99",
    ),
    "negative codes": (
        {
            "activation": "TopK",
            "activation_state_dict": {"k": 2, "postact_fn": "Identity"},
        },
        "its codes pass through 'Identity'",
    ),
}


@pytest.mark.parametrize(("changes", "match"), OPENAI.values(), ids=OPENAI.keys())
def test_openai_activations(changes, match, tmp_path):
    file, weights = make("openai", tmp_path)
    torch.save({**load(weights), **changes}, weights)
    refused(file, match, normalized=True)


def test_tied_centring(tmp_path):
    file, weights = make("tied", tmp_path)
    values = load(weights)
    save({**values, "center_rot": torch.ones(D, D)}, weights)
    refused(file, "center_rot must be a rotation")
    save({**values, "center_scale": torch.zeros(D)}, weights)
    refused(file, "center_scale must be positive")


def test_other_endings(tmp_path):
    file, weights = make("tied", tmp_path)
    weights = weights.rename(tmp_path / "tied.bin")
    refused(file._replace(path=weights), "must end in .safetensors, .npz, .pt, .pth")


READERS = [getattr(interop, name) for name in interop.__all__ if "read" in name]


@pytest.mark.parametrize("read", READERS)
def test_arguments_of_another_type(read, tmp_path):
    name, *others = inspect.signature(read).parameters.values()
    for path in (None, 3):
        with pytest.raises(TypeError, match=f"{name.name} must be a path.* Got {path}"):
            read(path)
    for flag in (one.name for one in others if isinstance(one.default, bool)):
        with pytest.raises(ValueError, match=f"{flag} must be a bool. Got 'no'"):
            read(tmp_path, **{flag: "no"})


@pytest.mark.parametrize("read", [interop.read_openai, interop.read_tied])
def test_a_folder_is_no_file(read, tmp_path):
    with pytest.raises(ValueError, match="must be a file, but it is a folder"):
        read(tmp_path)
