"""The demo and the article's benchmark run from end to end, as a person starts them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

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
    assert names == ["digits.png", "features.png", "neurons.png", "weights.png"]
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
