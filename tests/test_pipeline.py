import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY, picture, seeded

from rissole import RissolePipeline
from rissole.config import ORDERS, RissoleError
from rissole.data.images import to_tensor
from rissole.models.denoiser import Denoiser
from rissole.sampling import Plan, canvas_noise, paint


def pixels(image):
    return np.asarray(image, np.int16)


def test_interface_of_retrieve(pipe):
    hits = pipe.retrieve(item=3, k=5)
    assert len(hits.ids) == len(hits.scores) == len(hits.images) == 5
    assert 3 not in hits.ids
    assert hits.scores == sorted(hits.scores, reverse=True)
    assert all(-1 <= s <= 1 for s in hits.scores)
    assert hits.images[0].size == (128, 128)


def test_a_picture_of_the_database_finds_itself_when_uploaded(pipe):
    hits = pipe.retrieve(image=picture(11), k=3)
    assert hits.ids[0] == 11
    assert hits.scores[0] > 0.95


def test_random_query_follows_its_seed(pipe):
    items = [pipe.retrieve(seed=s).item for s in (1, 1, 2, 3, 4)]
    assert items[0] == items[1]
    assert len(set(items)) > 2


@pytest.mark.parametrize("grid", [1, 2, 4])
@pytest.mark.parametrize("order", ORDERS)
def test_every_order_and_grid_paints_and_its_recipe_paints_again(pipe, order, grid):
    hits = pipe.retrieve(item=0, k=3)
    out = pipe(hits, order=order, grid=grid, num_inference_steps=2, seed=5)
    assert out.images[0].size == (128, 128)
    assert out.attention.shape == (grid, grid, 3)
    np.testing.assert_allclose(out.attention.sum(-1), 1, atol=1e-5)
    blocks = grid**2 if order == "sequential" else 1
    assert out.network_calls == 3 * blocks  # the first of two steps is not guided
    assert (pixels(pipe(**out.recipe).images[0]) == pixels(out.images[0])).all()


def test_generator_and_seed(pipe):
    hits = pipe.retrieve(item=0, k=2)

    def paint(**noise):
        return pipe(hits, num_inference_steps=1, **noise)

    generator = torch.Generator().manual_seed(4)
    first, second = paint(generator=generator), paint(generator=generator)
    assert first.recipe["seed"] == 4
    assert (pixels(first.images[0]) == pixels(paint(seed=4).images[0])).all()
    assert (pixels(first.images[0]) != pixels(second.images[0])).any()
    assert paint().recipe["seed"] != paint().recipe["seed"]
    with pytest.raises(RissoleError, match="generator or a seed"):
        paint(seed=1, generator=generator)


def test_global_seed_and_batch_have_no_effect(pipe):
    hits = pipe.retrieve(item=0, k=2)
    alone = pipe(hits, num_inference_steps=2, seed=8)
    torch.random.default_generator.manual_seed(99)
    both = pipe(hits, num_inference_steps=2, seed=7, num_images=2)
    assert (pixels(both.images[1]) == pixels(alone.images[0])).all()
    assert both.recipes[1] == alone.recipe


def test_order_of_neighbors_has_no_effect(pipe):
    ids = pipe.retrieve(item=0, k=4).ids
    first = pipe(neighbors=ids, num_inference_steps=2, seed=1)
    second = pipe(neighbors=ids[::-1], num_inference_steps=2, seed=1)
    assert (pixels(first.images[0]) == pixels(second.images[0])).all()
    np.testing.assert_array_equal(first.attention, second.attention[..., ::-1])


def test_neighbors_change_the_picture(pipe):
    first = pipe(neighbors=[1, 2], num_inference_steps=2, seed=1)
    second = pipe(neighbors=[3, 4], num_inference_steps=2, seed=1)
    assert (pixels(first.images[0]) != pixels(second.images[0])).any()


def test_attention_of_a_block_with_its_own_neighbors(pipe):
    out = pipe(neighbors=[1, 2], block_neighbors={(0, 1): [9]}, num_inference_steps=1, seed=0)
    assert out.neighbors == [1, 2, 9]
    np.testing.assert_allclose(out.attention[0, 1], [0, 0, 1], atol=1e-6)
    assert out.attention[2, 2, 2] == 0
    assert out.recipe["block_neighbors"] == {"0,1": [9]}


