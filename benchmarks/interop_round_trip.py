"""Files to and from the libraries themselves: how far codes and reconstructions differ.

Needs the libraries of requirements-peers.txt. Each case goes through real files: ours
written by skfeat and loaded by SAELens, theirs written by SAELens, dictionary_learning
and sparsify, after training where they save nothing else, and read by skfeat. What is
reported is the largest difference on 512 rows, relative to the largest value. Files
are float64 where the library can write it; float32 files differ by rounding.

Run: python benchmarks/interop_round_trip.py
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from _common import print_table, write_record

from skfeat import SparseAutoencoder
from skfeat.interop import (
    read_dictionary_learning,
    read_saelens,
    read_sparsify,
    write_saelens,
)

D, M, K, ROWS = 24, 64, 6, 512

# Codes and reconstructions of a float32 file, relative to the largest of them.
TOLERANCE = 1e-6

OURS = {
    "relu": {"activation": "relu"},
    "topk": {"activation": "topk", "k": K},
    "batch_topk": {"activation": "batch_topk", "k": K},
    "jumprelu": {"activation": "jumprelu"},
    "gated": {"activation": "gated"},
}


def make_rows(seed=0, dtype=np.float64):
    """Return rows off centre and of unequal spread."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(ROWS, D)) * np.linspace(1, 4, D) + 5).astype(dtype)


def relative(found, expected):
    """Return the largest difference over the largest value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def compare(case, sae, codes, rows, X):
    """Return a row of the table: our `sae` against a library's codes and rows."""
    found = sae.transform(X)
    return {
        "case": case,
        "dtype": str(sae.components_.dtype),
        "codes": relative(found, codes),
        "reconstructions": relative(sae.inverse_transform(found), rows),
        "l0": float((codes != 0).sum(axis=1).mean()),
    }


