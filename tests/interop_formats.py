"""Files of other libraries, each with what the library computes from it.

The formulas follow the libraries' documentation; tests/test_interop_peers.py holds the
libraries themselves against the readers.
"""

import json
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save_file

from skfeat import interop


class File(NamedTuple):
    """A file that was written: how to read it, and its codes and reconstructions."""

    read: object
    path: object
    encode: object
    decode: object
    activation: str


def relu(pre):
    return np.maximum(pre, 0)


def top_k(pre, k):
    codes = np.zeros_like(pre)
    places = np.argsort(-pre, axis=1)[:, :k]
    np.put_along_axis(codes, places, relu(np.take_along_axis(pre, places, 1)), 1)
    return codes


def jump(pre, threshold):
    return relu(pre) * (pre > threshold)


def numbers(rng, d, m):
    """Weights that leave some features on and some off, off centre."""
    return {
        "W_enc": rng.normal(size=(d, m)) / np.sqrt(d),
        "W_dec": rng.normal(size=(m, d)) / np.sqrt(d),
        "b_enc": rng.normal(size=m),
        "b_dec": 3 * rng.normal(size=d),
        "threshold": rng.normal(size=m),
        "b_gate": rng.normal(size=m),
        "r_mag": rng.normal(size=m) / 3,
    }


def tensors(values, dtype=torch.float32):
    return {
        name: torch.tensor(np.ascontiguousarray(value)).to(dtype)
        for name, value in values.items()
    }


def exact(values):
    """Return the numbers as the file holds them."""
    return {name: value.double().numpy() for name, value in values.items()}


SAELENS_KEYS = {
    "standard": ("W_enc", "W_dec", "b_enc", "b_dec"),
    "topk": ("W_enc", "W_dec", "b_enc", "b_dec"),
    "jumprelu": ("W_enc", "W_dec", "b_enc", "b_dec", "threshold"),
    "gated": ("W_enc", "W_dec", "b_dec", "b_gate", "b_mag", "r_mag"),
}


def saelens_config(architecture, d, m, **more):
    return {
        "architecture": architecture,
        "d_in": d,
        "d_sae": m,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "reshape_activations": "none",
        **({"k": 3} if architecture == "topk" else {}),
        "metadata": {"sae_lens_version": "6.54.12", "hook_name": "blocks.1.mlp"},
        **more,
    }


def saelens(folder, rng, d, m, architecture, dtype=torch.float32, **more):
    values = numbers(rng, d, m)
    values["b_mag"] = values["b_enc"]
    keys = SAELENS_KEYS[architecture]
    stored = tensors({key: values[key] for key in keys}, dtype)
    config = saelens_config(architecture, d, m, **more)
    save_file(stored, folder / "sae_weights.safetensors")
    (folder / "cfg.json").write_text(json.dumps(config))
    w = exact(stored)
    norms = np.linalg.norm(w["W_dec"], axis=1)
    by_norm = norms if config.get("rescale_acts_by_decoder_norm") else 1.0

    def encode(X):
        X = X - w["b_dec"] * config["apply_b_dec_to_input"]
        if architecture == "gated":
            magnitude = X @ (w["W_enc"] * np.exp(w["r_mag"])) + w["b_mag"]
            return (X @ w["W_enc"] + w["b_gate"] > 0) * relu(magnitude)
        pre = X @ w["W_enc"] + w["b_enc"]
        if architecture == "topk":
            return top_k(pre * by_norm, 3)
        return jump(pre, w["threshold"]) if "threshold" in w else relu(pre)

    def decode(Z):
        return (Z / by_norm) @ w["W_dec"] + w["b_dec"]

    names = {"standard": "relu"}
    kind = names.get(architecture, architecture)
    return File(interop.read_saelens, folder, encode, decode, kind)


DICTIONARIES = {
    "AutoEncoder": "relu",
    "AutoEncoderNew": "relu",
    "GatedAutoEncoder": "gated",
    "JumpReluAutoEncoder": "jumprelu",
    "AutoEncoderTopK": "topk",
    "BatchTopKSAE": "batch_topk",
    "MatryoshkaBatchTopKSAE": "batch_topk",
}


