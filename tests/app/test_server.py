"""The app as its visitors use it: a real server, a real client and a real browser."""

import struct
import zlib
from pathlib import Path

import gradio as gr
import httpx
import numpy as np
import pytest
from calling import result_of
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image
from visiting import pixels

from rissole.app.api import Api
from rissole.app.assets import texts
from rissole.app.databases import Sources
from rissole.app.server import Throttle, build, serve
from rissole.app.studio import Studio
from rissole.config import MAX_REPAINTS, RissoleError
from rissole.data.images import read_recipe
from rissole.retrieval.contents import build_database
from rissole.storage.manifest import latent_fingerprint, read_manifest, write_manifest


@pytest.fixture(scope="module")
def client(address):
    return Client(address, verbose=False)


# ---- the endpoints -------------------------------------------------------------------------------


def test_retrieve_by_item_leaves_the_item_out(client):
    found = client.predict(item=3, k=5, api_name="/retrieve")
    assert found["item"] == 3
    assert len(set(found["ids"])) == 5
    assert 3 not in found["ids"]
    assert found["scores"] == sorted(found["scores"], reverse=True)


def test_retrieve_by_picture_finds_the_picture(client, pipe, tmp_path):
    file = tmp_path / "query.png"
    pipe.database.image(4).save(file)
    found = client.predict(image=handle_file(file), k=3, api_name="/retrieve")
    assert found["ids"][0] == 4
    assert found["scores"][0] > 0.9


def test_generate_returns_a_png_that_holds_its_recipe(client, pipe):
    path, recipe = client.predict(
        neighbors=[3, 17, 5], grid=2, steps=2, seed=7, order="sequential", api_name="/generate"
    )
    with Image.open(path) as image:
        assert (image.format, image.size) == ("PNG", (pipe.image_size, pipe.image_size))
    assert read_recipe(path) == recipe
    assert (recipe["neighbors"], recipe["grid"], recipe["seed"]) == ([3, 17, 5], 2, 7)


def test_generate_same_seed_same_file_other_seed_other_file(client):
    paint = {"item": 2, "k": 4, "steps": 2, "api_name": "/generate"}
    files = [Path(client.predict(seed=seed, **paint)[0]).read_bytes() for seed in (1, 1, 2)]
    assert files[0] == files[1] != files[2]


def test_generate_without_arguments_takes_what_is_shipped(client, pipe):
    _, recipe = client.predict(api_name="/generate")
    shipped = {name: recipe[name] for name in pipe.defaults if name != "k"}
    assert shipped == {name: value for name, value in pipe.defaults.items() if name != "k"}
    assert len(recipe["neighbors"]) == pipe.defaults["k"]


def test_generate_describes_its_parameters(client):
    described = client.view_api(return_format="dict")["named_endpoints"]["/generate"]
    names = [parameter["parameter_name"] for parameter in described["parameters"]]
    assert names[:3] == ["neighbors", "item", "image"]
    assert {"k", "order", "grid", "steps", "guidance_scale", "seed"} <= set(names)
    described = {p["parameter_name"]: p["python_type"] for p in described["parameters"]}
    assert "how many neighbors" in described["k"]["description"]
    assert "Literal['parallel', 'sequential', 'independent']" in described["order"]["type"]


@pytest.fixture(scope="module")
def painted(client):
    """A picture to repaint: (PNG file, recipe)."""
    return client.predict(
        neighbors=[3, 17, 5], grid=4, steps=2, seed=7, order="sequential", api_name="/generate"
    )


def test_regenerate_block_changes_that_block_only(client, pipe, painted):
    file, recipe = painted
    arguments = {"row": 3, "col": 2, "neighbors": [9, 4], "seed": 11, "steps": 3}
    path, new = client.predict(recipe=recipe, api_name="/regenerate_block", **arguments)
    assert read_recipe(path) == new
    assert (new["init"], new["blocks"], new["neighbors"]) == (recipe, [[3, 2]], [9, 4])
    assert (new["order"], new["grid"], new["guidance_scale"], new["seed"]) == (
        *(recipe["order"], recipe["grid"], recipe["guidance_scale"]),
        11,
    )

    before, after = pipe(**recipe), pipe(**new)
    changed = (before.latents != after.latents).any(1)[0].numpy()
    assert changed[24:, 16:24].all()
    assert changed.sum() == 8 * 8
    assert (pixels(path) == np.asarray(after.images[0])).all()
    moved = (pixels(path) != pixels(file)).any(2)
    assert moved[96:, 64:96].mean() > 0.9
    assert not moved[:64].any()


