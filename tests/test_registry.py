import subprocess
import sys

import pytest
from loopback_hub import ROOT

from rissole.config import RissoleError
from rissole.registry import GROUP, Registry


class Stone:
    name = "stone"


def test_entries_are_found_by_name_in_the_order_they_came():
    things: Registry[type] = Registry("thing")
    assert things.register(Stone) is Stone

    @things.register
    class Bread:
        name = "bread"

    assert things.names() == ["stone", "bread"]
    assert list(things) == [Stone, Bread]
    assert things["bread"] is Bread
    assert "stone" in things
    assert "water" not in things
    with pytest.raises(RissoleError, match="^thing must be one of stone, bread, not 'water'$"):
        things["water"]


ASKED = """
import sys
from rissole.config import RissoleError
from rissole.registry import Registry
things = Registry("thing")
sys.modules["things_of_this_test"] = things
try: print(things.names())
except RissoleError as error: print(error)
"""


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import sys; sys.modules['things_of_this_test'].register(type('E', (), {'name': 'egg'}))",
         "['egg']"),
        ("import nowhere_at_all", "the extension toy does not load: ModuleNotFoundError: No module "
                                  "named 'nowhere_at_all' (toy_extension.py, line 1)"),
    ],
)  # fmt: skip
def test_installed_packages_extend_without_being_imported_by_hand(tmp_path, code, told):
    (tmp_path / "toy_extension.py").write_text(code)
    info = tmp_path / "toy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\ntoy = toy_extension\n")
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}){ASKED}"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == told, done.stderr
