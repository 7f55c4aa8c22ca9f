"""Python still says what the file holds that JavaScript is tested with."""

import json

import pytest
from both_languages import FILE, made


def agree(found, known):
    """The same structure, numbers to the digits that the file has."""
    if isinstance(known, dict):
        assert list(found) == list(known)
        found, known = list(found.values()), list(known.values())
    if isinstance(known, list):
        assert len(found) == len(known)
        for one, other in zip(found, known, strict=True):
            agree(one, other)
    else:
        assert found == (pytest.approx(known, abs=2e-5) if isinstance(known, float) else known)


def test_the_golden_file_is_what_python_computes():
    agree(json.loads(json.dumps(made())), json.loads(FILE.read_text()))
