"""The demo and benchmarks run from end to end, as a person starts them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from _browser import find_chromium
from _common import train_mlp
from _connector_problem import Moments, make_data
from _neurons import neurons
from _peer_fits import RATES, train_at_best_rate, train_peer
from _peers import PlainTorch, available_peers
from _probing_data import Activations
from _random_rows import FrozenDecoder, permuted, untrained
from sklearn.linear_model import Lasso
from sparse_probing import table_of
from synth_bench import best_rate, rates_of

from skfeat import SparseAutoencoder
from skfeat.datasets import make_sparse_features
from skfeat.metrics import explained_variance, fvu, matching_coefficient

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.slow
pytest.importorskip("matplotlib")


def run(script, *options, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, ROOT / "benchmarks" / script, *options],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def pictures(folder):
    """Names of the files, each of which starts as a picture of its kind does."""
    starts = {".png": b"\x89PNG", ".gif": b"GIF8"}
    paths = sorted(folder.iterdir())
    assert all(path.read_bytes().startswith(starts[path.suffix]) for path in paths)
    return [path.name for path in paths]


def test_demo(tmp_path):
    done = run("demo.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["demo_figures"]
    names = pictures(tmp_path / "demo_figures")
    assert [name.removesuffix(".png") for name in names] == [
        *("circuit", "digits", "features", "neurons", "weights")
    ]
    lines = done.stdout.splitlines()
    assert all(f"  demo_figures/{name}" in lines for name in names)
    assert max(map(len, lines)) <= 100
    assert "F2_" in done.stdout


@pytest.mark.usefixtures("mnist")
def test_article(tmp_path):
    done = run(
        "article_mnist.py", "--quick", "--figures", tmp_path / "made", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["made"]
    names = pictures(tmp_path / "made")
    assert len(names) == 6
    assert all(name.startswith("article_") for name in names)
    for table in ("Autoencoders", "Connectors", "product start", "network of features"):
        assert table in done.stdout
    assert "nan" not in done.stdout


def test_connector_speed(tmp_path):
    done = run("connector_speed.py", "--smoke", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for line in ("scikit-learn, Gram", "scikit-learn, sparse", "Adam, proximal"):
        assert line in done.stdout
    assert done.stdout.count("\nskfeat ") == 2
    assert "A path of 30" in done.stdout
    assert "nan" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_checkpoint_kills(tmp_path):
    pytest.importorskip("safetensors")
    done = run("checkpoint_kills.py", "--quick", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 kills, 2 resumed, 2 equal to the bit" in done.stdout
    assert not list(tmp_path.iterdir())


def test_mapped_unwrapping(tmp_path):
    pytest.importorskip("safetensors")
    done = run("mapped_unwrapping.py", "--smoke", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 kills, equal to the bit: True" in done.stdout
    assert not list(tmp_path.iterdir())


def test_process_scaling(tmp_path):
    done = run("process_scaling.py", "--smoke", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("rows") + done.stdout.count("features") == 2
    assert "nan" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_predict_speed(tmp_path):
    done = run("predict_speed.py", "--smoke", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("smoke, first layer kept") == 3
    assert done.stdout.count("smoke, from the pixels") == 2
    assert "nan" not in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(find_chromium() is None, reason="needs Chromium and its driver")
def test_explorer_page(tmp_path):
    if "SKFEAT_DATA" not in os.environ:
        pytest.skip("needs the books and MNIST in the folder SKFEAT_DATA")
    done = run("explorer_page.py", "--smoke", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\nsmoke, ") == 2
    assert "nan" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_row_sources(tmp_path):
    pytest.importorskip("pyarrow")
    pytest.importorskip("datasets")
    done = run("row_sources.py", "--smoke", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for source in ("np.load, np.save", ".npy, mapped", "Parquet, list", "generator"):
        assert f"\n{source}" in done.stdout
    assert "nan" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_feature_stability(tmp_path):
    done = run(
        "feature_stability.py", "--smoke", "--data", "feature world", folder=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\nfeature world  ") >= 3
    # Of the other libraries those that are installed; this one always is.
    assert done.stdout.count("\nfeature world  plain PyTorch") == 2
    names = [peer.name for peer in available_peers()]
    left_out = done.stdout.partition("Not installed, and not measured: ")[2]
    left_out = left_out.partition(".\n")[0].split(", ")
    assert sorted([*names, *filter(None, left_out)]) == sorted(RATES)
    assert "nan" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_a_peer_trains_as_long_as_ours_from_its_seed():
    X = np.random.default_rng(0).normal(size=(130, 6)).astype(np.float32)
    state = torch.random.get_rng_state()
    fits = [train_peer(PlainTorch, 1e-3, X, 8, 2, (3, 50), s) for s in (0, 0, 1)]
    assert torch.equal(torch.random.get_rng_state(), state)
    # 130 rows are three batches of 50, as in `SparseAutoencoder`.
    assert fits[0].peer.n_done == 3 * 3
    codes, again, other = (fit.transform(X) for fit in fits)
    np.testing.assert_array_equal(codes, again)
    assert abs(codes - other).max() > 0.1
    assert ((codes != 0).sum(axis=1) <= 2).all()
    assert fvu(X, fits[0].inverse_transform(codes)) < 1
    chosen, best = train_at_best_rate(PlainTorch, X, X, 8, 2, (3, 50))
    left = {}
    for rate in RATES["plain PyTorch"]:
        fit = train_peer(PlainTorch, rate, X, 8, 2, (3, 50), 0)
        left[rate] = fvu(X, fit.inverse_transform(fit.transform(X)))
    assert left[chosen] == min(left.values()) < max(left.values())
    assert fvu(X, best.inverse_transform(best.transform(X))) == left[chosen]


def test_probing_is_told_by_means_over_seeds():
    def run(left, *scores):
        return {"FVU": left, "k=1": list(scores)}

    runs = {
        "coordinates": [run(None, 0.6, 0.8)],
        "skfeat batch_topk": [run(0.2, 0.9, 0.9), run(0.4, 0.5, 0.7)],
        "SAELens": [run(0.3, 0.7, 0.7), run(0.3, 0.7, 0.7)],
    }
    table = {line["of"]: line for line in table_of(runs, (1,))}
    ours, other = table["skfeat batch_topk"], table["SAELens"]
    assert ours["AUC, k=1"] == pytest.approx(0.75)
    assert ours["FVU ±"] == pytest.approx(np.std([0.2, 0.4], ddof=1))
    # First seed: places 1 and 1. Second: behind both, then in a tie for the last.
    assert ours["rank, k=1"] == pytest.approx((1 + 1 + 3 + 2.5) / 4)
    assert table["coordinates"]["rank, k=1"] == pytest.approx((3 + 2 + 2 + 1) / 4)
    assert table["coordinates"]["FVU"] is None
    # Scores of ours averaged over seeds: 0.7 and 0.8.
    assert other["behind, k=1"] == pytest.approx(0.05)
    assert other["behind, k=1 ±"] == pytest.approx(0.05)


def test_means_of_texts():
    """Codes of tokens become means of texts, wherever blocks of rows begin."""
    rng = np.random.default_rng(0)
    texts = np.repeat(np.arange(9), rng.integers(1, 6, 9))
    tokens = rng.normal(size=(len(texts), 3)).astype(np.float16)
    data = Activations(tokens, texts, None, [], [], [])
    expected = [
        abs(tokens[texts == i].astype(np.float32)).mean(axis=0) for i in range(9)
    ]
    for block in (1, 4, 1000):
        np.testing.assert_allclose(data.pooled(abs, 3, block), expected, rtol=1e-5)


def test_yardstick_of_connectors():
    """Objective and gap from moments agree with Lasso's on the rows themselves."""
    X, Y, X_test, Y_test = make_data(16, 500, 100)
    assert (Y.shape, X_test.shape, Y_test.shape) == ((500, 16), (100, 16), (100, 16))
    moments, alpha, rows = Moments(X, Y), 1e-3, X.toarray().astype(float)
    lasso = Lasso(alpha, tol=1e-10).fit(rows, Y)
    error = np.square(Y - lasso.predict(rows)).sum() / (2 * len(Y))
    best = error + alpha * abs(lasso.coef_).sum()
    assert moments.objective(lasso.coef_, alpha) == pytest.approx(best, rel=1e-6)
    assert moments.gap(lasso.coef_, alpha) < 1e-5 * best
    worse = 0.9 * lasso.coef_
    excess = moments.objective(worse, alpha) - best
    assert moments.gap(worse, alpha) > excess > 0