def randomise(module, seed=0, *, keep=()):
    """Give the parameters of a module values that leave features on and off."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name not in keep:
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(noise / (D**0.5 if parameter.ndim > 1 else 2))


def saelens_results(sae, X):
    """Return the codes and reconstructions of a SAELens autoencoder."""
    with torch.no_grad():
        codes = sae.encode(torch.tensor(X))
        return codes.numpy(), sae.decode(codes).numpy()


def ours_in_saelens(folder):
    """Yield what SAELens computes from files of ours."""
    from sae_lens import SAE

    for name, params in OURS.items():
        for dtype in (np.float32, np.float64):
            X = make_rows(dtype=dtype)
            ours = SparseAutoencoder(M, random_state=0, **params).partial_fit(X)
            path = folder / f"{name}-{np.dtype(dtype)}"
            write_saelens(ours, path)
            theirs = saelens_results(SAE.load_from_disk(path), X)
            yield compare(f"skfeat {name} -> SAELens", ours, *theirs, X)


def saelens_in_ours(folder):
    """Yield what we compute from files that SAELens has written."""
    from sae_lens import saes

    for name, options in {
        "Standard": {},
        "TopK": {"k": K},
        "TopK by norm": {"k": K, "rescale_acts_by_decoder_norm": True},
        "JumpReLU": {},
        "Gated": {},
        "JumpReLU, b_dec not subtracted": {"apply_b_dec_to_input": False},
        "Gated, b_dec not subtracted": {"apply_b_dec_to_input": False},
    }.items():
        kind = name.partition(" ")[0].rstrip(",")
        config = getattr(saes, f"{kind}SAEConfig")(
            d_in=D, d_sae=M, dtype="float64", **options
        )
        theirs = getattr(saes, f"{kind}SAE")(config)
        randomise(theirs)
        path = folder / f"SAELens {name}"
        theirs.save_model(path)
        X = make_rows()
        results = saelens_results(theirs, X)
        yield compare(f"SAELens {name} -> skfeat", read_saelens(path), *results, X)

    config = saes.BatchTopKTrainingSAEConfig(d_in=D, d_sae=M, k=K)
    training = saes.BatchTopKTrainingSAE(config)
    randomise(training)
    training.topk_threshold.fill_(0.7)
    path = folder / "SAELens BatchTopK"
    training.save_inference_model(path)
    theirs, X = saes.SAE.load_from_disk(path), make_rows(dtype=np.float32)
    results = saelens_results(theirs, X)
    yield compare("SAELens BatchTopK -> skfeat", read_saelens(path), *results, X)


def dictionary_learning_in_ours(folder):
    """Yield what we compute from what dictionary_learning has trained and saved."""
    from dictionary_learning import dictionary, trainers
    from dictionary_learning.trainers.matryoshka_batch_top_k import (
        MatryoshkaBatchTopKTrainer,
    )
    from dictionary_learning.trainers.standard import StandardTrainerAprilUpdate
    from dictionary_learning.training import trainSAE

    common = {
        "steps": 30,
        "activation_dim": D,
        "dict_size": M,
        "layer": 0,
        "lm_name": "none",
        "device": "cpu",
        "warmup_steps": 1,
        "seed": 0,
    }
    top = {"k": K, "threshold_start_step": 0}
    configs = {
        "AutoEncoder": (trainers.StandardTrainer, {"sparsity_warmup_steps": 1}),
        "AutoEncoder, April update": (
            StandardTrainerAprilUpdate,
            {"sparsity_warmup_steps": 1},
        ),
        "GatedAutoEncoder": (trainers.GatedSAETrainer, {"sparsity_warmup_steps": 1}),
        "JumpReluAutoEncoder": (
            trainers.JumpReluTrainer,
            {"sparsity_warmup_steps": 1},
        ),
        "AutoEncoderTopK": (trainers.TopKTrainer, top),
        "BatchTopKSAE": (trainers.BatchTopKTrainer, top),
        "MatryoshkaBatchTopKSAE": (
            MatryoshkaBatchTopKTrainer,
            {**top, "group_fractions": [0.25, 0.75]},
        ),
    }
    for number, (name, (trainer, more)) in enumerate(configs.items()):
        path = folder / f"dictionary_learning {number}"
        data = [torch.tensor(make_rows(i, np.float32)) for i in range(31)]
        with contextlib.redirect_stderr(io.StringIO()):
            trainSAE(
                data=iter(data),
                trainer_configs=[{"trainer": trainer, **common, **more}],
                steps=30,
                save_dir=str(path),
                normalize_activations=False,
                device="cpu",
                autocast_dtype=torch.float32,
            )
        yield _dictionary_in_ours(name, path / "trainer_0")

    # No trainer of this release saves one.
    untrained = dictionary.AutoEncoderNew(D, M)
    randomise(untrained)
    path = folder / "dictionary_learning new"
    path.mkdir()
    torch.save(untrained.state_dict(), path / "ae.pt")
    config = {"trainer": {"dict_class": "AutoEncoderNew"}}
    (path / "config.json").write_text(json.dumps(config))
    yield _dictionary_in_ours("AutoEncoderNew", path)


def _dictionary_in_ours(name, path):
    from dictionary_learning.utils import load_dictionary

    with contextlib.redirect_stdout(io.StringIO()):
        theirs, _ = load_dictionary(str(path), device="cpu")
    # Loading one of this class scales its decoder to norm one.
    unit_norm = type(theirs).__name__ == "AutoEncoder"
    ours = read_dictionary_learning(path, unit_norm=unit_norm)
    X = make_rows(99, np.float32)
    with torch.no_grad():
        codes = theirs.encode(torch.tensor(X))
        rows = theirs.decode(codes).numpy()
    case = f"dictionary_learning {name} -> skfeat"
    return compare(case, ours, codes.numpy(), rows, X)


def sparsify_in_ours(folder):
    """Yield what we compute from files that sparsify has written."""
    from sparsify import SparseCoder, SparseCoderConfig

    for name, dtype in {"float32": torch.float32, "float64": torch.float64}.items():
        config = SparseCoderConfig(num_latents=M, k=K)
        theirs = SparseCoder(D, config, dtype=dtype)
        randomise(theirs, keep=["W_dec"])
        path = folder / f"sparsify {name}"
        theirs.save_to_disk(path)
        X = make_rows(dtype=name)
        with torch.no_grad():
            values, places, _ = theirs.encode(torch.tensor(X))
            rows = theirs.decode(values, places).numpy()
        codes = np.zeros((ROWS, M), dtype=name)
        np.put_along_axis(codes, places.numpy(), values.numpy(), axis=1)
        ours = read_sparsify(path)
        yield compare("sparsify -> skfeat", ours, codes, rows, X)


PARTS = {
    "sae-lens": (ours_in_saelens, saelens_in_ours),
    "dictionary-learning": (dictionary_learning_in_ours,),
    "eai-sparsify": (sparsify_in_ours,),
}


def measure(library):
    """Return the rows of the table that go through one library."""
    rows = []
    with tempfile.TemporaryDirectory() as folder, torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        for part in PARTS[library]:
            rows += part(Path(folder))
    return rows


def main():
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the libraries' own
        for library in PARTS:
            rows += measure(library)
    print_table(rows, ["case", "dtype", "codes", "reconstructions", "l0"])
    record = {
        "libraries": {library: version(library) for library in PARTS},
        "rows": ROWS,
        "shape": [D, M],
        "tolerance": TOLERANCE,
        "largest relative difference": rows,
    }
    print(f"\nwritten to {write_record('interop_round_trip', record)}")
    worst = max(max(row["codes"], row["reconstructions"]) for row in rows)
    if not worst <= TOLERANCE:
        raise SystemExit(f"A difference of {worst:.3g} is above {TOLERANCE}.")


if __name__ == "__main__":
    main()
