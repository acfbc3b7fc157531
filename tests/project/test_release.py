"""What a release is made of agrees with itself, and every file that says so parses."""

import ast
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import skfeat

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[2]

if not (ROOT / ".github").is_dir():
    pytest.skip("the tests run outside a checkout", allow_module_level=True)

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
RELEASE = skfeat.__version__.partition(".dev")[0]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
YAML = [
    *(path for path in sorted((ROOT / ".github").rglob("*.yml"))),
    *(ROOT / name for name in (".pre-commit-config.yaml", ".readthedocs.yaml")),
    ROOT / "recipe" / "recipe.yaml",
    ROOT / "CITATION.cff",
]
# All that a workflow may do, job by job; jobs that are not here may only read.
PERMISSIONS = {("release", "publish"): {"id-token": "write"}}
SITE = "https://skfeat.readthedocs.io"


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def jobs():
    for path in WORKFLOWS:
        for name, job in load(path)["jobs"].items():
            yield path.stem, name, job


def targets():
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    return set(re.findall(r"^([a-z-]+):", text, re.MULTILINE))


@pytest.mark.parametrize("path", YAML, ids=lambda path: path.name)
def test_yaml_parses(path):
    assert isinstance(load(path), dict)


def test_there_are_the_three_workflows():
    assert [path.stem for path in WORKFLOWS] == ["docs", "release", "tests"]


# One version, one licence, one address


def test_the_version_stands_in_one_file():
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["hatch"]["version"]["path"] == "skfeat/_version.py"
    assert "version" not in load(ROOT / "CITATION.cff"), "a second place to change"
    configuration = (ROOT / "docs" / "conf.py").read_text(encoding="utf-8")
    assert "version = release = __version__" in configuration


def test_the_changelog_begins_with_this_release():
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    latest = re.search(r"^## (\S+) \((.*)\)$", text, re.MULTILINE)
    assert latest[1] == RELEASE
    is_dev = ".dev" in skfeat.__version__
    assert (latest[2] == "unreleased") == is_dev


def test_citation_and_package_say_the_same():
    citation, project = load(ROOT / "CITATION.cff"), PROJECT["project"]
    assert citation["license"] == project["license"]
    assert [a["name"] for a in citation["authors"]] == [
        a["name"] for a in project["authors"]
    ]
    assert citation["url"] == project["urls"]["Documentation"] == SITE
    assert skfeat.SparseAutoencoder()._get_doc_link().startswith(SITE)


# Workflows


def steps():
    for workflow, name, job in jobs():
        for step in job["steps"]:
            yield workflow, name, step


def test_every_command_is_a_target_of_make():
    found = [step["run"] for _, _, step in steps() if "run" in step]
    assert len(found) >= 6
    for command in found:
        words = command.split()
        assert words[0] == "make", command
        assert words[1] == '"$TARGET"' or words[1] in targets(), command
    for name in load(ROOT / ".github/workflows/tests.yml")["jobs"]["fast"]["strategy"][
        "matrix"
    ]["target"]:
        assert name in targets()
    docs = load(ROOT / ".readthedocs.yaml")["build"]["commands"]
    assert docs[0].endswith("make docs")
    assert "docs" in targets()


def test_commands_take_no_text_of_strangers():
    """What an event brings reaches a shell by its environment, never by its text."""
    for _, _, step in steps():
        assert "${{" not in step.get("run", "")


def test_actions_are_pinned_to_a_major_version():
    uses = [step["uses"] for _, _, step in steps() if "uses" in step]
    assert uses
    for name in uses:
        assert re.fullmatch(r"(actions/[\w-]+@v\d+|pypa/[\w-]+@release/v\d+)", name)


def test_permissions_are_the_least():
    for path in WORKFLOWS:
        assert load(path)["permissions"] == {"contents": "read"}
    for workflow, name, job in jobs():
        assert job.get("permissions") == PERMISSIONS.get((workflow, name))
        assert job["timeout-minutes"] <= 180
    for _, _, step in steps():
        if step.get("uses", "").startswith("actions/checkout"):
            assert step["with"] == {"persist-credentials": False}


def test_tests_run_on_every_python_that_is_promised():
    matrix = load(ROOT / ".github/workflows/tests.yml")["jobs"]["fast"]["strategy"][
        "matrix"
    ]
    assert matrix["target"] == ["test-oldest", "fast", "test-newest"]
    start = "Programming Language :: Python :: 3."
    promised = [
        line.removeprefix("Programming Language :: Python :: ")
        for line in PROJECT["project"]["classifiers"]
        if line.startswith(start)
    ]
    assert matrix["python"] == promised
    assert PROJECT["project"]["requires-python"] == f">={promised[0]}"
    assert PROJECT["tool"]["mypy"]["python_version"] == promised[0]
    # Every Python meets the pinned and the newest versions.
    assert {one["target"] for one in matrix["exclude"]} == {"test-oldest"}


