"""Broken and hostile files get one clear error, and nothing in them is executed."""

import io
import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.torch import load_file, save_file  # noqa: E402

from tests.interop_formats import (  # noqa: E402
    FORMATS,
    dictionary_learning,
    gemma_scope,
    openai,
    saelens,
    sparsify,
    tied,
)

D, M = 5, 8

# One of each format, and the file that holds its weights.
MAKERS = {
    "saelens": (saelens, {"architecture": "topk"}, "sae_weights.safetensors"),
    "dictionary_learning": (dictionary_learning, {"kind": "AutoEncoderTopK"}, "ae.pt"),
    "sparsify": (sparsify, {}, "sae.safetensors"),
    "gemma_scope": (gemma_scope, {}, "params.npz"),
    "gemma_scope 2": (gemma_scope, {"kind": "safetensors"}, "params.safetensors"),
    "openai": (openai, {}, "ae.pt"),
    "tied": (tied, {}, "tied.safetensors"),
}
CONFIGS = {
    "saelens": "cfg.json",
    "dictionary_learning": "config.json",
    "sparsify": "cfg.json",
    "gemma_scope 2": "config.json",
}
EACH = pytest.mark.parametrize("name", MAKERS)


class Bomb:
    """Unpickling it is seen."""

    ran = False

    def __reduce__(self):
        return setattr, (Bomb, "ran", True)


def make(name, folder):
    maker, options, weights = MAKERS[name]
    file = maker(folder, np.random.default_rng(0), D, M, **options)
    return file, folder / weights


def refused(file, match, error=ValueError, **options):
    with pytest.raises(error, match=match) as info:
        file.read(file.path, **options)
    message = str(info.value)
    assert message.startswith("Cannot read an autoencoder of ")
    assert f"from '{file.path}': " in message
    assert "\n" not in message
    assert message.endswith(".")
    assert not Bomb.ran


def load(path):
    if path.suffix == ".safetensors":
        return load_file(path)
    if path.suffix == ".pt":
        return torch.load(path, weights_only=True)
    with np.load(path) as file:
        return {name: torch.tensor(file[name]) for name in file}


def save(values, path):
    if path.suffix == ".safetensors":
        save_file(values, path)
    elif path.suffix == ".pt":
        torch.save(values, path)
    else:
        arrays = {name: value.numpy() for name, value in values.items()}
        np.savez(path, **arrays)


def matrices(values):
    return [
        name
        for name, value in values.items()
        if isinstance(value, torch.Tensor) and value.ndim == 2
    ]


def edit(path, **changes):
    config = json.loads(path.read_text())
    config.update(changes)
    config = {key: value for key, value in config.items() if value is not ...}
    path.write_text(json.dumps(config))


@EACH
def test_missing_files(name, tmp_path):
    file, weights = make(name, tmp_path)
    weights.unlink()
    refused(file, r"there is no '.*'\.", FileNotFoundError)
    if name in CONFIGS and name != "gemma_scope 2":
        (tmp_path / CONFIGS[name]).unlink()
        refused(file, f"there is no '.*{CONFIGS[name]}'", FileNotFoundError)


