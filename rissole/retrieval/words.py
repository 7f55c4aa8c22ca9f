"""Words that name classes: such a query needs no model that reads."""

import re
from collections.abc import Sequence

ARTICLES = {"a", "an", "the"}


def named_classes(text: str, classes: Sequence[str]) -> list[str]:
    """The classes that words name, in singular or plural, whatever their case.

    "Roses" and "a rose" name the class "rose"; "lily", where no class is called just that, names
    "fire lily" and "tiger lily" alike. Words that say more than a name, such as "red rose", name
    none.
    """
    asked = _words(text)
    names = {name: _words(name) for name in classes}
    exact = [name for name, words in names.items() if words == asked]
    return exact or [name for name, words in names.items() if asked and asked <= words]


def _words(text: str) -> frozenset[str]:
    found = re.findall(r"\w+", text.lower().replace("_", " ").replace("'s", ""))
    return frozenset(_singular(word) for word in found if word not in ARTICLES)


def _singular(word: str) -> str:
    """One form for singular and plural; it need not be a word, classes are brought to it too."""
    if word.endswith("ies"):
        return f"{word[:-3]}y"
    if word.endswith("ss"):
        return word
    # daisy and daisies, dress and dresses, sheath and sheaths
    for end, kept in (("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh"), ("s", "")):
        if word.endswith(end):
            return word.removesuffix(end) + kept
    return word