def test_regenerate_block_takes_the_png_as_well(client, painted):
    file, recipe = painted
    arguments = {"row": 0, "col": 1, "seed": 3, "api_name": "/regenerate_block"}
    by_file = client.predict(image=handle_file(file), **arguments)
    by_recipe = client.predict(recipe=recipe, **arguments)
    assert by_file[1] == by_recipe[1]
    assert Path(by_file[0]).read_bytes() == Path(by_recipe[0]).read_bytes()
    assert by_file[1]["neighbors"] == recipe["neighbors"]


def test_trying_a_block_again_does_not_grow_the_recipe(client, pipe, painted):
    file, recipe = painted
    again = {"row": 1, "col": 1, "api_name": "/regenerate_block"}
    first, once = client.predict(recipe=recipe, seed=1, **again)
    _, twice = client.predict(recipe=once, seed=2, **again)
    assert twice["init"] == recipe
    # what was in the block before had no effect
    nested = pipe(**{**twice, "init": once})
    assert (np.asarray(nested.images[0]) == np.asarray(pipe(**twice).images[0])).all()
    path, back = client.predict(recipe=twice, seed=1, **again)
    assert (back, Path(path).read_bytes()) == (once, Path(first).read_bytes())


def test_regenerate_block_keeps_the_neighbors_of_the_block(client, painted):
    mixed = {**painted[1], "block_neighbors": {"2,0": [8]}}
    for row, ids in ((2, [8]), (3, painted[1]["neighbors"])):
        _, new = client.predict(recipe=mixed, row=row, col=0, api_name="/regenerate_block")
        assert new["neighbors"] == ids


# ---- other databases ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def moods(pipe, databases):
    """The tiny pipeline with the other database."""
    return pipe.with_database(databases / "moods")


def test_retrieve_in_another_database_and_class_with_another_encoder(client, moods):
    names = "moods", "moods (10)", moods.database.fingerprint
    found = [client.predict(item=4, k=3, database=n, api_name="/retrieve") for n in names]
    hits = moods.retrieve(item=4, k=3)
    assert found == [{"item": 4, "ids": hits.ids, "scores": hits.scores}] * 3
    asked = {"item": 4, "k": 4, "database": "moods", "label": "wild"}
    for encoder in ("latent", "latent-corner"):
        hits = moods.retrieve(item=4, k=4, label="wild", encoder=encoder)
        found = client.predict(**asked, encoder=encoder, api_name="/retrieve")
        assert (found["ids"], found["scores"]) == (hits.ids, hits.scores)
    drawn = client.predict(database="moods", label="calm", seed=3, api_name="/retrieve")
    assert drawn["item"] == moods.retrieve(label="calm", seed=3).item


def test_a_recipe_carries_its_database(client, moods, pipe):
    arguments = {"item": 1, "k": 2, "steps": 1, "seed": 0, "database": "moods", "label": "calm"}
    path, recipe = client.predict(**arguments, api_name="/generate")
    assert recipe["database"] == moods.database.fingerprint
    assert set(moods.database.labels(recipe["neighbors"])) == {"calm"}
    assert (pixels(path) == np.asarray(moods(**recipe).images[0])).all()
    path, new = client.predict(recipe=recipe, row=0, col=1, seed=5, api_name="/regenerate_block")
    assert new["database"] == moods.database.fingerprint
    assert (pixels(path) == np.asarray(moods(**new).images[0])).all()
    by_file = client.predict(
        image=handle_file(path), row=1, col=1, seed=5, api_name="/regenerate_block"
    )
    assert by_file[1]["init"] == new
    elsewhere = {**recipe, "database": "0123456789ab"}
    line = refusal(client, recipe=elsewhere, row=0, col=0, api_name="/regenerate_block")
    assert_one_clear_line(line, f"another database (0123456789ab, here {pipe.database.fingerprint}")
    mixed = {**recipe, "database": pipe.database.fingerprint, "init": recipe, "blocks": [[0, 0]]}
    line = refusal(client, recipe=mixed, row=1, col=0, api_name="/regenerate_block")
    assert_one_clear_line(line, "another database")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"database": "mood"}, "No database is called 'mood' here. There are: colors, moods"),
        ({"database": "../moods"}, "No database is called '../moods'"),
        ({"database": 3}, "No database is called 3"),
        ({"database": ["moods"]}, "No database is called ['moods']"),
        ({"database": ""}, "No database is called ''"),
        ({"label": "wild"}, "no class 'wild' (it has: none)"),
        ({"database": "moods", "label": "blue"}, "no class 'blue' (it has: calm, wild)"),
        ({"database": "moods", "label": ["wild"]}, "no class ['wild']"),
        ({"encoder": "magic"}, "encoder must be one of latent, latent-corner"),
        ({"encoder": ["latent"]}, "encoder must be one of"),
        ({"encoder": "clip"}, "no CLIP model is loaded"),
        ({"encoder": "learned"}, "no encoder 'learned'"),
        ({"database": "moods", "item": 12}, "item must be from 0 to 9"),
    ],
)
@pytest.mark.parametrize("endpoint", ["/retrieve", "/generate"])
def test_what_is_not_there_is_refused(client, endpoint, arguments, said):
    assert_one_clear_line(refusal(client, api_name=endpoint, **arguments), said)


