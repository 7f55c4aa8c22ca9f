"""What is written about the project is true as far as a machine can tell."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
import typer

from rissole.cli import app

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BRITISH = re.compile(
    r"neighbour|colour|behaviour|favourit|centre|grey|licence|catalogue"
    r"|(initial|normal|recogn|synthes|optim|memor|organ|summar|regular|general)is(e|ed|es|ing)\b",
    re.IGNORECASE,
)

PICTURES = re.compile(r"[\w+/=]{200,}")  # in base64, which may spell anything
STORED = {"rissole/app/web/shared/shelf.js": "favourites"}  # browsers keep things under this name


def command_lines() -> list[str]:
    """Every command of ours in the documents' blocks, those of `accelerate launch` as well."""
    blocks = (m for d in DOCUMENTS for m in re.findall(r"```bash\n(.*?)```", d.read_text(), re.S))
    lines = (line.partition("  #")[0] for block in blocks for line in block.splitlines())
    ours = re.compile(r"(?:^|-m )rissole (?:--plugin \w+ )?([a-z]+ .*)")
    found = (ours.search(line.strip()) for line in lines)
    return [match[1] for match in found if match]


@pytest.mark.parametrize("line", command_lines())
def test_every_command_that_is_told_of_exists(line):
    commands = typer.main.get_command(app).commands
    name, *words = shlex.split(line)
    assert name in commands, line
    known = {option for parameter in commands[name].params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known, line


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_spelling_is_american():
    patterns = ("*.py", "*.md", "*.js", "*.css", "*.html", "*.json", "*.toml", "*.yml", "Makefile")
    git = ("git", "-C", ROOT, "-c", "safe.directory=*", "ls-files", *patterns)
    listed = subprocess.run(git, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git checkout to list the project's files")
    wrong = []
    for name in listed.stdout.splitlines():
        path = ROOT / name
        if path.is_file() and path != Path(__file__):
            text = path.read_text(encoding="utf-8").replace(STORED.get(name, "\0"), "")
            text = PICTURES.sub("", text)
            lines = enumerate(text.splitlines(), 1)
            found = ((number, BRITISH.search(line)) for number, line in lines)
            wrong += [f"{name}:{n}: {match[0]}" for n, match in found if match]
    assert not wrong, "\n".join(wrong)