def dictionary_learning(folder, rng, d, m, kind):
    v = numbers(rng, d, m)
    if "TopK" in kind:
        v["W_dec"] /= np.linalg.norm(v["W_dec"], axis=1, keepdims=True)
    linear = {"encoder.weight": v["W_enc"].T, "decoder.weight": v["W_dec"].T}
    biased = {**linear, "encoder.bias": v["b_enc"]}
    square = {key: v[key] for key in ("W_enc", "W_dec", "b_enc", "b_dec")}
    cut = {"k": np.int32(3), "threshold": np.float32(0.4)}
    stored = {
        "AutoEncoder": {**biased, "bias": v["b_dec"]},
        "AutoEncoderNew": {**biased, "decoder.bias": v["b_dec"]},
        "GatedAutoEncoder": {
            **linear,
            "decoder_bias": v["b_dec"],
            "r_mag": v["r_mag"],
            "gate_bias": v["b_gate"],
            "mag_bias": v["b_enc"],
        },
        "JumpReluAutoEncoder": {**square, "threshold": v["threshold"]},
        "AutoEncoderTopK": {**biased, "b_dec": v["b_dec"], **cut},
        "BatchTopKSAE": {**biased, "b_dec": v["b_dec"], **cut},
        "MatryoshkaBatchTopKSAE": {
            **square,
            **cut,
            "group_sizes": np.array([1, m - 1]),
        },
    }[kind]
    whole = ("k", "group_sizes")
    state = OrderedDict(
        (key, torch.tensor(value) if key in whole else torch.tensor(value).float())
        for key, value in stored.items()
    )
    torch.save(state, folder / "ae.pt")
    trainer = {"dict_class": kind, "activation_dim": d, "dict_size": m}
    if "k" in stored:
        trainer["k"] = 3
    (folder / "config.json").write_text(json.dumps({"trainer": trainer}))
    w = exact(tensors(v))
    subtracted = 0 if kind in ("AutoEncoderNew", "JumpReluAutoEncoder") else w["b_dec"]

    def encode(X):
        X = X - subtracted
        pre = X @ w["W_enc"] + w["b_enc"]
        if kind == "GatedAutoEncoder":
            pre = X @ w["W_enc"] * np.exp(w["r_mag"]) + w["b_enc"]
            return (X @ w["W_enc"] + w["b_gate"] > 0) * relu(pre)
        return {
            "relu": relu,
            "jumprelu": lambda pre: jump(pre, w["threshold"]),
            "topk": lambda pre: top_k(pre, 3),
            "batch_topk": lambda pre: jump(pre, np.float32(0.4)),
        }[DICTIONARIES[kind]](pre)

    def decode(Z):
        return Z @ w["W_dec"] + w["b_dec"]

    reader = interop.read_dictionary_learning
    return File(reader, folder, encode, decode, DICTIONARIES[kind])


def sparsify(folder, rng, d, m, dtype=torch.float32, **more):
    v = numbers(rng, d, m)
    v["W_dec"] /= np.linalg.norm(v["W_dec"], axis=1, keepdims=True)
    stored = {
        "encoder.weight": v["W_enc"].T,
        "encoder.bias": v["b_enc"],
        "W_dec": v["W_dec"],
        "b_dec": v["b_dec"],
    }
    stored = tensors(stored, dtype)
    save_file(stored, folder / "sae.safetensors")
    config = {
        "activation": "topk",
        "expansion_factor": 32,
        "normalize_decoder": True,
        "num_latents": m,
        "k": 3,
        "multi_topk": False,
        "skip_connection": False,
        "transcode": False,
        "d_in": d,
        **more,
    }
    (folder / "cfg.json").write_text(json.dumps(config))
    w = exact(stored)

    def encode(X):
        pre = (X - w["b_dec"]) @ w["encoder.weight"].T + w["encoder.bias"]
        return top_k(pre, 3)

    def decode(Z):
        return Z @ w["W_dec"] + w["b_dec"]

    return File(interop.read_sparsify, folder, encode, decode, "topk")