@pytest.mark.parametrize("order", ORDERS)
def test_repaint_keeps_the_other_blocks(pipe, order):
    hits = pipe.retrieve(item=0, k=3)
    out = pipe(hits, num_inference_steps=2, seed=1)
    again = pipe(
        hits, init=out, blocks=[(2, 3), (0, 0)], order=order, num_inference_steps=2, seed=2
    )
    changed = (out.latents != again.latents).any(1)[0]
    expected = torch.zeros(32, 32, dtype=torch.bool)
    expected[16:24, 24:] = expected[:8, :8] = True
    assert torch.equal(changed, expected)
    assert (pixels(pipe(**again.recipe).images[0]) == pixels(again.images[0])).all()


def test_stream_tells_what_happens(pipe):
    hits = pipe.retrieve(item=0, k=3)
    steps = list(pipe.stream(hits, order="sequential", grid=2, num_inference_steps=3, seed=0))
    assert [s.position for s in steps[::3]] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [s.step for s in steps] == [1, 2, 3] * 4
    assert [(s.index, s.num_blocks, s.total_steps) for s in steps[:4]] == [(1, 4, 3)] * 3 + [
        (2, 4, 3)
    ]
    assert steps[0].active.tolist() == [[True, False], [False, False]]
    assert steps[2].done.tolist() == [[True, False], [False, False]]
    gray = pixels(steps[0].preview)[64:, 64:]
    assert gray.std() == 0  # not begun
    assert pixels(steps[-1].preview)[64:, 64:].std() > 0
    assert all(s.output is None for s in steps[:-1])
    assert (pixels(steps[-1].output.images[0]) == pixels(steps[-1].preview)).all()


def test_previews_of_one_block_look_like_the_whole_picture_decoded(pipe):
    hits = pipe.retrieve(item=0, k=3)
    steps = list(pipe.stream(hits, order="sequential", num_inference_steps=3, seed=0))
    for step in (steps[16], steps[28]):  # second steps of two blocks, first ones in view
        partly = pixels(steps[steps.index(step) - 1].preview), pixels(step.preview)
        whole = pixels(pipe.decode(step._step.estimate)[0])
        row, col = step.position
        block = (slice(32 * row, 32 * row + 32), slice(32 * col, 32 * col + 32))
        inside = (slice(8, 24), slice(8, 24))
        assert np.abs(partly[1][block][inside] - whole[block][inside]).mean() < 3
        assert (partly[0][block] != partly[1][block]).any()


def test_a_closed_stream_holds_no_lock(pipe):
    hits = pipe.retrieve(item=0, k=3)
    stream = pipe.stream(hits, seed=0)
    next(stream)
    stream.close()
    assert pipe(hits, num_inference_steps=1, seed=0).images


def test_threads_get_their_own_pictures(pipe):
    hits = [pipe.retrieve(item=i, k=2) for i in range(4)]
    wanted = [pipe(h, num_inference_steps=3, seed=i).images[0] for i, h in enumerate(hits)]
    got = [None] * 4

    def work(i):
        got[i] = pipe(hits[i], num_inference_steps=3, seed=i).images[0]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert all((pixels(a) == pixels(b)).all() for a, b in zip(wanted, got, strict=True))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"neighbors": [24]}, "picture 24 is not in the database, which holds 0 to 23"),
        ({"neighbors": [1], "num_inference_steps": -1}, "num_inference_steps"),
        ({"neighbors": [1], "grid": 3}, "grid"),
        ({"neighbors": [1], "bundle": "f" * 12}, "other weights"),
        ({"neighbors": [1], "database": "a\nb" * 99}, "another database"),
        ({}, "either hits or neighbors"),
        ({"neighbors": [1], "blocks": [(0, 0)]}, "belong together"),
        ({"neighbors": [1], "blocks": [(0, 0)], "init": "cat.png"}, "an earlier output"),
    ],
)
def test_bad_settings_are_one_clear_line(pipe, settings, words):
    with pytest.raises(RissoleError, match=words) as caught:
        pipe(**settings)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 150


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"k": 0}, "k must be"),
        ({"k": 17}, "k must be"),
        ({"item": 24}, "item must be"),
        ({"item": True}, "item must be"),
        ({"seed": -1}, "seed must be"),
        ({"text": "a tabby"}, "no text encoder"),
        ({"item": 1, "text": "a"}, "one query"),
    ],
)
def test_bad_queries_are_one_clear_line(pipe, query, words):
    with pytest.raises(RissoleError, match=words):
        pipe.retrieve(**query)


def test_save_pretrained_round_trip(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "copy")
    copy = RissolePipeline.from_pretrained(tmp_path / "copy")
    assert copy.fingerprint == pipe.fingerprint
    assert copy.database.fingerprint == pipe.database.fingerprint
    hits = pipe.retrieve(item=2, k=2)
    first, second = (p(hits, num_inference_steps=2, seed=3).images[0] for p in (pipe, copy))
    assert (pixels(first) == pixels(second)).all()


