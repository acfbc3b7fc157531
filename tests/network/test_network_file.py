import io
import json
import pickle
import re
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from skfeat.network import SparseFeatureNetwork, _file
from tests.network.test_network import ENDS, NETWORKS, parameters, rows

IN_FOLDER = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@settings(IN_FOLDER, max_examples=40)
@given(dtype=st.sampled_from(["f4", "f8"]), **NETWORKS)
def test_save_and_load(tmp_path, **kwargs):
    network = SparseFeatureNetwork(**parameters(**kwargs))
    path = tmp_path / "some.network"
    network.save(path)
    loaded = SparseFeatureNetwork.load(str(path))
    assert list(tmp_path.iterdir()) == [path]
    assert_same(loaded, network)


def assert_same(a, b):
    X = rows(a)
    assert repr(a) == repr(b)
    np.testing.assert_array_equal(a.predict_raw(X), b.predict_raw(X))
    for name, value in vars(a).items():
        if isinstance(value, np.ndarray):
            assert value.dtype == vars(b)[name].dtype
    for name in ("layer_names_", "feature_names_", "links", "activation"):
        assert getattr(a, name) == getattr(b, name)


def test_files_without_sparse_ends_are_as_they_were(saved):
    """What the first skfeat wrote, and what it read."""
    with np.load(io.BytesIO(saved)) as file:
        names, header = set(file), json.loads(file["header"].tobytes())
    assert header["version"] == 1
    assert {"encoder_coef", "decoder_coef", "coefs.0.data"} <= names
    assert not any(
        name.startswith(("encoder_coef.", "decoder_coef.")) for name in names
    )


def test_numpy_reads_the_file_too(tmp_path):
    network = SparseFeatureNetwork(**parameters(k=np.int64(2)))
    network.save(tmp_path / "net")
    with np.load(tmp_path / "net", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["encoder_coef"], network.encoder_coef_)


def test_feature_names_survive(tmp_path):
    network = SparseFeatureNetwork(**parameters(7)).compact()
    network.save(tmp_path / "a.npz")
    loaded = SparseFeatureNetwork.load(tmp_path / "a.npz")
    assert loaded.feature_names_ == network.feature_names_


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "net.npz"
    old = SparseFeatureNetwork(**parameters(0))
    old.save(path)

    def fail(file, **arrays):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez", fail)
    with pytest.raises(OSError, match="disk full"):
        SparseFeatureNetwork(**parameters(1)).save(path)
    assert list(tmp_path.iterdir()) == [path]
    assert_same(SparseFeatureNetwork.load(path), old)
    with pytest.raises(FileNotFoundError):
        SparseFeatureNetwork.load(tmp_path / "absent")


def test_a_path_that_cannot_be_written_is_told(tmp_path):
    network = SparseFeatureNetwork(**parameters(0))
    (tmp_path / "file").write_bytes(b"")
    errors = {
        "nonexist": (FileNotFoundError, "folder that exists. Got {} instead"),
        "file": (NotADirectoryError, "directory: {}$"),
    }
    for folder, (error, message) in errors.items():
        path = tmp_path / folder / "x"
        told = message.format(re.escape(repr(str(path))))
        with pytest.raises(error, match=told):
            network.save(path)


class Bomb:
    """Unpickling it is seen."""

    ran = False

    def __reduce__(self):
        return setattr, (Bomb, "ran", True)


def edit(content, **changes):
    """Give entries of a saved file other arrays or other header fields."""
    with np.load(io.BytesIO(content)) as file:
        arrays = dict(file)
    header = json.loads(arrays["header"].tobytes())
    for name, value in changes.items():
        name = name.replace("__", ".")
        known = name in arrays or isinstance(value, np.ndarray)
        value = value(arrays[name]) if callable(value) else value
        (arrays if known else header)[name] = value
    text = json.dumps(header).encode()
    if "header" not in changes:
        arrays["header"] = np.frombuffer(text, np.uint8)
    out = io.BytesIO()
    np.savez(out, **{k: v for k, v in arrays.items() if v is not None})
    return out.getvalue()


