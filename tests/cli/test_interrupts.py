"""Ctrl-C while everything is still being loaded."""

import os
import subprocess
import sys

import pytest
from loopback_hub import ROOT

# Python imports it by itself: whoever looks for a module of that name is interrupted there
STOPPING = """
import os, signal, sys

class Stopping:
    def find_spec(self, name, path=None, target=None):
        if name == os.environ["STOP_AT"]:
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # what a shell's background jobs lack
sys.meta_path.insert(0, Stopping())
"""


@pytest.mark.parametrize(
    ("command", "module"),
    [("sample", "rissole.cli"), ("sample", "typer"), ("benchmark", "torch"), ("sheet", "numpy"),
     ("index photos --out db", "PIL"), ("train --stage features --data photos", "pydantic"),
     ("evaluate photos --reference photos --measure seams", "torch"),
     ("compare photos --data photos", "rissole.data.photos"),
     ("push cats-128 a/b --dry-run", "safetensors"), ("export --web out", "rissole.export"),
     ("app", "rissole.app.zerogpu"), ("app --port 0", "torch")],
)  # fmt: skip
def test_ctrl_c_while_loading_is_one_line(tmp_path, command, module):
    (tmp_path / "sitecustomize.py").write_text(STOPPING)
    (tmp_path / "photos").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "rissole", *command.split()], cwd=tmp_path, capture_output=True,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}", "STOP_AT": module}, text=True,
    )  # fmt: skip
    assert (done.returncode, done.stderr.strip()) == (130, "interrupted")
