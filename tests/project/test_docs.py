"""What the pages say is what the records hold, and their programs run."""

import json
import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.exceptions import ConvergenceWarning

plt = pytest.importorskip("matplotlib.pyplot")

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "benchmarks" / "records"

if not (ROOT / "docs").is_dir():
    pytest.skip("the tests run outside a checkout", allow_module_level=True)

import _page as tables  # noqa: E402
import _quality_page as quality  # noqa: E402
import _sizing_page as sizing  # noqa: E402
import _unwrap_page as unwrap  # noqa: E402
from explorer_page import page_table as explorer_table  # noqa: E402
from many_fits import page_table  # noqa: E402

from tests.language_model import tiny_model  # noqa: E402


def record_of(name):
    return json.loads((RECORDS / f"{name}.json").read_text(encoding="utf-8"))


def page(name):
    return (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")


def test_sizing_page_is_the_record():
    assert page("sizing") == sizing.page(record_of("sizing"))


def test_sizes_follow_from_the_rates():
    record = record_of("sizing")
    for case, row in zip(sizing.CASES, record["cases"], strict=True):
        again = sizing.size_case(case, record)
        assert row.keys() == again.keys()
        for key, value in again.items():
            same = value if isinstance(value, str) else pytest.approx(value, rel=1e-9)
            assert row[key] == same, key


def test_the_last_step_is_predicted_as_the_record_says():
    steps = record_of("sizing")["step"]
    microseconds = [1e6 / row["rows a second"] for row in steps]
    sizes = [2 * row["d"] * row["m"] + 8 * row["k"] * row["d"] for row in steps]
    error = microseconds[1] * sizes[2] / sizes[1] / microseconds[2] - 1
    stated = record_of("sizing")["predicted over measured, less one"]["step"]
    assert stated == pytest.approx(error)
    assert f"{error:+.0%} of the time" in page("sizing")


def test_bytes_of_an_autoencoder():
    from skfeat import SparseAutoencoder
    from skfeat.datasets import make_sparse_features

    X, _, _ = make_sparse_features(300, 6, 12, random_state=0)
    sae = SparseAutoencoder(20, k=2, max_iter=9, tol=0.5, random_state=0).fit(X)
    names = ("components_", "intercept_", "encoder_coef_", "encoder_intercept_")
    n_weights = sum(getattr(sae, name).size for name in names)
    assert sizing.training_bytes(6, 20) == 3 * 4 * n_weights


def test_numbers_are_written_short():
    assert sizing.of_bytes(3 * 2**29) == "1.5 GiB"
    assert sizing.of_bytes(100) == "100 bytes"
    assert sizing.of_time(90) == "1.5 min"
    assert sizing.of_time(3600 * 8766 * 20) == "20 years"
    assert sizing.short(2_500_000) == "2.5 M"


def test_table_of_many_fits_is_the_record():
    assert page_table(record_of("many_fits")) in page("many_fits")


def test_table_of_the_explorer_is_the_record():
    assert explorer_table(record_of("explorer_page")) in page("explorer")


def test_tables_of_feature_quality_are_the_record():
    expected = quality.page_tables(record_of("feature_quality"))
    found = tables.between(quality.PAGE, "feature_quality.py")
    assert found == expected, "run python benchmarks/feature_quality.py --page"


def test_tables_of_training_together_are_the_record():
    expected = unwrap.page_tables(record_of("unwrap_mnist"))
    found = tables.between(unwrap.PAGE, "unwrap_mnist.py")
    assert found == expected, "run python benchmarks/unwrap_mnist.py --page"


def test_tables_of_parameters_are_those_of_the_code():
    path = ROOT / "docs" / "scripts" / "parameters.py"
    script = runpy.run_path(str(path))
    begin, end = script["BEGIN"], script["END"]
    found = page("parameters").partition(begin)[2].partition(end)[0]
    assert found == script["tables"](), f"run python {path.name} --write"


def test_links_between_the_pages():
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        text = path.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!http)([^)#]+)", text):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
]