def test_codec_owns_the_scale(pipe):
    images = torch.cat([to_tensor(picture(i)) for i in range(24)])
    latents = pipe.codec.encode(images)
    assert abs(latents.mean()) < 0.1
    assert abs(latents.std() - 1) < 0.1
    assert pipe.codec.vae_scale_factor == 4


def test_attention_of_the_cells_makes_that_of_the_blocks(pipe):
    *_, last = pipe.stream(neighbors=[7, 3, 5], grid=2, num_inference_steps=2, seed=0)
    cells = last.attention_map
    assert cells.shape == (3, 16, 16)
    assert (cells >= 0).all()
    assert (cells.sum(0) <= 1 + 1e-3).all()
    blocks = cells.reshape(3, 2, 8, 2, 8).mean((2, 4)).transpose(1, 2, 0)
    assert blocks / blocks.sum(-1, keepdims=True) == pytest.approx(last.attention, abs=1e-4)


@pytest.mark.parametrize("order", ["parallel", "sequential", "independent"])
def test_what_repainted_blocks_held_before_has_no_effect(pipe, order):
    settings = {"neighbors": [3, 17, 5], "num_inference_steps": 2, "order": order}
    first = pipe(**settings, seed=1)
    once = pipe(**settings, seed=2, init=first, blocks=[(1, 1)])
    on_once = pipe(**settings, seed=3, init=once, blocks=[(1, 1), (1, 2)])
    on_first = pipe(**settings, seed=3, init=first, blocks=[(1, 1), (1, 2)])
    assert (once.latents != first.latents).any()
    assert (on_once.latents == on_first.latents).all()


def test_to_moves_the_networks_and_sets_the_precision(tiny_bundle):
    pipe = RissolePipeline.from_pretrained(tiny_bundle, device="cpu", torch_dtype=torch.float32)
    assert pipe.to("cpu") is pipe
    assert (pipe.device.type, pipe.torch_dtype) == ("cpu", torch.float32)
    assert pipe.to(torch_dtype=torch.bfloat16).torch_dtype == torch.bfloat16
    assert next(pipe.codec.parameters()).dtype == torch.float32
    assert pipe(neighbors=[1], num_inference_steps=1, seed=0).images
    with pytest.raises(RissoleError, match="device 'none' cannot be used here"):
        pipe.to("none")
    with pytest.raises(RissoleError, match="cannot be used here"):
        pipe.to(["cpu"])
    for strange in ("float16", torch.int8):
        with pytest.raises(RissoleError, match="torch_dtype must be such as torch.float32, not "):
            pipe.to(torch_dtype=strange)
    assert pipe.torch_dtype == torch.bfloat16


def test_a_network_that_follows_when_told_is_told_of_blocks_with_neighbors_of_their_own(pipe):
    network = seeded(Denoiser(replace(TINY, flow_map=True, strength=True)), 3)
    parts = pipe.codec, network, pipe.scheduler, pipe.embedding, pipe.database, pipe.config
    told, own = RissolePipeline(*parts), {(1, 2): [9]}

    def estimate(strength: float) -> torch.Tensor:
        """What the network paints that is told so, by hand."""
        ids = [1, 2, 9]
        with torch.inference_mode():
            features = network.encode_neighbors(pipe.database.latents(ids)[None])
        visible = torch.tensor([True, True, False]).repeat(1, 4, 4, 1)
        visible[0, 1, 2] = torch.tensor([False, False, True])
        asked = torch.zeros(1, 4, 4)
        asked[0, 1, 2] = strength
        plan = Plan(canvas_noise(5, network.latent_shape)[None], features, visible, 1.0, 1,
                    strength=asked)  # fmt: skip
        return list(paint(network, told.scheduler, plan))[-1].estimate

    settings = {"neighbors": [1, 2], "num_inference_steps": 1, "guidance_scale": 1.0, "seed": 5}
    painted = told(**settings, block_neighbors=own)
    assert torch.equal(painted.latents, estimate(1.0))
    assert painted.network_calls == 1
    assert not torch.equal(painted.latents, estimate(0.0))
    half, strong = (told(**settings, block_neighbors=own, strength=s) for s in (0.5, 3.0))
    assert (half.network_calls, strong.network_calls) == (2, 2)
    plain, none = told(**settings), told(**settings, block_neighbors=own, strength=0)
    assert torch.allclose(plain.latents, none.latents, atol=1e-4)  # another sum of the same