@EACH
def test_truncated_files(name, tmp_path):
    file, weights = make(name, tmp_path)
    content = weights.read_bytes()
    for size in (0, 1, 7, 8, 50, len(content) // 2, len(content) - 1):
        weights.write_bytes(content[:size])
        refused(file, "is not a complete safetensors file|is damaged or")


@EACH
def test_random_bytes(name, tmp_path):
    file, weights = make(name, tmp_path)
    weights.write_bytes(np.random.default_rng(0).bytes(2000))
    refused(file, "is not a complete safetensors file|is damaged or")


@EACH
def test_each_tensor_must_be_there(name, tmp_path):
    file, weights = make(name, tmp_path)
    values = load(weights)
    for key, value in values.items():
        if isinstance(value, torch.Tensor) and value.ndim and "stats" not in key:
            save({k: v for k, v in values.items() if k != key}, weights)
            refused(file, f"it has no '{key.replace('w_', '[wW]_')}'")


@EACH
def test_unknown_tensors(name, tmp_path):
    file, weights = make(name, tmp_path)
    save({**load(weights), "W_skip": torch.ones(D, D)}, weights)
    refused(file, "it also has 'W_skip'")


@EACH
def test_transposed_and_other_shapes(name, tmp_path):
    file, weights = make(name, tmp_path)
    values = load(weights)
    for key, value in values.items():
        if not isinstance(value, torch.Tensor) or not value.ndim or "stats" in key:
            continue
        others = [value[:-1].clone(), value[..., None].clone(), value.sum()]
        if value.ndim == 2:
            others.append(value.T.contiguous())
        others.append(value[:0].clone())
        for other in others:
            save({**values, key: other}, weights)
            refused(file, r"has the shape \(.*\), which must be \(")


@EACH
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(name, bad, tmp_path):
    file, weights = make(name, tmp_path)
    values = load(weights)
    for key in matrices(values):
        spoilt = values[key].clone()
        spoilt[1, 2] = bad
        save({**values, key: spoilt}, weights)
        refused(file, f"'{key.replace('w_', '[wW]_')}' has NaN or infinity")


@EACH
def test_complex_numbers(name, tmp_path):
    file, weights = make(name, tmp_path)
    values = load(weights)
    key = matrices(values)[0]
    save({**values, key: values[key].to(torch.complex64)}, weights)
    refused(file, "not a plain tensor of real numbers|holds complex64, not plain")


JSON = {
    "empty": (b"", "is not JSON"),
    "cut": (b'{"d_in": ', "is not JSON"),
    "binary": (b"\xff\xfe\x00\x01", "is not JSON"),
    "list": (b"[1, 2]", "is not a JSON object"),
    "number": (b"3", "is not a JSON object"),
    "deep": (b"[" * 10**6, "is not JSON"),
    "pickle": (pickle.dumps(Bomb()), "is not JSON"),
    "large": (b" " * (2**24 + 1), "is too large for a configuration"),
    "large number": (b'{"d_in": ' + b"9" * 10**5 + b"}", "is not JSON"),
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize(("content", "match"), JSON.values(), ids=JSON.keys())
def test_configurations_that_are_not_json(name, content, match, tmp_path):
    file, _ = make(name, tmp_path)
    (tmp_path / CONFIGS[name]).write_bytes(content)
    refused(file, match)


def header(content, length=None):
    length = len(content) if length is None else length
    return struct.pack("<Q", length) + content


def entry(shape, start, end, dtype="F32"):
    one = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    return json.dumps({"W_enc": one}).encode()


HEADERS = {
    "huge header": header(b"{}", 2**63),
    "long header": header(b"{}", 10**9),
    "header beyond the end": header(b"{}", 3),
    "no header": struct.pack("<Q", 0),
    "not json": header(b"{oops}"),
    "list": header(b"[]"),
    "pickle": header(pickle.dumps(Bomb())),
    "offset beyond the end": header(entry([4], 0, 16)),
    "huge tensor": header(entry([2**31, 2**31], 0, 2**64 - 1)),
    "huge tensor, no data": header(entry([2**31, 2**31], 0, 0)),
    "backwards": header(entry([4], 16, 0)) + b"\0" * 16,
    "negative": header(entry([-4], 0, 16)) + b"\0" * 16,
    "shape lies": header(entry([5], 0, 16)) + b"\0" * 16,
    "unknown dtype": header(entry([4], 0, 16, "OBJ")) + b"\0" * 16,
    "bytes behind": header(entry([4], 0, 16)) + b"\0" * 20,
    "deep": header(b'{"a":' * 100_000),
}
SAFE = [name for name, made in MAKERS.items() if made[2].endswith(".safetensors")]


@pytest.mark.parametrize("name", SAFE)
@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS.keys())
def test_hostile_safetensors(name, content, tmp_path):
    file, weights = make(name, tmp_path)
    weights.write_bytes(content)
    refused(file, "is not a complete safetensors file")


TORCH = [name for name, made in MAKERS.items() if made[2].endswith(".pt")]


def old_style(values):
    file = io.BytesIO()
    torch.save(values, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


BOMBS = {
    "bare pickle": lambda values: pickle.dumps(Bomb()),
    "pickle of tensors": pickle.dumps,
    "old torch.save": old_style,
    "old torch.save of a bomb": lambda values: old_style(Bomb()),
    "bomb": lambda values: torch_bytes(Bomb()),
    "bomb within": lambda values: torch_bytes({**values, "bomb": Bomb()}),
    "module": lambda values: torch_bytes(torch.nn.Linear(2, 2)),
    "function": lambda values: torch_bytes({**values, "f": os.system}),
    "script": lambda values: scripted(),
}


def torch_bytes(values):
    file = io.BytesIO()
    torch.save(values, file)
    return file.getvalue()


def scripted():
    file = io.BytesIO()
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.ones(1, 2)), file)
    return file.getvalue()


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS.keys())
def test_pickles_are_not_opened(name, bomb, tmp_path):
    file, weights = make(name, tmp_path)
    weights.write_bytes(bomb(load(weights)))
    refused(
        file,
        "is damaged or (was not written|holds objects other than)|claims to hold more",
    )


