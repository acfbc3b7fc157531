"""The documentation site: its configuration, its lists, its pages and its links."""

import ast
import json
import os
import re
import runpy
import subprocess
import sys
import urllib.request
from importlib import import_module
from pathlib import Path

import pytest
from sklearn.neural_network import MLPClassifier
from sklearn.utils import estimator_html_repr

from skfeat import (
    FeatureConnector,
    FeatureConnectorCV,
    FeatureEnsemble,
    FeatureUnwrapper,
    SparseAutoencoder,
    Transcoder,
)
from skfeat.language import LayerPair, MLPConnector
from tests.project.test_docstrings import OBJECTS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

if not DOCS.is_dir():
    pytest.skip("the tests run outside a checkout", allow_module_level=True)

sys.path[:0] = [str(DOCS / "_ext"), str(DOCS)]
import api_pages  # noqa: E402
import check_links  # noqa: E402
import record_pages  # noqa: E402
import site_links  # noqa: E402

del sys.path[:2]

EXAMPLES = sorted((DOCS / "examples").glob("*.py"))
RECORDS = sorted((ROOT / "benchmarks" / "records").glob("*.json"))
ESTIMATORS = [
    SparseAutoencoder(),
    Transcoder(),
    FeatureEnsemble(),
    FeatureConnector(),
    FeatureConnectorCV(),
    FeatureUnwrapper(MLPClassifier()),
    LayerPair(),
    MLPConnector(),
]
BUILDERS = ("sphinx_gallery", "myst_parser", "pydata_sphinx_theme", "sphinx_design")


def configuration(monkeypatch, urlopen):
    for module in BUILDERS:
        pytest.importorskip(module)
    monkeypatch.setattr(urllib.request, "urlopen", urlopen)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    return runpy.run_path(str(DOCS / "conf.py"))


def test_configuration_without_a_network(monkeypatch):
    def urlopen(*args, **kwargs):
        raise OSError("no network")

    settings = configuration(monkeypatch, urlopen)
    assert settings["intersphinx_mapping"] == {}
    assert settings["nitpicky"]
    ordered = sorted(EXAMPLES, key=lambda path: settings["place_in_gallery"](path.name))
    names = [path.stem.removeprefix("plot_") for path in ordered]
    assert names == settings["ORDER"]


def test_configuration_with_a_network(monkeypatch):
    def urlopen(*args, **kwargs):
        return open(os.devnull)

    settings = configuration(monkeypatch, urlopen)
    assert "sklearn" in settings["intersphinx_mapping"]


def test_there_are_enough_examples():
    assert len(EXAMPLES) >= 14


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example_compiles_and_says_what_it_shows(path):
    text = path.read_text(encoding="utf-8")
    compile(text, str(path), "exec", dont_inherit=True)
    assert path.stem.startswith("plot_"), "the gallery runs files called plot_*.py"
    title, line, gap, *told = ast.get_docstring(ast.parse(text)).splitlines()
    assert line == "=" * len(title)
    assert gap == ""
    assert told
    assert "plt.show()" in text, "an example ends in a picture"
    # Sphinx-Gallery takes the lines after each mark as text, until the code.
    blocks = text.split("\n# %%\n")[1:]
    assert blocks
    assert all(block.startswith("# ") for block in blocks)


def test_the_api_reference_has_everything_public():
    names = api_pages.public_names()
    assert len(set(names)) == len(names)
    listed = {}
    for dotted in names:
        module, _, name = dotted.rpartition(".")
        listed[getattr(import_module(module), name)] = dotted
    missing = [name for name, thing in OBJECTS.items() if thing not in listed]
    assert missing == [], "list them in docs/_ext/api_pages.py"
    public = set(OBJECTS.values())
    assert [name for thing, name in listed.items() if thing not in public] == []


def test_pages_of_the_api_have_names_of_their_own():
    pages = [api_pages.page_name(name).lower() for name in api_pages.public_names()]
    assert len(set(pages)) == len(pages)
    assert "index" not in pages


def test_page_of_a_class():
    page = api_pages.object_page("skfeat.SparseAutoencoder")
    assert ".. autoclass:: SparseAutoencoder" in page
    assert "   .. automethod:: partial_fit" in page
    inherited = re.search(r"scikit-learn: (.*)\.\n", page)[1]
    assert "``set_params``" in inherited
    assert "``set_fit_request``" in inherited
    assert "partial_fit``" not in inherited


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: type(e).__name__)
def test_link_of_an_estimator_leads_to_its_page(estimator):
    name = type(estimator).__name__
    pages = {api_pages.page_name(dotted) for dotted in api_pages.public_names()}
    link = estimator._get_doc_link()
    assert link.startswith("https://")
    assert link.endswith(f"/api/{name}.html")
    assert name in pages
    assert f'href="{link}"' in estimator_html_repr(estimator)


