"""What stands above and below the page."""

from __future__ import annotations

import html

from rissole.app.about import card_facts
from rissole.app.parts import paragraph
from rissole.app.studio import Studio
from rissole.pipeline import RissolePipeline
from rissole.retrieval.encoders import text_advice


def header(studio: Studio, worlds: str = "") -> str:
    """The name, what it is, and the list of keys.

    Args:
        studio: of the page.
        worlds: the menu of other pages.
    """
    words = studio.words["page"]
    keys = f'<button type="button" data-keys aria-keyshortcuts="?">{words["keys"]}</button>'
    offline = f'<p id="rs-offline" role="alert" hidden>{words["offline"]}</p>'
    skip = f'<a class="rs-skip" href="#rs-canvas">{words["skip"]}</a>'
    lead = f"<h1>{words['title']}</h1>{keys}<p>{words['lead']}</p><ul><li>{studio.size}</li></ul>"
    return skip + lead + worlds + offline + _key_list(studio.words["keys"])


def _key_list(said: dict) -> str:
    rows = "".join(f"<dt><kbd>{key}</kbd></dt><dd>{does}</dd>" for key, does in said["list"])
    close = f'<button type="button" data-keys>{said["close"]}</button>'
    title = f'<h2 id="rs-keylist-title">{said["title"]}</h2>'
    body = f"<div>{title}<dl>{rows}</dl>{close}</div>"
    return f'<dialog id="rs-keylist" aria-labelledby="rs-keylist-title">{body}</dialog>'


def footer(pipe: RissolePipeline, words: dict, reads: bool = False) -> str:
    """Rights, as the model card has them, and how to get what is not there.

    Args:
        pipe: whose.
        words: the texts of the page.
        reads: whether words are understood, or will be once a model is fetched.
    """
    facts = {name: html.escape(text) for name, text in card_facts(pipe).items()}
    own = pipe.database.folder.parent == pipe.folder and "label" in facts
    known = ("footerGallery" if own else "footerWeights") if "license" in facts else "footer"
    rights = paragraph(words[known].format(**facts))
    if reads or pipe.retriever.text_encoder:
        return rights
    how = words["noText"].format(how=text_advice())
    return f'{rights}<p id="rs-no-text">{how}</p>'