STRANGE = {
    "list": (lambda v: [1, 2], "holds no tensors by name"),
    "tensor": (lambda v: torch.ones(3), "holds no tensors by name"),
    "none": (lambda v: None, "holds no tensors by name"),
    "text": (lambda v: {**v, "encoder.weight": "x"}, "not a plain tensor"),
    "sparse": (
        lambda v: {**v, "encoder.weight": v["encoder.weight"].to_sparse()},
        "not a plain tensor",
    ),
    "meta": (
        lambda v: {**v, "encoder.weight": torch.empty(M, D, device="meta")},
        "not a plain tensor|is damaged or holds",
    ),
    "stride zero": (
        lambda v: {**v, "encoder.weight": torch.ones(1, 1).expand(10**6, 10**6)},
        "'encoder.weight' is larger than the file",
    ),
    "empty": (lambda v: {}, "it has no"),
}


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize(("change", "match"), STRANGE.values(), ids=STRANGE.keys())
def test_strange_state_dicts(name, change, match, tmp_path):
    file, weights = make(name, tmp_path)
    torch.save(change(load(weights)), weights)
    refused(file, match)


@pytest.mark.parametrize("name", TORCH)
def test_a_storage_that_claims_more_than_it_has(name, tmp_path):
    file, weights = make(name, tmp_path)
    out = io.BytesIO()
    with (
        zipfile.ZipFile(weights) as archive,
        zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as changed,
    ):
        for info in archive.infolist():
            # The data go, the sizes in the pickle stay.
            keep = "/data/" not in info.filename
            changed.writestr(info, archive.read(info) if keep else b"")
    weights.write_bytes(out.getvalue())
    refused(file, "is damaged or holds objects|NaN or infinity|norm one")


@pytest.mark.parametrize("name", ["dictionary_learning", "openai", "gemma_scope"])
def test_zip_bombs(name, tmp_path):
    file, weights = make(name, tmp_path)
    with zipfile.ZipFile(weights, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("W_enc.npy", b"\0" * 10**7)
    refused(file, "claims to hold more than it can")


def npy(shape, dtype="<f4", data=b""):
    text = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}"
    start = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118)
    return start + text.ljust(118).encode() + data


NPZ = {
    "object": (npy((1,), "|O", pickle.dumps(Bomb())), "holds object, not plain"),
    "huge": (npy((2**40, 2**20)), "is not as long as its shape"),
    "negative": (npy((-1, 4)), "is not as long as its shape|shape"),
    "short": (npy((5, 8), data=b"\0" * 100), "is not as long as its shape"),
    "no header": (b"hello", "Cannot read"),
    "code": (npy("__import__('os').getcwd()"), "Cannot read"),
}


@pytest.mark.parametrize(("content", "match"), NPZ.values(), ids=NPZ.keys())
def test_hostile_npz(content, match, tmp_path):
    file, weights = make("gemma_scope", tmp_path)
    with zipfile.ZipFile(weights, "w") as archive:
        archive.writestr("W_enc.npy", content)
    refused(file, match)


def test_compressed_npz_is_read(tmp_path):
    file, weights = make("gemma_scope", tmp_path)
    with np.load(weights) as values:
        arrays = dict(values)
    np.savez_compressed(weights, **arrays)
    assert file.read(file.path).components_.shape == (M, D)


@EACH
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_a_spoilt_byte_is_refused_or_leaves_an_autoencoder(
    name, position, byte, tmp_path
):
    file, weights = make(name, tmp_path)
    content = bytearray(weights.read_bytes())
    content[int(position * len(content))] = byte
    weights.write_bytes(content)
    try:
        sae = file.read(file.path)
    except ValueError as error:
        assert str(error).startswith("Cannot read an autoencoder of ")  # noqa: PT017
    else:
        assert sae.transform(np.ones((2, D))).shape == (2, M)


def test_without_safetensors(tmp_path, monkeypatch):
    import sys

    file, _ = make("tied", tmp_path)
    for name in [*sys.modules]:
        if name.partition(".")[0] == "safetensors":
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=r"pip install 'skfeat\[interop\]'"):
        file.read(file.path)


def test_every_format_is_among_those_spoilt():
    tried = {name.partition(" ")[0] for name in MAKERS}
    assert tried == {name.partition(" ")[0] for name in FORMATS}
