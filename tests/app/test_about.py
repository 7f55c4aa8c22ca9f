"""Latents to look at, and the facts of a model card."""

import numpy as np
import torch

from rissole.app.about import card_facts, latent_picture
from rissole.app.assets import texts
from rissole.app.margins import footer


def test_latents_as_a_picture_use_the_whole_range(pipe):
    for latents in (pipe.retriever.encode(pipe.database.image(3)), torch.randn(1, 1, 8, 8)):
        picture = latent_picture(latents)
        assert picture.size == tuple(latents.shape[2:])
        pixels = np.asarray(picture)
        assert (pixels.min(), pixels.max()) == (0, 255)
    flat = np.asarray(latent_picture(torch.zeros(1, 4, 8, 8)))
    assert len(np.unique(flat)) == 1


def test_encode_gives_what_the_database_holds(pipe):
    own = pipe.database.latents([3])
    near = (pipe.retriever.encode(pipe.database.image(3)) - own).abs().mean()
    assert near < 0.3 * own.abs().mean()


def test_similarity_is_what_retrieve_says(pipe):
    hits = pipe.retrieve(image=pipe.database.image(5), k=4)
    np.testing.assert_allclose(
        pipe.retriever.similarity(pipe.database.image(5), hits.ids), hits.scores, 1e-5
    )
    hits = pipe.retrieve(item=5, k=4)
    np.testing.assert_allclose(pipe.retriever.similarity(5, hits.ids), hits.scores, 1e-5)


def test_facts_come_from_the_bundle_and_its_card(pipe, monkeypatch, tmp_path):
    facts = card_facts(pipe)
    assert (facts["name"], facts["pictures"], facts["label"]) == ("tiny", "24", "colors")
    assert (facts["bundle"], facts["database"]) == (pipe.fingerprint, pipe.database.fingerprint)
    assert "limits" not in facts  # the tiny bundle's card says nothing

    head, data = "---\nlicense: cc-by-4.0\n---\n# x\n\n", "## Data\n\nTwo *kinds*\nof things.\n\n"
    (tmp_path / "README.md").write_text(f"{head}{data}## Limits\nFew.\n")
    monkeypatch.setattr(pipe, "folder", tmp_path)
    facts = card_facts(pipe)
    assert facts["license"] == "CC BY 4.0"
    assert (facts["data"], facts["limits"]) == ("Two kinds of things.", "Few.")
    (tmp_path / "README.md").write_text("---\nlicense: cc0-1.0\n---\n")
    assert card_facts(pipe)["license"] == "CC0 1.0"


def test_footer_says_what_the_card_says(pipe, monkeypatch, tmp_path):
    words = texts()["page"]
    assert footer(pipe, words).startswith(f"<p>{words['footer']}</p>")  # no card, no claim
    (tmp_path / "README.md").write_text("---\nlicense: <b>mine</b>\n---\n# x\n")
    monkeypatch.setattr(pipe, "folder", tmp_path)
    assert "Weights: &lt;b&gt;mine&lt;/b&gt;." in footer(pipe, words)
    monkeypatch.setattr(pipe.database, "folder", tmp_path / "database")
    assert "gallery (colors): &lt;b&gt;mine" in footer(pipe, words)