def test_only_a_tag_publishes():
    release = load(ROOT / ".github/workflows/release.yml")
    # YAML reads the key "on" as true.
    assert release[True] == {"push": {"tags": ["v*"]}}
    publish = release["jobs"]["publish"]
    assert publish["needs"] == "build"
    assert publish["environment"] == "release"
    last = publish["steps"][-1]
    assert last["uses"].startswith("pypa/gh-action-pypi-publish@")
    assert last["with"] == {"attestations": True}, "trusted publishing has no password"
    assert not any("run" in step for step in publish["steps"])
    commands = [step.get("run", "") for step in release["jobs"]["build"]["steps"]]
    assert any(line.startswith("make check-tag") for line in commands)
    assert "make check-dist" in commands


# What pre-commit and conda have


def test_hooks_run_the_pinned_ruff_and_what_lint_runs():
    pins = (ROOT / "constraints-dev.txt").read_text(encoding="utf-8")
    ruff = re.search(r"^ruff==(.*)$", pins, re.MULTILINE)[1]
    repos = load(ROOT / ".pre-commit-config.yaml")["repos"]
    (own,) = (r for r in repos if r["repo"].endswith("astral-sh/ruff-pre-commit"))
    assert own["rev"] == f"v{ruff}"
    hooks = {hook["id"] for repo in repos for hook in repo["hooks"]}
    assert {"ruff-check", "ruff-format", "mypy", "end-of-file-fixer"} <= hooks


def test_files_end_as_the_hooks_want_them():
    done = subprocess.run(
        ["git", "ls-files", "*.py", "*.md", "*.toml", "*.yml", "*.yaml", "*.txt"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("no git repository")
    paths = [ROOT / name for name in done.stdout.split()]
    assert len(paths) > 300
    texts = {path: path.read_bytes() for path in paths if path.is_file()}
    ends = [p.name for p, t in texts.items() if t and t != t.rstrip() + b"\n"]
    assert ends == []
    spaces = [p.name for p, t in texts.items() if re.search(rb"[ \t\r]\n", t)]
    assert spaces == []


def rendered_recipe():
    """Fill in the recipe's own values, as its builders do."""
    text = (ROOT / "recipe" / "recipe.yaml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)["context"] | {"PYTHON": "python"}
    filled = re.sub(r"\$\{\{ (\w+) \}\}", lambda name: values[name[1]], text)
    assert "${{" not in filled
    return yaml.safe_load(filled)


def test_conda_gets_what_pip_gets():
    recipe, project = rendered_recipe(), PROJECT["project"]
    assert recipe["package"] == {"name": "skfeat", "version": RELEASE}
    assert recipe["build"]["noarch"] == "python"
    named = {"torch": "pytorch"}
    wanted = {f"python {project['requires-python']}"}
    for line in project["dependencies"]:
        name, least = line.split(">=")
        wanted.add(f"{named.get(name, name)} >={least}")
    assert set(recipe["requirements"]["run"]) == wanted
    (backend,) = PROJECT["build-system"]["requires"]
    assert backend.replace(">=", " >=") in recipe["requirements"]["host"]
    about = recipe["about"]
    assert about["license"] == project["license"]
    assert about["summary"] == project["description"]
    assert about["homepage"] == SITE
    for module in recipe["tests"][0]["python"]["imports"]:
        assert (ROOT / module.replace(".", "/") / "__init__.py").is_file()


# The script


SCRIPT = ROOT / "scripts" / "release.py"


def test_a_tag_must_be_the_version(monkeypatch, capsys):
    script = runpy.run_path(str(SCRIPT))
    check_tag = script["check_tag"]
    assert script["version"]() == skfeat.__version__
    for tag in ("v9.9.9", f"v{skfeat.__version__}x", RELEASE, ""):
        with pytest.raises(SystemExit, match="The tag must be v and a released"):
            check_tag(tag)
    with monkeypatch.context() as patch:
        patch.setitem(check_tag.__globals__, "version", lambda: "9.9.9")
        with pytest.raises(SystemExit, match=r"The top of CHANGELOG\.md must be"):
            check_tag("v9.9.9")


def test_a_tag_that_fits(monkeypatch, tmp_path, capsys):
    check_tag = runpy.run_path(str(SCRIPT))["check_tag"]
    (tmp_path / "CHANGELOG.md").write_text("# Log\n\n## 2.0.1 (2030-01-31)\n\n- x\n")
    monkeypatch.setitem(check_tag.__globals__, "ROOT", tmp_path)
    monkeypatch.setitem(check_tag.__globals__, "version", lambda: "2.0.1")
    check_tag("v2.0.1")
    assert "agree" in capsys.readouterr().out
    monkeypatch.setitem(check_tag.__globals__, "version", lambda: "2.0.1.dev0")
    with pytest.raises(SystemExit):
        check_tag("v2.0.1.dev0")


def test_the_example_of_the_readme_is_a_program():
    text = runpy.run_path(str(SCRIPT))["example"]()
    ast.parse(text)
    assert "FeatureUnwrapper" in text


def test_wheel_and_sdist_have_the_same_package(tmp_path, capsys):
    pytest.importorskip("hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", tmp_path],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    wheel, sdist = runpy.run_path(str(SCRIPT))["contents"](tmp_path)
    assert wheel.name == f"skfeat-{skfeat.__version__}-py3-none-any.whl"
    assert sdist.name == f"skfeat-{skfeat.__version__}.tar.gz"