@pytest.mark.usefixtures("mnist")
def test_connector_quality(tmp_path):
    done = run("connector_quality.py", "--smoke", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for way in ("lasso raw", "lasso support, relu refit", "tuned Adam", "relu pruned"):
        assert done.stdout.count(way) >= 3
    assert "R2 of connector 2" in done.stdout
    assert "nan" not in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("mnist")
def test_unwrap_mnist(tmp_path):
    done = run("unwrap_mnist.py", "--smoke", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    parts = "pixels", "patient", "faithfulness", "kept", "trained", "wide", "digits"
    for part in (*parts, "mixup", "regression", "defaults"):
        assert part in lines
    for name in ("plain, 240", "plain, 240, apart", "plain, 240, pruned", "60, pruned"):
        assert any(line.startswith(f"{name} ") for line in lines), name
    assert "400 from the pixels, 100, 100, 40 to the logits" in done.stdout
    assert "times faster at 256" in done.stdout
    assert "nan" not in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("mnist")
def test_unwrap_conv(tmp_path):
    done = run("unwrap_conv.py", "--smoke", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for part in ("mnist", "digits", "series"):
        assert part in done.stdout.splitlines()
    assert "nan" not in done.stdout
    done = run("unwrap_conv.py", "--smoke", "--speed", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "model in torch" in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("mnist")
def test_feature_quality(tmp_path):
    done = run("feature_quality.py", "--smoke", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for name in ("neurons", "pruned", "apart", "together", "untrained"):
        assert done.stdout.count(f"\n{name} ") >= 3
    assert max(map(len, done.stdout.splitlines())) <= 100
    assert "nan" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_neurons_as_features():
    X = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    model = train_mlp(X, X[:, 0] > 0, hidden=(8, 7), n_classes=2, epochs=1, seed=0)
    network = neurons(model)
    outputs = model(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(network.predict_raw(X), outputs, atol=1e-5)
    assert network.n_components_ == [8, 7]
    assert network.n_weights_all_ == 6 * 8 + 8 * 7 + 7 * 2


def test_known_circuits(tmp_path):
    done = run("known_circuits.py", "--smoke", "--picture", "map.png", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    ways = ("connectors of true features", "autoencoders and", "FeatureUnwrapper")
    assert all(any(line.startswith(way) for line in lines) for way in ways)
    assert max(map(len, lines)) <= 100
    assert "nan" not in done.stdout
    assert pictures(tmp_path) == ["map.png"]


def test_synth_bench(tmp_path):
    pytest.importorskip("sae_lens")
    done = run("synth_bench.py", "--smoke", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    for method in ("skfeat matryoshka", "SAELens batchtopk", "SAELens standard"):
        assert any(method in line for line in lines), method
    for method in ("frozen decoder", "untrained", "permuted codes"):
        assert sum(method in line for line in lines) == 1
    assert "nan" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_rates_are_tried_at_the_first_seed_and_number_active_alone():
    def row(method, seed, active, rate, score):
        place = {"seed": seed, "active": active, "width": 8}
        return {"method": method, "rate": rate, "F1": score, **place}

    name, rates = "SAELens topk", (1e-3, 1e-2)
    assert rates_of("skfeat topk", 8, (0, 5), rates, []) == (None,)
    assert rates_of(name, 8, (0, 5), rates, []) == rates
    rows = [row("SAELens batchtopk", 0, 5, 1e-3, 0.9), row(name, 0, 5, 1e-3, 0.6)]
    assert rates_of(name, 8, (0, 5), rates, rows) == rates
    rows += [row(name, 0, 5, 1e-2, 0.5)]
    # A better score elsewhere, of another seed, changes nothing.
    rows += [row(name, 1, 5, 1e-2, 0.8)]
    assert best_rate(rows, name, 8) == 1e-3
    for place in ((0, 4), (1, 5)):
        assert rates_of(name, 8, place, rates, rows) == (1e-3,)
    assert rates_of(name, 16, (0, 5), rates, rows) == rates


def test_random_rows_have_no_dictionary():
    X, _, dictionary = make_sparse_features(
        4000, 16, 24, n_active=2, random_state=0, dtype=np.float32
    )
    trained = SparseAutoencoder(24, k=2, random_state=0).fit(X)
    matched = matching_coefficient(dictionary, trained.components_)
    assert matched > 0.9
    frozen = FrozenDecoder(24, 2, seed=0)
    start = frozen.fit(X[:1]).directions.numpy().copy()
    frozen.fit(X, n_epochs=20)
    np.testing.assert_array_equal(frozen.directions.numpy(), start)
    rows = torch.from_numpy(X)
    explained = explained_variance(X, frozen.decode(frozen.encode(rows)).numpy())
    assert 0.2 < explained < trained.explained_variance_ - 0.1
    assert int((frozen.encode(rows) != 0).sum(dim=1).max()) == 2
    bare = untrained(X, 24, 2, seed=0)
    for directions in (frozen.directions.numpy(), bare.components_):
        assert matching_coefficient(dictionary, directions) < matched - 0.2
    found = trained.transform(X)
    shuffled = permuted(found, seed=0)
    np.testing.assert_array_equal(np.sort(shuffled, axis=0), np.sort(found, axis=0))
    assert (shuffled != found).any()
    assert explained_variance(X, trained.inverse_transform(shuffled)) < 0


def test_many_fits(tmp_path):
    pytest.importorskip("distributed")
    pytest.importorskip("ray")
    done = run("many_fits.py", "--smoke", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    names = ("serial", "loky", "threading", "dask", "ray")
    assert all(any(line.startswith(f"{name} ") for line in lines) for name in names)
    assert not list(tmp_path.iterdir())


def test_sizing(tmp_path):
    done = run("sizing.py", "--smoke", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    for part in ("Gemma 2 9B, 3584 to 1,048,576", "connector, no Gram matrix, 11,700"):
        assert part in done.stdout
    assert "nan" not in done.stdout
    assert not list(tmp_path.iterdir())


def test_gpu(tmp_path):
    done = run("gpu.py", "--smoke", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())
    for name in ("unwrapper", "TF32", "bfloat16", "plain PyTorch"):
        assert name in done.stdout
    assert "nan" not in done.stdout


def test_whole_fits(tmp_path):
    done = run("whole_fits.py", "--smoke", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())
    assert done.stdout.count("now") == 1
    assert "cold" in done.stdout


def test_wide_updates(tmp_path):
    done = run("wide_updates.py", "--smoke", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())
    assert done.stdout.count("an update at") == 4


def test_time_to_quality(tmp_path):
    done = run("time_to_quality.py", "--smoke", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.iterdir())
    for part in ("digits", "scikit-learn, Gram", "Adam"):
        assert part in done.stdout
    assert "nan" not in done.stdout