def anchors(path):
    """Return the anchors that GitHub gives the headings of a page."""
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ +(.+)$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings}


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_paths_that_a_page_names_exist(path):
    named = re.findall(
        r"(?<![\w/.-])(?:skfeat|tests|benchmarks)/[\w./-]*\w",
        path.read_text(encoding="utf-8"),
    )
    assert [name for name in named if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_anchors_lead_to_headings(path):
    text = path.read_text(encoding="utf-8")
    for page_name, anchor in re.findall(r"\]\((?!http)([^)#]*)#([^)]+)\)", text):
        linked = path.parent / page_name if page_name else path
        assert anchor in anchors(linked), f"{page_name}#{anchor}"


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["loky", "dask", "ray"])
def test_program_of_many_fits(engine, tmp_path, monkeypatch):
    module = {"dask": "distributed", "ray": "ray"}.get(engine, "joblib")
    pytest.importorskip(module)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    outputs = []
    # The second run finds what the first has kept.
    for _ in range(2 if engine == "loky" else 1):
        done = subprocess.run(
            [sys.executable, ROOT / "docs/scripts/many_fits.py", "--engine", engine],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        outputs.append(done.stdout)
    assert len(set(outputs)) == 1
    assert outputs[0].count("R2 0.") == 3
    agreement = re.search(r"features: ([0-9.]+) agree", outputs[0])
    assert float(agreement[1]) > 0.8
    kept = list((tmp_path / "many_fits" / "checkpoints").glob("*.safetensors"))
    assert len(kept) == 3 * 2 + 2


class Letters:
    """A tokenizer of letters, in the place of one that would be downloaded."""

    def __call__(self, text, return_tensors):
        import torch

        ids = torch.tensor([[ord(letter) % 60 for letter in text]])
        return SimpleNamespace(input_ids=ids)

    def decode(self, ids, **options):
        return "".join(chr(65 + int(i)) for i in np.ravel(ids))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*(features are dead|still falling|floor)")
def test_programs_of_language_models(tmp_path, monkeypatch, capsys):
    transformers = pytest.importorskip("transformers")
    model = tiny_model(
        num_hidden_layers=3, max_position_embeddings=128, hidden_dropout=0.0
    )
    for kind, made in (
        (transformers.AutoModelForCausalLM, model),
        (transformers.AutoTokenizer, Letters()),
    ):
        monkeypatch.setattr(kind, "from_pretrained", lambda name, made=made: made)
    monkeypatch.chdir(tmp_path)
    letters = np.random.RandomState(0).randint(65, 125, 128 * 80)
    Path("novel.txt").write_text("".join(map(chr, letters)), encoding="ascii")
    parts = re.findall(r"^```python\n(.*?)^```", page("language_models"), re.M | re.S)
    exec(compile("\n".join(parts), "language_models.md", "exec"), {})
    printed = capsys.readouterr().out
    assert printed.startswith("OF_")
    assert "floor" in printed
    assert "lost (own)" in printed
    pages = [
        "connections.html",
        "feature.html",
        "features.html",
        "graph.html",
        "model.html",
    ]
    assert sorted(path.name for path in Path().glob("*.html")) == pages
    assert Path("pair_rows").is_dir()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*(features are dead|still falling)")
def test_program_of_the_explorer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"^```python\n(.*?)^```", page("explorer"), re.M | re.S)
    exec(compile(code, "explorer.md", "exec"), {})
    assert [path.name for path in Path().iterdir()] == ["digits.html"]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*(features are dead|still falling)")
def test_programs_of_convolutional_models(capsys):
    parts = re.findall(r"^```python\n(.*?)^```", page("convolutional"), re.M | re.S)
    made = {}
    exec(compile("\n".join(parts), "convolutional.md", "exec"), made)
    plt.close("all")
    (printed,) = re.findall(r"^```text\n(.*?)^```", page("convolutional"), re.M | re.S)
    counts, formula = capsys.readouterr().out.splitlines()
    assert counts == printed.splitlines()[0]
    chosen = made["few"].argmax()
    assert made["few"][chosen]
    assert formula.startswith(f"F2_{chosen} = ")
    assert formula.count("*F1_") == made["n_weights"][chosen] in (2, 3, 4)
    assert made["image"].shape == (64,)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*(features are dead|still falling)")
def test_programs_of_more_rows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    parts = re.findall(r"^```python\n(.*?)^```", page("more_rows"), re.M | re.S)
    exec(compile("\n".join(parts), "more_rows.md", "exec"), {})
    shape, same, streamed, connector, *_, kept = capsys.readouterr().out.splitlines()
    assert shape.startswith("(10000, 16) 0.")
    assert same == "True"
    assert (streamed, connector, kept) == ("(32, 16)", "(8, 8)", "10")


def program(page_name, label):
    """Return the Python program between two marks of a page."""
    text = page(page_name)
    found = re.findall(
        rf"<!-- {label} -->\n```python\n(.*?)```\n<!-- end -->", text, re.S
    )
    assert len(found) == 1
    return found[0]


def test_bars_of_the_page_of_long_fits(capsys, fast_rows):
    pytest.importorskip("rich")
    code = program("long_fits", "bars").replace("256", "8, max_iter=2")
    code = code.replace("[4, 8]", "[1, 2]").replace("k=8", "k=2")
    with warnings.catch_warnings(), parallel_config("threading"):
        warnings.simplefilter("ignore")
        exec(code, {"X": fast_rows})
    bars = [
        line.strip().split("  ")[0] for line in capsys.readouterr().out.splitlines()
    ]
    assert sum("SparseAutoencoder - fit" in bar for bar in bars) == 1 + 6 + 1
    assert sum("GridSearchCV - " in bar for bar in bars) == 2 + 6 + 1


def test_summary_of_the_page_of_many_fits(fast_rows):
    code = program("many_fits", "summary").replace("n_jobs=2", "cv=3")
    with pytest.warns(ConvergenceWarning, match=r"in \d of 7 fits") as told:
        exec(code, {"X": fast_rows, "Y": np.maximum(fast_rows, 0)})
    assert len(told) == 1


@pytest.fixture
def fast_rows():
    return np.random.default_rng(0).standard_normal((60, 5))
