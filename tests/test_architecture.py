"""The house keeps its shape: imports go down, nothing is too long, every name means one thing."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# A module may import from its own line and from those above it, wherever in the file it does so.
LAYERS = (
    "config registry",
    "blocks noise",
    "storage.files storage.schema storage.database_facts",
    "storage.manifest storage.staging storage.card",
    "storage.hub storage.resolve storage.push storage.space",
    "data",
    "models",
    "retrieval.embedding retrieval.encoders retrieval.index_files retrieval.index"
    " retrieval.contents retrieval.database retrieval.encoding",
    "retrieval",  # building, retriever and what they consist of
    "sampling cost",
    "outputs",
    "loading request",
    "pipeline runs",
    "evaluation",
    "training",
    "experiments",
    "app export cli __init__ __main__",
)
LEVELS = {f"rissole.{name}": n for n, line in enumerate(LAYERS) for name in line.split()}
LONGEST_FILE, LONGEST_FUNCTION = 400, 50
CALLED_ONCE = 0.12  # share of the functions that are private helpers of one caller

Function = ast.FunctionDef | ast.AsyncFunctionDef


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 2 else parts)


TREES = {
    name_of(path): ast.parse(path.read_text(encoding="utf-8"))
    for path in sorted((ROOT / "rissole").rglob("*.py"))
}
FUNCTIONS = [
    (module, node)
    for module, tree in TREES.items()
    for node in ast.walk(tree)
    if isinstance(node, Function)
]


def imported(tree: ast.Module) -> Iterator[str]:
    """Modules of the package that a module imports: at its top, in functions, for types alone."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"relative import in line {node.lineno}"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.partition(".")[0] == "rissole":
                found = next(filter(TREES.__contains__, (name, name.rpartition(".")[0])), None)
                yield found or "rissole.__init__"


def level(module: str) -> int:
    """The line of `LAYERS` that names the module or the folder it lies in."""
    while module not in LEVELS:
        module, _, last = module.rpartition(".")
        assert last, "LAYERS has a place for every module"
    return LEVELS[module]


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    return {module: set(imported(tree)) for module, tree in TREES.items()}


def test_every_folder_is_a_package():
    folders = {path.parent for path in (ROOT / "rissole").rglob("*.py")}
    assert [str(f) for f in folders if not (f / "__init__.py").is_file()] == []


def test_imports_go_down(graph):
    upward = [
        f"{module} imports {other}"
        for module, others in graph.items()
        for other in others
        if level(other) > level(module)
    ]
    assert not upward, "\n".join(upward)


def test_no_circles(graph):
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_files_are_short():
    files = [*(ROOT / "rissole").rglob("*.py"), *(ROOT / "rissole").rglob("*.js"), ROOT / "app.py"]
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in files}
    long = {str(f.relative_to(ROOT)): n for f, n in lengths.items() if n >= LONGEST_FILE}
    assert long == {}


def test_functions_are_short():
    lengths = {f"{m}.{f.name}": f.end_lineno - f.lineno + 1 for m, f in FUNCTIONS}
    assert {name: n for name, n in lengths.items() if n >= LONGEST_FUNCTION} == {}


def test_few_helpers_have_one_caller():
    """A reader jumps to a helper and back: that pays where it is used twice or explains a lot."""
    uses = Counter()
    for node in (node for tree in TREES.values() for node in ast.walk(tree)):
        if isinstance(node, ast.Name):
            uses[node.id] += 1
        elif isinstance(node, ast.Attribute):
            uses[node.attr] += 1
    private = [f.name for _, f in FUNCTIONS if f.name[0] == "_" and f.name[:2] != "__"]
    once = [name for name in private if uses[name] <= 1]
    assert len(once) <= CALLED_ONCE * len(FUNCTIONS), f"{len(once)} of {len(FUNCTIONS)}"


def test_no_file_name_is_used_twice():
    paths = (path for path in (ROOT / "rissole").rglob("*.py") if not path.name.startswith("__"))
    names = Counter(path.name for path in paths)
    assert [name for name, count in names.items() if count > 1] == []