def test_neighbors_that_are_given_are_not_searched(client):
    for more in ({"label": "wild"}, {"encoder": "latent"}):
        given = {"neighbors": [1], "database": "moods", **more}
        assert_one_clear_line(refusal(client, api_name="/generate", **given), "for a search")


def test_a_database_of_one_picture_guides_by_it(pipe, databases, tmp_path):
    images, classes = [pipe.database.image(i) for i in (1, 2)], ["one", "other"]
    build_database(tmp_path / "two", images, pipe.codec, pipe.embedding, "two", classes=classes)
    made_for = latent_fingerprint(read_manifest(pipe.folder))
    write_manifest(tmp_path / "two", "two", encoder=made_for)
    api = Api(Studio(Sources(pipe, [tmp_path]), texts()))
    _, recipe = result_of(api.generate(database="two", label="other", steps=1))
    assert recipe["neighbors"] == [1]


def test_databases_of_one_name_are_told_apart_by_fingerprint(pipe, databases, tmp_path):
    for n, count in enumerate((3, 4)):
        images = [pipe.database.image(i) for i in range(count)]
        build_database(tmp_path / f"{n}", images, pipe.codec, pipe.embedding, "moods")
        made_for = latent_fingerprint(read_manifest(pipe.folder))
        write_manifest(tmp_path / f"{n}", f"{n}", encoder=made_for)
    sources = Sources(pipe, [tmp_path])
    api = Api(Studio(sources, texts()))
    keys = [entry.key for entry in sources.entries()[1:]]
    with pytest.raises(gr.Error, match=f"fingerprint of one: {keys[0]}, {keys[1]}"):
        result_of(api.retrieve(database="moods"))
    assert max(result_of(api.retrieve(database=keys[1], item=0, k=16))["ids"]) == 3
    assert len(result_of(api.retrieve(database="moods (3)", item=0, k=16))["ids"]) == 2


def test_a_visitors_own_photos_are_for_their_page_only(pipe):
    sources = Sources(pipe)
    own = pipe.with_pictures([pipe.database.image(3), pipe.database.image(4)], "mine")
    key = sources.keep(own, "a visitor")
    api = Api(Studio(sources, texts()))
    for name in (key, "mine", own.database.fingerprint):
        with pytest.raises(gr.Error, match="No database is called"):
            result_of(api.retrieve(database=name))
    with pytest.raises(gr.Error, match="another database"):
        result_of(api.regenerate_block(0, 0, own(neighbors=[0], num_inference_steps=1).recipe))


def test_words_are_an_argument_and_a_reader_understands_any(client, reading):
    for name in ("/retrieve", "/generate"):
        shown = client.view_api(return_format="dict")["named_endpoints"][name]["parameters"]
        names = [part["parameter_name"] for part in shown]
        at = names.index("seed")
        assert names[at : at + 6] == ["seed", "database", "label", "encoder", "text", "bundle"]
        assert "as the page lists it" in shown[at + 1]["python_type"]["description"]
    with pytest.raises(AppError, match="no text encoder is loaded"):
        client.predict(text="a cat", api_name="/retrieve")
    app, url, _ = serve(reading, "127.0.0.1", prevent_thread_lock=True)
    try:
        asking = Client(url, verbose=False)
        found = asking.predict(text=" a cat ", k=3, api_name="/retrieve")
        assert found["ids"] == reading.retrieve(text="a cat", k=3).ids
        assert found["item"] is None
        _, recipe = asking.predict(text="a cat", k=3, steps=1, api_name="/generate")
        assert recipe["neighbors"] == found["ids"]
        for arguments, said in (
            ({"text": "a cat", "item": 1}, "not several"),
            ({"text": "  "}, "what you are looking for"),
            ({"text": 3}, "what you are looking for"),
            ({"text": "a cat", "encoder": "latent"}, "the encoder latent cannot read text"),
        ):
            assert_one_clear_line(refusal(asking, api_name="/retrieve", **arguments), said)
    finally:
        app.get_blocks().close()


