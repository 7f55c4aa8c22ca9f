import json
import re
import shutil

import numpy as np
import pytest
import torch
from conftest import picture
from safetensors.torch import load_file, save_file

from rissole.config import RissoleError
from rissole.data.images import to_tensor
from rissole.data.sources import open_source
from rissole.evaluation.neighbors import neighbor_quality
from rissole.evaluation.network import FeatureConfig, FeatureNetwork
from rissole.models.autoencoder import Codec, PixelSpace
from rissole.pipeline import RissolePipeline
from rissole.retrieval.building import build_index
from rissole.retrieval.encoders import ClipEncoder, CornerEncoder, LearnedConfig, LearnedEncoder
from rissole.storage.manifest import verify, write_manifest
from rissole.training.checkpoint import read_state
from rissole.training.hyperparameters import EncoderTraining
from rissole.training.neighbor_learning import train_encoder
from rissole.training.trainer import Budget


def test_text_needs_its_encoder_and_says_how_to_get_it(pipe):
    assert not pipe.retriever.text_encoder
    with pytest.raises(RissoleError, match="start with --clip MobileCLIP2-S0"):
        pipe.retrieve(text="a ginger cat")
    with pytest.raises(RissoleError, match="no CLIP model is loaded: start with --clip"):
        pipe.retrieve(item=0, encoder="clip")
    with pytest.raises(RissoleError, match="no encoder 'learned'"):
        pipe.retrieve(item=0, encoder="learned")
    with pytest.raises(RissoleError, match="must be one of"):
        pipe.retrieve(item=0, encoder="magic")


def test_words_find_the_pictures_whose_vectors_are_nearest(reading):
    assert reading.retriever.text_encoder
    clip = reading.retriever.encoders["clip"]
    hits = reading.retrieve(text="a ginger cat", k=4)
    with torch.inference_mode():
        pixels = to_tensor([reading.database.image(i) for i in range(24)])
        scores = (clip(pixels, None) @ clip.text(["a ginger cat"])[0]).numpy()
    assert hits.ids == np.argsort(-scores)[:4].tolist()
    assert hits.scores == pytest.approx(sorted(scores, reverse=True)[:4], abs=1e-4)
    assert hits.text == "a ginger cat"
    assert reading(hits, seed=0, num_inference_steps=1).recipe["neighbors"] == hits.ids
    with pytest.raises(RissoleError, match="empty"):
        reading.retrieve(text="  ")


def test_vectors_are_made_once_and_kept_with_their_encoder(
    reading, cache, tiny_bundle, clip_folder
):
    reading.retriever.prepare("clip")
    first = reading.retrieve(item=3, k=4, encoder="clip")
    kept = list(cache.glob("*-clip-tiny-clip-*/index.faiss"))
    assert len(kept) == 1
    changed = kept[0].stat().st_mtime_ns
    again = RissolePipeline.from_pretrained(tiny_bundle, clip=str(clip_folder), encoder="clip")
    assert again.retrieve(item=3, k=4).ids == first.ids
    assert kept[0].stat().st_mtime_ns == changed
    assert first.ids != reading.retrieve(item=3, k=4).ids  # the latents see it otherwise


def test_damaged_vectors_in_the_cache_are_made_anew(reading, cache, tiny_bundle, clip_folder):
    reading.retriever.prepare("clip")
    first = reading.retrieve(item=3, k=4, encoder="clip")
    (kept,) = cache.glob("*-clip-tiny-clip-*/index.faiss")
    assert re.fullmatch(r"[\w.-]+", kept.parent.name)  # a name on any file system
    for damaged in (kept, kept.with_name("manifest.json")):
        damaged.write_bytes(damaged.read_bytes()[:-2])
        again = RissolePipeline.from_pretrained(tiny_bundle, clip=str(clip_folder), encoder="clip")
        assert again.retrieve(item=3, k=4).ids == first.ids
        verify(kept.parent)


def test_vectors_of_any_encoder_have_a_folder_on_any_file_system(pipe, cache, monkeypatch):
    odd = CornerEncoder(4, 32)
    odd.name, odd.id = "clip", "clip-ViT-B-32:laion2b/../x?"
    monkeypatch.setenv("RISSOLE_CACHE", str(cache))
    before = set(cache.iterdir())
    assert len(pipe.database.index_for(odd)) == 24
    (made,) = set(cache.iterdir()) - before
    assert re.fullmatch(r"[\w.-]+", made.name)


def test_database_made_with_a_clip_model_carries_its_vectors_and_refuses_another(
    reading, clip_folder, cache, tmp_path
):
    for i in range(5):
        (tmp_path / "photos").mkdir(exist_ok=True)
        picture(40 + i).save(tmp_path / "photos" / f"{i}.png")
    kept = set(cache.iterdir())
    build_index(reading.indexing_parts(), open_source(tmp_path / "photos"), tmp_path / "db")
    hits = reading.with_database(tmp_path / "db").retrieve(text="a ginger cat", k=2)
    assert len(hits.ids) == 2
    assert set(cache.iterdir()) == kept  # nothing had to be made
    other = tmp_path / "other-clip"
    shutil.copytree(clip_folder, other)
    weights = load_file(other / "open_clip_model.safetensors")
    weights["logit_scale"] += 1
    save_file(weights, other / "open_clip_model.safetensors")
    reading.retriever.encoders["clip"] = ClipEncoder.load(str(other))
    with pytest.raises(RissoleError, match="indexed with the encoder clip-tiny-clip-.*index the"):
        reading.with_database(tmp_path / "db").retrieve(text="a ginger cat")


