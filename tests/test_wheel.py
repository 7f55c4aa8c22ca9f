"""The wheel in a fresh virtual environment: same bytes as the source tree, anywhere, offline."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

import rissole

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
# Runs when Python starts: whoever tries to reach another machine fails at once.
OFFLINE = """
import socket

def refuse(*args, **options):
    raise OSError("this test has no network")

socket.getaddrinfo = socket.socket.connect = socket.socket.connect_ex = refuse
"""


def run(*command: str | Path, cwd: Path) -> str:
    """What a program prints; it sees nothing of this project in its environment."""
    ours = ("PYTHONPATH", "RISSOLE_", "HF_", "VIRTUAL_ENV")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    environment["HOME"] = environment["RISSOLE_CACHE"] = str(cwd)
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet")
    run(*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT, cwd=folder)
    return next(folder.glob("rissole-*.whl"))


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory) -> Path:
    """Programs of a fresh environment that holds the wheel; its requirements are borrowed."""
    folder = tmp_path_factory.mktemp("fresh")
    venv.create(folder)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")
    run(*pip, "--python", programs / "python", "install", "--no-deps", "--no-index", wheel,
        cwd=folder)  # fmt: skip
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(programs / "python", "-c", where, cwd=folder).strip())
    (packages / "offline.py").write_text(OFFLINE)
    (packages / "offline.pth").write_text("import offline\n")
    borrowed = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (packages / "borrowed.pth").write_text("\n".join(sorted(borrowed)) + "\n")
    return programs


@pytest.fixture
def empty(tmp_path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_the_wheel_holds_the_package_and_the_default_bundle(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    files = (p for p in (ROOT / "rissole").rglob("*") if p.is_file() and p.suffix != ".pyc")
    missing = {p.relative_to(ROOT).as_posix() for p in files} - names
    assert not missing
    bundle = ROOT / "checkpoints" / "cats-128"
    kept = (p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file())
    assert {f"rissole/_bundles/cats-128/{name}" for name in kept} <= names
    strangers = {name.split("/")[0] for name in names} - {"rissole"}
    assert all(name.endswith(".dist-info") for name in strangers)


def test_the_command_paints_the_same_bytes_as_the_source_tree(programs, empty):
    paint = ("sample", "--seed", "0", "--out")
    run(programs / "rissole", *paint, "cat.png", cwd=empty)
    run(sys.executable, "-m", "rissole", *paint, empty / "tree.png", cwd=ROOT)
    assert (empty / "cat.png").read_bytes() == (empty / "tree.png").read_bytes()
    assert {path.name for path in empty.iterdir()} == {"cat.png", "tree.png"}


def test_the_package_is_that_of_the_wheel_and_has_its_version(programs, empty):
    tell = "import rissole, importlib.metadata as m; print(rissole.__file__, m.version('rissole'))"
    file, version = run(programs / "python", "-c", tell, cwd=empty).split()
    assert Path(file).is_relative_to(programs.parent)
    assert version == rissole.__version__