def test_programs_that_know_fewer_arguments_go_on(address, pipe):
    for sent in ([None, 3, 2, None], [None, 3, 2]):
        assert f'"ids": {pipe.retrieve(item=3, k=2).ids}' in call(address, "retrieve", sent)
    assert '"item": 3' in call(address, "retrieve", [None, 3])
    sent = [[1, 2], None, None, None, "parallel", 1, 1, 1.0, 7]
    assert '"seed": 7' in call(address, "generate", sent)
    assert "event: error" in call(address, "regenerate_block", [0])


# ---- bad input: one clear line each, and the server lives ----------------------------------------


def huge_png() -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    parts = chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


BAD_FILES = {
    "notes.txt": (b"not a picture", "not a picture"),
    "empty.png": (b"", "empty.png is empty"),
    "huge.png": (huge_png(), "huge.png is too large"),
}


def refusal(client: Client, **arguments) -> str:
    with pytest.raises(AppError) as caught:
        client.predict(**arguments)
    return str(caught.value)


def assert_one_clear_line(line: str, said: str) -> None:
    assert said in line
    assert "\n" not in line
    assert not any(word in line for word in ("Traceback", "Error", "/tmp", ".py", "show_error"))


@pytest.mark.parametrize("name", BAD_FILES)
@pytest.mark.parametrize("endpoint", ["/retrieve", "/generate"])
def test_a_bad_file_is_refused(client, tmp_path, name, endpoint):
    content, said = BAD_FILES[name]
    file = tmp_path / name
    file.write_bytes(content)
    line = refusal(client, image=handle_file(file), api_name=endpoint)
    assert_one_clear_line(line, said)
    assert client.predict(item=0, k=1, api_name="/retrieve")["item"] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"k": 0}, "k must be"),
        ({"k": 17}, "k must be"),
        ({"k": 1.5}, "k must be"),
        ({"item": -1}, "-1"),
        ({"item": 10**6}, "1000000"),
        ({"item": True}, "True"),
        ({"item": "../0"}, "../0"),
        ({"seed": -1}, "seed must be"),
        ({"image": "/etc/hostname"}, "Choose one picture file"),
    ],
)
def test_retrieve_refuses(client, arguments, said):
    assert_one_clear_line(refusal(client, api_name="/retrieve", **arguments), said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"k": 0}, "k must be"),
        ({"steps": -1}, "num_inference_steps must be"),
        ({"steps": 10**9}, "num_inference_steps must be"),
        ({"grid": 3}, "grid must be"),
        ({"order": "backwards"}, "order must be"),
        ({"guidance_scale": 21}, "guidance_scale must be"),
        ({"seed": 2**64}, "seed must be"),
        ({"seed": True}, "seed must be"),
        ({"neighbors": []}, "neighbors must"),
        ({"neighbors": "3"}, "neighbors must"),
        ({"neighbors": [10**6]}, "1000000"),
        ({"neighbors": [1], "item": 2}, "not several"),
    ],
)
def test_generate_refuses(client, arguments, said):
    assert_one_clear_line(refusal(client, api_name="/generate", **arguments), said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"row": 4}, "row and column must be from 0 to 3"),
        ({"col": -1}, "row and column must be from 0 to 3"),
        ({"row": "a"}, "row and column must be a whole number"),
        ({"col": [1]}, "row and column must be a whole number"),
        ({"row": None}, "row and column must be a whole number"),
        ({"neighbors": []}, "neighbors must"),
        ({"neighbors": [10**6]}, "1000000"),
        ({"steps": 0}, "num_inference_steps must be"),
        ({"guidance_scale": -1}, "guidance_scale must be"),
        ({"seed": 2**64}, "seed must be"),
        ({"recipe": None}, "recipe or image"),
        ({"recipe": {}}, "neighbors must"),
        ({"recipe": [1]}, "must be a mapping"),
        ({"recipe": {"neighbors": [1], "hits": 3}}, "unknown setting: hits"),
        ({"recipe": {"neighbors": [1], "bundle": "abc"}}, "other weights"),
        ({"recipe": {"neighbors": [1], "init": {}}}, "belong together"),
    ],
)
def test_regenerate_block_refuses(client, painted, arguments, said):
    arguments = {"recipe": painted[1], "row": 0, "col": 0, **arguments}
    line = refusal(client, api_name="/regenerate_block", **arguments)
    assert_one_clear_line(line, said)