def gemma_scope(folder, rng, d, m, kind="npz"):
    keys = (*SAELENS_KEYS["jumprelu"],)
    v = {key: value for key, value in numbers(rng, d, m).items() if key in keys}
    v["threshold"] = abs(v["threshold"])
    v = {key: value.astype(np.float32) for key, value in v.items()}
    if kind == "npz":
        np.savez(folder / "params.npz", **v)
    else:
        small = {key.replace("W_", "w_"): value for key, value in v.items()}
        save_file(tensors(small), folder / "params.safetensors")
        config = {"architecture": "jump_relu", "hf_hook_point_in": "layers.1.output"}
        (folder / "config.json").write_text(json.dumps(config))
    w = {key: value.astype(float) for key, value in v.items()}

    def encode(X):
        return jump(X @ w["W_enc"] + w["b_enc"], w["threshold"])

    def decode(Z):
        return Z @ w["W_dec"] + w["b_dec"]

    return File(interop.read_gemma_scope, folder, encode, decode, "jumprelu")


def openai(folder, rng, d, m, tied=False):
    v = numbers(rng, d, m)
    state = {
        "pre_bias": v["b_dec"],
        "encoder.weight": v["W_enc"].T,
        "latent_bias": v["b_enc"],
        "stats_last_nonzero": np.zeros(m),
    }
    if tied:
        v["W_dec"] = v["W_enc"].T
        state["decoder.linear.weight"] = v["W_enc"].T
    else:
        state["decoder.weight"] = v["W_dec"].T
    torch.save({**tensors(state), "activation": "ReLU"}, folder / "ae.pt")
    w = exact(tensors(v))

    def encode(X):
        return relu((X - w["b_dec"]) @ w["W_enc"] + w["b_enc"])

    def decode(Z):
        return Z @ w["W_dec"] + w["b_dec"]

    return File(interop.read_openai, folder / "ae.pt", encode, decode, "relu")


def tied(folder, rng, d, m, centred=False):
    v = {"encoder": 2 * rng.normal(size=(m, d)), "encoder_bias": rng.normal(size=m)}
    if centred:
        v["center_trans"] = rng.normal(size=d)
        v["center_rot"] = np.linalg.qr(rng.normal(size=(d, d)))[0]
        v["center_scale"] = np.exp(rng.normal(size=d) / 3)
    stored = tensors(v)
    save_file(stored, folder / "tied.safetensors")
    w = exact(stored)
    rows = w["encoder"] / np.linalg.norm(w["encoder"], axis=1, keepdims=True)
    turn = w.get("center_rot", np.eye(d))
    shift, scale = w.get("center_trans", 0), w.get("center_scale", 1)

    def encode(X):
        return relu(((X - shift) @ turn.T * scale) @ rows.T + w["encoder_bias"])

    def decode(Z):
        return (Z @ rows / scale) @ turn + shift

    path = folder / "tied.safetensors"
    return File(interop.read_tied, path, encode, decode, "relu")


def _maker(function, **options):
    return lambda folder, rng, d, m: function(folder, rng, d, m, **options)


FORMATS = {
    **{f"saelens {name}": _maker(saelens, architecture=name) for name in SAELENS_KEYS},
    **{
        f"saelens {name}, b_dec not subtracted": _maker(
            saelens, architecture=name, apply_b_dec_to_input=False
        )
        for name in SAELENS_KEYS
    },
    "saelens topk by norm": _maker(
        saelens, architecture="topk", rescale_acts_by_decoder_norm=True
    ),
    "saelens float64": _maker(saelens, architecture="gated", dtype=torch.float64),
    "saelens bfloat16": _maker(saelens, architecture="topk", dtype=torch.bfloat16),
    **{
        f"dictionary_learning {name}": _maker(dictionary_learning, kind=name)
        for name in DICTIONARIES
    },
    "sparsify": _maker(sparsify),
    "sparsify bfloat16": _maker(sparsify, dtype=torch.bfloat16),
    "gemma_scope": _maker(gemma_scope),
    "gemma_scope 2": _maker(gemma_scope, kind="safetensors"),
    "openai": _maker(openai),
    "openai tied": _maker(openai, tied=True),
    "tied": _maker(tied),
    "tied centred": _maker(tied, centred=True),
}