def rezip(content, name=None, data=None, compression=zipfile.ZIP_STORED):
    """Replace the bytes of an entry."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(out, "w", compression) as new,
    ):
        for entry in old.namelist():
            new.writestr(entry, data if entry == name else old.read(entry))
    return out.getvalue()


def npy_header(shape, dtype="<f8"):
    out = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        out, {"shape": shape, "fortran_order": False, "descr": dtype}
    )
    return out.getvalue()


def flipped(content):
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        offset = archive.getinfo("encoder_coef.npy").header_offset
    position = content.index(b"\x93NUMPY", offset) + 130
    return content[:position] + b"\xff" + content[position + 1 :]


def pickled_zip(content):
    out = io.BytesIO()
    np.save(out, np.array([Bomb()], dtype=object), allow_pickle=True)
    return rezip(content, "encoder_coef.npy", out.getvalue())


STEP = {"kind": "eval", "name": "", "settings": {}}
HOSTILE = {
    "empty": (lambda c: b"", "not a zip file"),
    "text": (lambda c: b"hello" * 100, "not a zip file"),
    "pickle": (lambda c: pickle.dumps(Bomb()), "not a zip file"),
    "npy": (lambda c: npy_header((2,)) + bytes(16), "not a zip file"),
    "truncated": (lambda c: c[: len(c) // 2], "not a zip file"),
    "flipped bit": (flipped, "CRC"),
    "pickled array": (pickled_zip, "encoder_coef.npy holds object"),
    "compressed": (lambda c: rezip(c, compression=8), "compressed, or larger"),
    "zip bomb": (
        lambda c: rezip(c, "header.npy", bytes(10**7), compression=8),
        "compressed, or larger",
    ),
    "no npy": (lambda c: rezip(c, "header.npy", b"{}"), "reading magic|magic string"),
    "npy version": (
        lambda c: rezip(c, "header.npy", b"\x93NUMPY\x03\x00" + bytes(99)),
        "unknown .npy version",
    ),
    "npy header": (
        lambda c: rezip(c, "header.npy", b"\x93NUMPY\x01\x00\x08\x00" + b"(" * 8),
        "Cannot read",
    ),
    "absurd shape": (
        lambda c: rezip(c, "encoder_coef.npy", npy_header((10**9, 10**9))),
        r"not as long as its shape \(1000000000, 1000000000\)",
    ),
    "negative shape": (
        lambda c: rezip(c, "encoder_coef.npy", npy_header((-1, -2)) + bytes(16)),
        "not as long as its shape",
    ),
    "absurd empty shape": (
        lambda c: rezip(c, "encoder_coef.npy", npy_header((10**18, 0))),
        "Cannot read",
    ),
    "structured": (
        lambda c: rezip(c, "encoder_coef.npy", npy_header((1,), [("a", "<f8")])),
        "not plain numbers",
    ),
    "big endian": (lambda c: edit(c, encoder_coef=np.ones((2, 2), ">f8")), "holds >f8"),
    "strings": (lambda c: edit(c, encoder_coef=np.array(["a"])), "holds <U1"),
    "no header": (lambda c: edit(c, header=None), "it has no header"),
    "header of noise": (lambda c: edit(c, header=np.ones(9)), "Cannot read"),
    "deep header": (
        lambda c: edit(c, header=np.frombuffer(b"[" * 10**6, np.uint8)),
        "recursion",
    ),
    "header a list": (
        lambda c: edit(c, header=np.frombuffer(b"[1]", np.uint8)),
        "does not name the format",
    ),
    "other format": (lambda c: edit(c, format="x"), "does not name the format skfeat"),
    "newer": (
        lambda c: edit(c, version=2, skfeat="9.9"),
        "format version 2 and was written by skfeat 9.9",
    ),
    "version text": (lambda c: edit(c, version="1"), "format version '1'"),
    "flipped header": (lambda c: edit(c).replace(b'"links"', b'"lynks"'), "CRC"),
    "links a number": (lambda c: edit(c, links=3), "Cannot read"),
    "unknown link": (lambda c: edit(c, links=["relu", "os"]), "links must be of"),
    "too many links": (lambda c: edit(c, links=["relu"] * 9), "it has no array 'coefs"),
    "activation": (lambda c: edit(c, activation="os"), "activation 'os' is unknown"),
    "activation list": (lambda c: edit(c, activation=[]), r"activation \[\] is unkn"),
    "k": (lambda c: edit(c, k=-1), "k must be an int of at least 1"),
    "k real": (lambda c: edit(c, k=0.5), r"int of at least 1\. Got 0\.5"),
    "names": (lambda c: edit(c, layer_names=["a"]), "one entry less"),
    "missing": (lambda c: edit(c, decoder_coef=None), "has no array 'decoder_coef'"),
    "missing part": (
        lambda c: edit(c, coefs__0__data=None),
        "has no array 'coefs.0.data'",
    ),
    "unknown array": (lambda c: edit(c, extra=np.ones(2)), "an unknown array 'extra'"),
    "unknown step array": (
        lambda c: edit(c, front__9__coef=np.ones(2)),
        "No step takes the arrays",
    ),
    "chain": (lambda c: edit(c, front=[{"n_features_in": 3}, STEP]), "Cannot read"),
    "wrong shape": (lambda c: edit(c, encoder_bias=np.ones(77)), "encoder_bias must"),
    "scalar encoder": (lambda c: edit(c, encoder_coef=np.array(1.0)), "Cannot read"),
    "nan": (
        lambda c: edit(c, encoder_bias=lambda a: a * np.nan),
        "encoder_bias has NaN",
    ),
    "nan weight": (
        lambda c: edit(c, coefs__0__data=lambda a: a * np.nan),
        r"coefs\[0\] has NaN",
    ),
}
CSR = {
    "index out of range": ("indices", lambda a: a + 10**6),
    "index negative": ("indices", lambda a: a - 10**6),
    "index overflow": ("indices", lambda a: a.astype("i8") + 2**40),
    "index float": ("indices", lambda a: a.astype("f8")),
    "index 2-D": ("indices", lambda a: a[None]),
    "too few": ("indices", lambda a: a[:-1]),
    "indptr falls": ("indptr", lambda a: np.r_[0, a[-1], -1, a[3:]]),
    "indptr start": ("indptr", lambda a: np.r_[1, a[1:]]),
    "indptr end": ("indptr", lambda a: np.r_[a[:-1], a[-1] + 10**6]),
    "indptr short": ("indptr", lambda a: a[:-1]),
    "indptr empty": ("indptr", lambda a: a[:0]),
    "indptr float": ("indptr", lambda a: a * 1.0),
    "data short": ("data", lambda a: a[:-1]),
    "data 0-D": ("data", lambda a: a.sum()),
}


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "net"
    network = SparseFeatureNetwork(**parameters(11, n_layers=3, k=2, density=1.0))
    assert network.n_components_[1] > 3
    network.save(path)
    return path.read_bytes()


@pytest.fixture(scope="module")
def saved_sparse(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "net"
    p = parameters(13, n_layers=3, density=1.0, sparse_ends=ENDS[-1])
    assert all(p[name].nnz > 3 for name in ENDS[-1].split())
    SparseFeatureNetwork(**p).save(path)
    return path.read_bytes()


CANNOT_READ = "Cannot read a SparseFeatureNetwork"


def refused(path, content, match):
    path.write_bytes(content)
    with pytest.raises(ValueError, match=match) as info:
        SparseFeatureNetwork.load(path)
    assert str(info.value).startswith(f"{CANNOT_READ} from '{path}':")
    assert not Bomb.ran


@pytest.mark.parametrize(("spoil", "match"), HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_files_are_refused(spoil, match, saved, tmp_path):
    refused(tmp_path / "bad", spoil(saved), match)


@pytest.mark.parametrize(("part", "change"), CSR.values(), ids=CSR.keys())
def test_hostile_connectors_are_refused(part, change, saved, tmp_path):
    content = edit(saved, **{f"coefs__0__{part}": change})
    refused(tmp_path / "bad", content, "Cannot read")


@pytest.mark.parametrize("end", ENDS[-1].split())
@pytest.mark.parametrize(("part", "change"), CSR.values(), ids=CSR.keys())
def test_hostile_ends_are_refused(part, change, end, saved_sparse, tmp_path):
    content = edit(saved_sparse, **{f"{end}__{part}": change})
    refused(tmp_path / "bad", content, "Cannot read")


@pytest.mark.parametrize("end", ENDS[-1].split())
def test_ends_with_parts_missing_or_of_two_kinds(end, saved, saved_sparse, tmp_path):
    for part in ("data", "indices", "indptr"):
        content = edit(saved_sparse, **{f"{end}__{part}": None})
        refused(tmp_path / "bad", content, f"it has .* array '{end}")
    both = edit(saved, **{f"{end}__data": np.ones(3)})
    refused(tmp_path / "bad", both, "Cannot read")


@pytest.mark.parametrize("field", sorted(_file._FIELDS))
def test_fields_of_the_header(field, saved, tmp_path):
    with np.load(io.BytesIO(saved)) as file:
        header = json.loads(file["header"].tobytes())
    del header[field]
    array = np.frombuffer(json.dumps(header).encode(), np.uint8)
    refused(tmp_path / "bad", edit(saved, header=array), f"its header has no '{field}'")


def test_overlapping_entries_are_refused(saved, tmp_path):
    # The directory at the end lists every array four times.
    *_, n, _, size, offset, _ = struct.unpack("<4s4H2LH", saved[-22:])
    end = struct.pack(
        "<4s4H2LH", b"PK\x05\x06", 0, 0, 4 * n, 4 * n, 4 * size, offset, 0
    )
    content = saved[:offset] + 4 * saved[offset : offset + size] + end
    refused(tmp_path / "bad", content, "larger than the file")


@settings(IN_FOLDER, max_examples=60)
@given(position=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255))
def test_a_spoilt_byte_is_refused_or_harmless(position, byte, saved_sparse, tmp_path):
    saved = saved_sparse
    content = bytearray(saved)
    content[int(position * len(saved))] = byte
    path = tmp_path / "bad"
    path.write_bytes(content)
    try:
        loaded = SparseFeatureNetwork.load(path)
    except ValueError as error:
        assert str(error).startswith(CANNOT_READ)  # noqa: PT017
    else:
        path.write_bytes(saved)
        assert_same(loaded, SparseFeatureNetwork.load(path))


def test_predicts_without_torch(saved, tmp_path):
    (tmp_path / "net").write_bytes(saved)
    program = f"""
import sys
sys.modules["torch"] = sys.modules["sklearn"] = sys.modules["networkx"] = None
from skfeat.network import SparseFeatureNetwork
network = SparseFeatureNetwork.load({str(tmp_path / "net")!r})
print(network.compact().predict_raw([[1.0, 2.0, 3.0]]).tolist())
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    network = SparseFeatureNetwork.load(tmp_path / "net")
    np.testing.assert_allclose(
        json.loads(run.stdout), network.predict_raw([[1.0, 2.0, 3.0]]), atol=1e-12
    )


def test_a_folder_is_no_file_to_write(tmp_path):
    network = SparseFeatureNetwork(**parameters())
    with pytest.raises(IsADirectoryError, match="path must name a file to write"):
        network.save(tmp_path)
    assert list(tmp_path.iterdir()) == []