def test_links_out_of_the_docs_lead_to_pages_of_the_site():
    text = "[a](../benchmarks/records/sizing.json), [b](examples/plot_x.py#y) [c](d.md)"
    assert site_links.rewrite(text) == (
        "[a](records/sizing.md), [b](gallery/plot_x.rst#y) [c](d.md)"
    )


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_page_of_a_record(path):
    page = record_pages.record_page(path)
    record = json.loads(path.read_text(encoding="utf-8"))
    assert page.startswith("# ")
    assert "{download}" in page
    assert "None" not in page
    assert page.count("{div} record-table") >= 1
    for key, value in record.items():
        if key != "machine" and record_pages.cell(value) is not None:
            assert f"| {key} | {record_pages.cell(value)} |" in page
    # Every row of every table is as wide as its head.
    for block in re.findall(r"record-table\n(.*?)\n::::", page, re.DOTALL):
        bars = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(bars) == 1


def test_seeds_are_put_together():
    runs = [
        {"how": "a", "score": 1.0, "R2": [0.5, 1.0], "n": 3, "text": "x"},
        {"how": "a", "score": 3.0, "R2": [0.5, 3.0], "n": 3, "text": "y"},
    ]
    together = record_pages.over_seeds(runs)
    assert together["score"] == {"mean": 2.0, "spread": pytest.approx(2**0.5)}
    assert record_pages.cell(together["score"]) == "2 ± 1.414"
    assert record_pages.cell(together["R2"]) == "0.5, 2 ± 1.414"
    assert (together["how"], together["n"], together["text"]) == ("a", 3, None)


def test_cells():
    cells = [1234567, 0.123456, 12345.6, True, "a|b", None, {"deep": 1}, [1] * 9]
    expected = ["1,234,567", "0.1235", "12,346", "yes", "a\\|b", "", None, None]
    assert [record_pages.cell(value) for value in cells] == expected


def test_wide_tables_of_few_rows_lie_on_their_side():
    lines = record_pages.rows_table([{f"c{i}": i for i in range(20)}])
    assert "| c0 | 0 |" in lines
    lines = record_pages.rows_table([{"a": 1, "long": [[1]] * 9}, {"a": 2, "b": "x"}])
    assert "| 2 | x |" in lines
    assert "In the file only: long." in lines


def test_broken_links_are_found(tmp_path):
    (tmp_path / "a.html").write_text(
        '<h1 id="top">A</h1><a href="b.html#here">b</a><a href="#top">a</a>'
        '<a href="b.html#there">x</a><a href="c.html">c</a><img src="d.png">'
        '<a href="https://example.org/e">e</a>'
    )
    (tmp_path / "b.html").write_text('<p id="here"></p><a href="a.html">a</a>')
    pages = check_links.read_site(tmp_path)
    broken = check_links.broken_links(tmp_path, pages)
    assert broken == ["a.html: b.html#there", "a.html: c.html", "a.html: d.png"]
    assert check_links.external_links(pages) == ["https://example.org/e"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["index", "explain_prediction", "shrink_network"])
def test_programs_of_the_tasks(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (DOCS / f"{name}.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    found = {}
    exec(compile(code, f"{name}.md", "exec"), found)
    printed = capsys.readouterr().out
    assert "F2_" in printed or "network" in printed
    if name == "explain_prediction":
        told = found["unwrapper"].explain(found["X"][1600])
        assert str(told) in printed
        sums = told.to_frame().groupby("layer").contribution.sum()
        assert sums.to_numpy() == pytest.approx(told.value, abs=1e-4)
    if name == "shrink_network":
        rows = found["X"][1500:]
        agreement = found["network"].predict(rows) == found["unwrapper"].predict(rows)
        assert agreement.mean() > 0.99


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site with the text of the examples, which do not run."""
    for module in BUILDERS:
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-b", "html", "-n", "-W", "-q"]
    command += ["--keep-going", "-D", "plot_gallery=0", "-d", str(folder / "doctrees")]
    done = subprocess.run(
        [*command, str(DOCS), str(folder / "html")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.mark.slow
def test_the_site_has_no_broken_links(site):
    pages = check_links.read_site(site)
    assert len(pages) > len(api_pages.public_names())
    assert check_links.broken_links(site, pages) == []


@pytest.mark.slow
def test_every_public_name_has_a_page_of_its_own(site):
    for dotted in api_pages.public_names():
        path = site / "api" / f"{api_pages.page_name(dotted)}.html"
        assert dotted.rpartition(".")[2] in path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_links_of_estimators_lead_to_built_pages(site):
    for estimator in ESTIMATORS:
        name = estimator._get_doc_link().partition("/latest/")[2]
        page = (site / name).read_text(encoding="utf-8")
        # The representation links each parameter to the text of its entry.
        for parameter in estimator.get_params(deep=False):
            assert f"<strong>{parameter}</strong>" in page, (name, parameter)
