"""The file that holds JavaScript to Python's texts is what Python writes today."""

import json

from written_alike import FILE, made


def test_the_file_is_of_today():
    known = json.loads(FILE.read_text())
    assert json.loads(json.dumps(made())) == known
    assert known["named"]["roses".title()] == ["rose"] and known["named"]["red rose"] == []
