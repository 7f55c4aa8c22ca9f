"""The house keeps its shape: imports go down, nothing is too long, every name means one thing."""

from __future__ import annotations

import ast
import re
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


# who writes files elsewhere, and why what a kill or a full disk leaves there is harmless
WRITERS = {
    "rissole.export.onnx_graphs": "torch writes a graph into the stage of a page",
    "rissole.experiments.retrieval_benchmark": "entries that are gone when it has measured",
    "rissole.retrieval.columns": "rows are added, and count once they were noted",
    "rissole.retrieval.index_files": "faiss writes, and what it wrote is read back",
}
WRITING: dict[str, str] = {"write_index": "faiss", "dump": "json", "save_file": "safetensors"}
WRITING |= dict.fromkeys(("copy", "copy2", "copyfile", "copytree", "move"), "shutil")
WRITING |= dict.fromkeys(("savez", "savetxt"), "np")
ANYBODYS = {"write_text", "write_bytes", "touch", "tofile", "writestr"}


def writes(call: ast.Call) -> bool:
    """Whether a call writes a file that is not in a stage, as its names say."""
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    texts = [node.value for node in ast.walk(call) if isinstance(node, ast.Constant)]
    texts = [text for text in texts if isinstance(text, str)]
    module = getattr(getattr(call.func, "value", None), "id", "")
    if name == "open":
        found = any(set(text) & set("wax+") and set(text) <= set("rwaxbt+") for text in texts)
    elif name == "save":  # a picture, by the name of its file
        joined = any(isinstance(node, ast.Div) for node in ast.walk(call))
        called = {getattr(getattr(node, "func", None), "id", "") for node in ast.walk(call)}
        found = (joined and any("." in text for text in texts)) or "str" in called
    else:
        found = name in ANYBODYS or WRITING.get(name) == module
    names = [getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(call)]
    return found and not any("stage" in name or name == "writing" for name in names)


def test_files_are_written_by_one_helper_or_into_a_stage():
    found = {
        f"{module}:{node.lineno}"
        for module, tree in TREES.items()
        if not module.startswith("rissole.storage.") and module not in WRITERS
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and writes(node)
    }
    assert found == set()
    for module in WRITERS:  # and nobody stands in the list without need
        assert any(writes(node) for node in ast.walk(TREES[module]) if isinstance(node, ast.Call))


def test_texts_are_read_and_written_alike_on_every_machine():
    """Without a word on it they are in whatever encoding the machine is set to."""
    found = {
        f"{module}:{node.lineno}"
        for module, tree in (TREES | {"app": ast.parse((ROOT / "app.py").read_bytes())}).items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", "") in ("read_text", "write_text")
        and "encoding" not in {keyword.arg for keyword in node.keywords}
    }
    assert found == set()


def test_scripts_make_no_markup_of_texts():
    """Names and messages may come from anybody: they become text, and never elements."""
    markup = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextual")
    found = {
        f"{path.name}: {line.strip()}"
        for path in (ROOT / "rissole").rglob("*.js")
        for line in path.read_text(encoding="utf-8").splitlines()
        if markup.search(line)
    }
    assert {line.partition(": ")[0] for line in found} == {"host.js"}
    assert len(found) == 1  # which fills in files of the page itself


def test_no_file_name_is_used_twice():
    paths = (path for path in (ROOT / "rissole").rglob("*.py") if not path.name.startswith("__"))
    names = Counter(path.name for path in paths)
    assert [name for name, count in names.items() if count > 1] == []