def test_missing_clip_model_is_one_line(tiny_bundle, tmp_path):
    for source in ("no-such-model", "MobileCLIP2-S0:no-such-weights", tmp_path):
        with pytest.raises(RissoleError) as error:
            ClipEncoder.load(str(source))
        assert len(str(error.value).splitlines()) == 1


def test_corner_encoder_sees_the_top_left_block_alone():
    corner = CornerEncoder(4, 32)
    latents = torch.randn(2, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    changed = latents.clone()
    changed[..., 16:, :] = 0
    changed[..., :, 16:] = 0
    assert torch.equal(corner(None, latents), corner(None, changed))
    assert corner(None, latents).shape == (2, corner.dim)
    assert corner(None, latents).norm(dim=1).tolist() == pytest.approx([1, 1])


def test_corner_encoder_searches_as_published(pipe, tmp_path, monkeypatch):
    monkeypatch.setenv("RISSOLE_CACHE", str(tmp_path))
    hits = pipe.retrieve(item=5, k=3, encoder="latent-corner")
    latents = pipe.database.latents(range(24))[..., :16, :16].flatten(1)
    scores = torch.nn.functional.cosine_similarity(latents, latents[5:6])
    scores[5] = -2
    assert hits.ids == scores.topk(3).indices.tolist()


def test_learned_encoder_trains_two_steps_and_comes_back(tmp_path):
    photos = torch.stack(
        [
            torch.from_numpy(np.array(picture(i).resize((32, 32)))).permute(2, 0, 1)
            for i in range(24)
        ]
    )
    settings, out = EncoderTraining(batch_size=8, width=32), tmp_path / "encoder"
    result = train_encoder(photos, out, Budget(steps=2), settings=settings, device="cpu", seed=3)
    assert 0 <= result["views_that_find_their_photo"] <= 1
    assert result["parameters"] <= 3_000_000
    encoder = LearnedEncoder.load(out)
    vectors = encoder(to_tensor(picture(0)))
    assert vectors.shape == (1, encoder.dim)
    assert vectors.norm().item() == pytest.approx(1)
    assert LearnedEncoder.load(out).id == encoder.id
    before = (out / "encoder.safetensors").read_bytes()
    train_encoder(photos, out, Budget(steps=1), settings=settings, device="cpu")
    assert (out / "encoder.safetensors").read_bytes() != before
    assert LearnedEncoder.load(out).id != encoder.id
    assert read_state(tmp_path / "state" / "encoder").steps == 3


def test_quality_of_neighbors_is_told_from_chance(pipe):
    photos = torch.stack(
        [torch.from_numpy(np.array(picture(i % 40))).permute(2, 0, 1) for i in range(60)]
    )  # the last 20 are there twice, so that some held-out photos have a twin
    judge = FeatureNetwork(FeatureConfig(resolution=32))
    encoders = [pipe.retriever.encoders["latent"], pipe.retriever.encoders["latent-corner"]]
    found = neighbor_quality(photos, pipe.codec, encoders, judge, k=3)
    assert set(found) == {"chance", "latent", "latent-corner"}
    assert found["latent"]["blocks"] < found["chance"]["blocks"]
    assert found["latent"]["features"] < found["chance"]["features"]


def test_of_few_photos_all_are_neighbors(pipe):
    """The stage `encoder` measures what it has trained, however few photos there are."""
    photos = torch.stack(
        [torch.from_numpy(np.array(picture(i))).permute(2, 0, 1) for i in range(6)]
    )
    judge, latent = FeatureNetwork(FeatureConfig(resolution=32)), pipe.retriever.encoders["latent"]
    found = neighbor_quality(photos, pipe.codec, [latent], judge)
    assert found["latent"]["features"] == pytest.approx(1)  # of five, all five are the nearest


def test_default_shape_of_the_learned_encoder_is_small_enough():
    assert sum(p.numel() for p in LearnedEncoder().parameters()) <= 3_000_000


def test_bundle_with_a_learned_encoder_uses_it_and_refuses_others_vectors(
    pipe, tmp_path, monkeypatch
):
    monkeypatch.setenv("RISSOLE_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "with-encoder"
    pipe.save_pretrained(folder)
    shape = LearnedConfig(image_size=32, channels=(16, 32), blocks=1, dim=256)
    LearnedEncoder(shape).eval().save(folder / "encoder")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "encoder": "learned"}))
    write_manifest(folder, "with-encoder")
    learned = RissolePipeline.from_pretrained(folder)
    assert learned.retriever.encoder.name == "learned"
    hits = learned.retrieve(item=0, k=3)
    with torch.inference_mode():
        pixels = to_tensor([learned.database.image(i) for i in range(24)])
        vectors = learned.retriever.encoder(pixels)
    assert hits.ids == (vectors @ vectors[0])[1:].topk(3).indices.add(1).tolist()
    # vectors of other weights under the same name
    info_path = folder / "database" / "database.json"
    info = json.loads(info_path.read_text())
    info["encoder"] = {"name": "learned", "id": "learned-0123456789ab"}
    info_path.write_text(json.dumps(info))
    write_manifest(folder, "with-encoder")
    with pytest.raises(RissoleError, match="indexed with the encoder learned-0123456789ab"):
        RissolePipeline.from_pretrained(folder).retrieve(item=0)


def test_pixel_space_is_saved_as_a_config_alone(tmp_path):
    photos = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    codec = Codec(PixelSpace.fit(photos))
    codec.save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    loaded = Codec.load(tmp_path)
    images = photos.float() / 127.5 - 1
    latents = loaded.encode(images)
    assert latents.std().item() == pytest.approx(1, abs=0.05)
    assert torch.allclose(loaded.decode(latents), images, atol=1e-5)
    assert (loaded.vae_scale_factor, loaded.latent_channels) == (1, 3)
    assert sum(p.numel() for p in loaded.parameters()) == 0
