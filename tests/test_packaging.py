"""What pyproject.toml says of the project agrees with the other files that say it."""

from __future__ import annotations

import re
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


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def packages(path: Path) -> list[str]:
    """The lines of a requirements file that name a package."""
    lines = (line.partition("#")[0].strip() for line in path.read_text().splitlines())
    return [line for line in lines if line and not line.startswith("-r")]


def test_requirements_repeat_the_projects_dependencies(project):
    assert packages(ROOT / "requirements.txt") == project["dependencies"]


def test_requirements_for_development_repeat_the_extra(project):
    assert packages(ROOT / "requirements-dev.txt") == project["optional-dependencies"]["dev"]
    assert "-r requirements.txt" in (ROOT / "requirements-dev.txt").read_text().splitlines()


def test_every_requirement_has_both_bounds(project):
    everything = sum(project["optional-dependencies"].values(), project["dependencies"])
    for requirement in map(Requirement, everything):
        assert {bound.operator for bound in requirement.specifier} == {">=", "<"}, requirement


def test_the_change_log_tells_of_this_version():
    entries = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert Version(rissole.__version__) == Version(entries[0])
