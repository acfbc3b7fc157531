"""Checks before a release: of the distributions, and of the tag.

python scripts/release.py check-dist dist   # wheel and sdist, in a bare environment
python scripts/release.py check-tag v0.1.0  # the tag names the version to release
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
import time
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]

# What the example must not need.
_EXTRAS = {"numba", "matplotlib", "pandas", "safetensors", "rich"}


def version() -> str:
    """Return the version, from the one place that has it."""
    text = (ROOT / "skfeat" / "_version.py").read_text(encoding="utf-8")
    return re.search(r'__version__ = "(.*)"', text)[1]


def check_tag(tag: str) -> None:
    """Raise SystemExit unless the tag is that of the version and the changelog."""
    if tag != f"v{version()}" or ".dev" in tag:
        raise SystemExit(
            f"The tag must be v and a released version. Got {tag!r}, while "
            f"skfeat/_version.py has {version()!r}."
        )
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    latest = re.search(r"^## (.*)$", changelog, re.MULTILINE)[1]
    if not re.fullmatch(rf"{re.escape(version())} \(\d{{4}}-\d\d-\d\d\)", latest):
        raise SystemExit(
            f"The top of CHANGELOG.md must be '{version()} (year-month-day)'. Got "
            f"{latest!r} instead."
        )
    print(f"{tag}: skfeat/_version.py and CHANGELOG.md agree")


def example() -> str:
    """Return the program of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.search(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)[1]


def contents(folder: Path) -> tuple[Path, Path]:
    """Return the wheel and the sdist, which must have the same package."""
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {n for n in archive.namelist() if n.startswith("skfeat/")}
    with tarfile.open(sdist) as archive:
        names = [name.partition("/")[2] for name in archive.getnames()]
    in_sdist = {n for n in names if n.startswith("skfeat/")}
    tracked = {
        path.relative_to(ROOT).as_posix() for path in ROOT.glob("skfeat/**/*.py")
    }
    for name, found in (("wheel", in_wheel), ("sdist", in_sdist)):
        if missing := tracked - found:
            raise SystemExit(f"The {name} lacks {sorted(missing)[0]}.")
    if not {"README.md", "LICENSE", "CHANGELOG.md", "pyproject.toml"} <= set(names):
        raise SystemExit("The sdist lacks a file that says what it is.")
    for path in (wheel, sdist):
        print(f"{path.name}: {path.stat().st_size / 1024:,.0f} KiB")
    return wheel, sdist


def check_dist(folder: Path) -> None:
    """Install each distribution alone, and run the README's example outside."""
    pins = (ROOT / "constraints-dev.txt").read_text(encoding="utf-8").splitlines()
    (torch,) = (line for line in pins if line.startswith("torch=="))
    distributions = contents(folder)
    with tempfile.TemporaryDirectory() as name:
        bare = Path(name)
        venv.create(bare / "venv", with_pip=True)
        python = bare / "venv" / "bin" / "python"
        pip = [python, "-m", "pip", "--disable-pip-version-check"]
        (bare / "example.py").write_text(example(), encoding="utf-8")
        for number, path in enumerate(distributions):
            start = time.perf_counter()
            again = ["--force-reinstall", "--no-deps"] if number else []
            run([*pip, "install", *again, path.resolve(), torch], bare)
            installed = time.perf_counter()
            run([*pip, "check"], bare)
            found = run([*pip, "list", "--format", "freeze"], bare)
            names = {line.partition("==")[0].lower() for line in found.splitlines()}
            if "scikit-learn" not in names:
                raise SystemExit(f"The environment cannot be read:\n{found}")
            if present := _EXTRAS & names:
                raise SystemExit(f"{path.name} brings {sorted(present)[0]}.")
            printed = run([python, "-I", "example.py"], bare)
            if "F2_134 = " not in printed or "network" not in printed:
                raise SystemExit(f"The README's example printed:\n{printed}")
            home = run(
                [python, "-I", "-c", "import skfeat; print(skfeat.__file__)"], bare
            )
            if not home.startswith(str(bare.resolve())):
                raise SystemExit(f"skfeat came from {home.strip()}.")
            print(
                f"{path.name}: installed in {installed - start:.0f} s beside "
                f"{len(names) - 2} packages; the README's example ran in "
                f"{time.perf_counter() - installed:.0f} s"
            )


def run(command: list, folder: Path) -> str:
    """Run a command in a folder and return what it prints."""
    done = subprocess.run(
        list(map(str, command)), cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    commands = {"check-dist": lambda to: check_dist(Path(to)), "check-tag": check_tag}
    if len(sys.argv) != 3 or sys.argv[1] not in commands:
        raise SystemExit(__doc__)
    commands[sys.argv[1]](sys.argv[2])
