"""The house rules of imports, held by parsing the code.

Floors are the packages, from the ground up. A module imports from floors below its own,
or from its own package; on the way no circle may arise, not even one that only a type
checker would walk. There is no list of exceptions.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import skfeat

SOURCE = Path(skfeat.__file__).parent

FLOORS = [
    "_version",
    "utils",
    "activations losses penalties chain initialization",
    "kernels metrics rows maps adapters datasets testing callbacks explorer",
    "network solvers capture",
    "inspection _base _fitting",
    "autoencoder connector",
    "controls",
    "unwrapper language interop",
    "sharing warm_up",
    "skfeat",  # the root itself, which imports its estimators on first use
]
FLOOR = {room: i for i, floor in enumerate(FLOORS) for room in floor.split()}

# Modules that may import a library, by the beginning of their names.
ONLY_IN = {
    "llvmlite": ["skfeat.kernels.simd."],
    "numba.core": ["skfeat.kernels.simd."],
    "numba.extending": ["skfeat.kernels.simd."],
    "numba": ["skfeat.kernels.simd.", "skfeat.kernels._compile"],
}

# What a process that runs a saved network may do without.
HEAVY = {"torch", "sklearn", "numba", "llvmlite", "pandas", "matplotlib", "onnx"}


@dataclass(frozen=True)
class Import:
    """One import statement: where it stands, what it names, and when it runs."""

    importer: str
    imported: str
    line: int
    at_import: bool


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


def room(module: str) -> str:
    """Return the package or top-level module that a module belongs to."""
    return module.split(".")[1] if "." in module else module


def statements(node: ast.AST, at_import: bool = True) -> Iterator[tuple]:
    """Yield all import statements below a node, and whether importing runs them."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, at_import
        elif isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from statements(child, at_import=False)
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for part in child.body:
                yield from statements(ast.Module([part], []), at_import=False)
            for part in child.orelse:
                yield from statements(ast.Module([part], []), at_import)
        else:
            yield from statements(child, at_import)


def imports_of(module: str) -> Iterator[Import]:
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    for node, at_import in statements(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            assert node.level == 0, f"{module}:{node.lineno}: write whole names"
            # `from package import module` names the module, not the package.
            whole = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name in MODULES else node.module for name in whole]
        for name in dict.fromkeys(names):
            yield Import(module, name, node.lineno, at_import)


ALL = [found for module in MODULES for found in imports_of(module)]
OWN = [found for found in ALL if found.imported.split(".")[0] == "skfeat"]


def told(found: list[Import]) -> list[str]:
    return [f"{i.importer}:{i.line} imports {i.imported}" for i in found]


def test_every_room_has_its_floor():
    rooms = {room(module) for module in MODULES}
    assert rooms == set(FLOOR)
    assert len(MODULES) > 100, "the rules would hold of nothing"


def test_private_modules_at_the_top_are_few():
    top = [m for m in MODULES if m.count(".") == 1 and m.split(".")[1][0] == "_"]
    assert len(top) <= 3, top


def test_imports_point_down():
    wrong = [
        found
        for found in OWN
        if room(found.importer) != room(found.imported)
        and FLOOR[room(found.importer)] <= FLOOR[room(found.imported)]
    ]
    assert not told(wrong)


def test_only_modules_that_exist_are_imported():
    assert not told([found for found in OWN if found.imported not in MODULES])


def test_no_circle():
    graph: dict[str, set[str]] = {module: set() for module in MODULES}
    for found in OWN:
        graph[found.importer].add(found.imported)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("library", ONLY_IN)
def test_compilers_stay_in_their_rooms(library):
    def may(module: str) -> bool:
        loops = library == "numba" and module.split(".")[-1].startswith("_loops_")
        return loops or any(module.startswith(start) for start in ONLY_IN[library])

    users = [
        found
        for found in ALL
        if found.imported == library or found.imported.startswith(library + ".")
    ]
    assert not told([found for found in users if not may(found.importer)])
    if library in ("llvmlite", "numba"):
        assert users, "the rule would hold of nothing"


def test_a_saved_network_needs_few_libraries():
    """All that importing the network runs, and what its functions import later of ours.

    Libraries that only some methods need may be imported by these.
    """
    waiting, seen, heavy = ["skfeat.network"], set(), []
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        parts = module.split(".")
        waiting += [".".join(parts[:n]) for n in range(1, len(parts))]
        for found in imports_of(module):
            if not found.at_import:
                continue
            if found.imported.split(".")[0] in HEAVY:
                heavy.append(found)
            elif found.imported in MODULES:
                waiting.append(found.imported)
    assert not told(heavy)
    assert {"skfeat.chain._steps", "skfeat.kernels.inference._encode"} <= seen


def test_page_of_the_design_lists_the_floors():
    """From the top down, as the page says; the two ends go without saying."""
    page = SOURCE.parent / "docs" / "design.md"
    rows = [row for row in page.read_text().splitlines() if row.startswith("| `")]
    listed = [set(re.findall(r"`(\w+)`", row.split("|")[1])) for row in rows]
    assert listed == [set(floor.split()) for floor in FLOORS[-2:0:-1]]