def test_regenerate_block_refuses_a_recipe_nested_without_end(client, painted):
    recipe = painted[1]
    for n in range(4 * MAX_REPAINTS):
        recipe = {**painted[1], "blocks": [[n % 4, 0]], "init": recipe}
    line = refusal(client, recipe=recipe, row=0, col=1, api_name="/regenerate_block")
    assert_one_clear_line(line, f"repainted {MAX_REPAINTS} times")


def test_regenerate_block_refuses_a_png_without_a_recipe(client, pipe, tmp_path):
    file = tmp_path / "plain.png"
    pipe.database.image(4).save(file)
    line = refusal(client, image=handle_file(file), row=0, col=0, api_name="/regenerate_block")
    assert_one_clear_line(line, "carries no recipe")


def test_a_file_of_another_server_is_not_fetched(address):
    picture = {"path": "http://127.0.0.1:9/cat.png", "meta": {"_type": "gradio.FileData"}}
    assert "not fetched" in call(address, "retrieve", [picture, None, 3, None])
    for route in ("gradio_api/file=http://127.0.0.1:9/", "file=HTTPS://127.0.0.1:9/"):
        assert httpx.get(address + route).status_code == 404


def test_a_file_of_this_server_is_not_read(address):
    file = {"path": str(Path(__file__).resolve()), "meta": {"_type": "gradio.FileData"}}
    answer = call(address, "retrieve", [file, None, 3, None])
    assert "event: error" in answer
    assert Path(__file__).name not in answer


def call(address: str, endpoint: str, data: list) -> str:
    """One call as any program could send it: no client that checks or uploads first."""
    place = f"{address}gradio_api/call/{endpoint}"
    event = httpx.post(place, json={"data": data}).json()["event_id"]
    return httpx.get(f"{place}/{event}", timeout=180).text


def test_thumbnails_have_addresses(address, pipe):
    place = f"{address}thumbs/{pipe.database.fingerprint}"
    answer = httpx.get(f"{place}/2.webp")
    assert "immutable" in answer.headers["cache-control"]
    assert answer.content == pipe.database.webp(2)
    for path in (f"{len(pipe.database)}.webp", "-1.webp", "..%2f1.webp"):
        assert httpx.get(f"{place}/{path}").status_code == 404
    assert httpx.get(f"{address}thumbs/other/2.webp").status_code == 404
    assert httpx.get(f"{place}/classes.bin").content == b"\xff\xff" * len(pipe.database)


def test_throttle_always_sends_the_last_step_of_a_block():
    throttle = Throttle(rate=1e-6)
    assert [throttle.due(step, 4) for step in (1, 2, 3, 4, 1, 4)] == [1, 0, 0, 1, 0, 1]


@pytest.mark.parametrize("understood", [True, False])
def test_words_are_asked_for_where_they_are_understood(pipe, monkeypatch, understood):
    monkeypatch.setattr(type(pipe.retriever), "text_encoder", understood)
    parts = build(Sources(pipe)).get_config_file()["components"]
    assert ("rs-text" in [part["props"].get("elem_id") for part in parts]) == understood


def test_names_of_classes_are_words_and_others_are_told_apart(pipe, databases):
    moods = Sources(pipe.with_database(databases / "moods"))
    parts = build(moods).get_config_file()["components"]
    box = next(part["props"] for part in parts if part["props"].get("elem_id") == "rs-text")
    assert box["placeholder"] == "calm, wild, press Enter"
    studio = Studio(moods, texts())
    assert studio.query_words(" Wild ") == "Wild"
    with pytest.raises(RissoleError, match="called 'stormy'. Names that are known: calm, wild"):
        studio.query_words("stormy")


def test_an_unknown_bundle_ends_with_one_line_and_code_2(capsys):
    import app

    assert app.main(["--bundle", "no-such-bundle"]) == 2
    said = capsys.readouterr().err
    assert "no-such-bundle" in said
    assert said.startswith("error: ")
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("host", "port", "said"),
    [(None, None, "in use"), (None, 99_999, "0 to 65535"), ("256.1.1.1", None, "256.1.1.1")],
)
def test_an_address_that_cannot_be_had_is_refused(pipe, address, host, port, said):
    taken = httpx.URL(address).port
    with pytest.raises(RissoleError, match=said):
        serve(pipe, host, port if host or port else taken, prevent_thread_lock=True)
