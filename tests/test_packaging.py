"""The project's files agree with each other: packages, version, change log, words."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import rissole

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
BRITISH = re.compile(
    r"neighbour|colour|behaviour|favourit|\bcentre|\bgrey|licence|catalogue"
    r"|(initial|normal|recogn|synthes|optim|memor|organ|summar|regular|general)is(e|ed|es|ing)\b",
    re.IGNORECASE,
)


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def packages(path: Path) -> list[str]:
    """The lines of a requirements file that name a package."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("-r")]


def tracked(*patterns: str) -> list[Path]:
    """Text files of the project; in a copy without git there is nothing to go by."""
    found = subprocess.run(
        ["git", "-C", ROOT, "-c", "safe.directory=*", "ls-files", *patterns],
        capture_output=True,
        text=True,
    )
    if found.returncode:
        pytest.skip("no git checkout")
    return [ROOT / name for name in found.stdout.splitlines() if (ROOT / name).is_file()]


def test_requirements_repeat_the_projects_dependencies(project):
    assert packages(ROOT / "requirements.txt") == project["dependencies"]


def test_requirements_for_development_repeat_the_extra(project):
    assert packages(ROOT / "requirements-dev.txt") == project["optional-dependencies"]["dev"]
    assert "-r requirements.txt" in (ROOT / "requirements-dev.txt").read_text().splitlines()


def test_every_requirement_has_both_bounds(project):
    everything = project["dependencies"] + project["optional-dependencies"]["dev"]
    for requirement in map(Requirement, everything):
        assert {bound.operator for bound in requirement.specifier} == {">=", "<"}, requirement


def test_the_change_log_tells_of_this_version():
    entries = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert Version(rissole.__version__) == Version(entries[0])


def test_spelling_is_american():
    wrong = []
    for path in tracked("*.py", "*.md", "*.js", "*.css", "*.html", "*.toml", "*.yml", "Makefile"):
        if path != Path(__file__):
            lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
            wrong += [f"{path.relative_to(ROOT)}:{n}: {m[0]}" for n, line in lines
                      if (m := BRITISH.search(line))]  # fmt: skip
    assert not wrong, "\n".join(wrong)


def test_links_between_documents_lead_somewhere():
    for path in tracked("*.md"):
        for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.relative_to(ROOT)}: {target}"
