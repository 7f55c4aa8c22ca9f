"""Exported graphs compute what torch computes, with weights out of the bundle's own files."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import TINY, seeded
from diffusers import AutoencoderKL, VQModel
from safetensors.torch import save_file
from torch import nn

from rissole.export.linking import Weights, link
from rissole.export.onnx_graphs import Call, Graph, graphs_of, record
from rissole.export.static_page import WEIGHTS, write_scripts
from rissole.models.autoencoder import Codec
from rissole.models.denoiser import Denoiser
from rissole.noise import normal
from rissole.storage.manifest import PAGE_SUFFIXES, write_manifest

onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
LENGTHS = {"k": 5, "n": 2}


def evaluated(path, inputs):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    wanted = {entry.name for entry in session.get_inputs()}
    given = {name: tensor.numpy() for name, tensor in inputs.items() if name in wanted}
    return [torch.from_numpy(found) for found in session.run(None, given)]


def as_a_page_reads(path):
    """Turns a safetensors file of half precision into its numbers, as `networks.js` does."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    path.write_bytes(np.frombuffer(raw[start:], np.float16).astype(np.float32).tobytes())


def exported(graph, path, weights):
    record(graph, path)
    return link(path, weights)


def of_other_lengths(graph):
    """Inputs of other lengths than those that the graph was recorded with, of noise where it can
    be."""
    inputs = {}
    for number, (name, example) in enumerate(graph.inputs.items()):
        axes = graph.dynamic.get(name, {})
        shape = [LENGTHS.get(axes.get(axis, ""), size) for axis, size in enumerate(example.shape)]
        drawn = normal(number, shape)
        if example.dtype == torch.bool:
            inputs[name] = drawn > -0.5
        elif example.dtype == torch.long:
            inputs[name] = torch.arange(shape[0]) * 3
        elif name in ("levels", "ends", "level", "strength"):
            inputs[name] = drawn.abs().clamp(max=1)
        elif name in ("present", "context"):
            inputs[name] = torch.ones(shape)
        else:
            inputs[name] = drawn
    return inputs


def test_weights_lie_in_the_safetensors_file_once(tmp_path):
    layers = seeded(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 8)), 0)
    layers.half().float()
    save_file({k: v.half() for k, v in layers.state_dict().items()}, tmp_path / "w.safetensors")
    inputs = {"x": normal(0, (3, 8))}
    graph = Graph(Call(layers, layers=layers), inputs, ("y",))
    remaining = exported(
        graph, tmp_path / "g.onnx", Weights({"w.safetensors": tmp_path / "w.safetensors"})
    )
    as_a_page_reads(tmp_path / "w.safetensors")
    (found,) = evaluated(tmp_path / "g.onnx", inputs)
    torch.testing.assert_close(found, layers(inputs["x"]).detach(), rtol=1e-5, atol=1e-5)
    assert remaining <= 4 * (16 + 8)  # the biases are too small to link
    (tmp_path / "w.safetensors").unlink()
    with pytest.raises(Exception, match="w.safetensors"):
        evaluated(tmp_path / "g.onnx", inputs)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [{}, {"flow_map": True, "strength": True}], ids=["usual", "few"])
def test_every_graph_computes_what_torch_does_at_any_length(pipe, tmp_path, kind):
    denoiser = seeded(Denoiser(replace(TINY, **kind)), 3)
    denoiser.save(tmp_path / "denoiser")
    denoiser = Denoiser.load(tmp_path / "denoiser")
    files = {}
    for name, source in list(WEIGHTS.items())[:2]:
        folder = tmp_path if name.startswith("denoiser") else pipe.folder
        files[name] = shutil.copy(folder / source, tmp_path / name)
    weights = Weights({name: tmp_path / name for name in files})
    for name in files:
        as_a_page_reads(tmp_path / name)
    for name, graph in graphs_of(pipe.codec, denoiser, pipe.retriever.encoder).items():
        remaining = exported(graph, tmp_path / f"{name}.onnx", weights)
        inputs = of_other_lengths(graph)
        with torch.no_grad():
            known = graph.network(*inputs.values())
        for one, other in zip(
            evaluated(tmp_path / f"{name}.onnx", inputs),
            known if isinstance(known, tuple) else (known,),
            strict=True,
        ):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4, msg=name)
        assert remaining < 300_000, name


TWO_STAGES = {"block_out_channels": (16, 16), "norm_num_groups": 8, "latent_channels": 4}
TWO_STAGES |= {"down_block_types": ("DownEncoderBlock2D",) * 2}
TWO_STAGES |= {"up_block_types": ("UpDecoderBlock2D",) * 2}


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [lambda: AutoencoderKL(**TWO_STAGES), lambda: VQModel(**TWO_STAGES, num_vq_embeddings=8)],
    ids=["kl", "vq"],
)
def test_other_autoencoders_compute_what_torch_does(make, pipe, tmp_path):
    codec = Codec(seeded(make(), 0))
    graphs = graphs_of(codec, seeded(Denoiser(TINY), 1), pipe.retriever.encoder)
    for name in ("encoder", "decoder"):
        record(graphs[name], tmp_path / f"{name}.onnx")
        inputs = of_other_lengths(graphs[name])
        (found,) = evaluated(tmp_path / f"{name}.onnx", inputs)
        known = graphs[name].network(*inputs.values())
        torch.testing.assert_close(found, known, rtol=1e-3, atol=1e-4, msg=name)


def test_a_page_may_hold_every_file_of_the_scripts(tmp_path):
    write_scripts(tmp_path)
    write_manifest(tmp_path, "page", PAGE_SUFFIXES)


def test_facts_are_json(pipe):
    from rissole.export.static_page import facts_of

    facts = json.loads(json.dumps(facts_of(pipe)))
    assert facts["shape"] == {
        "channels": 4, "size": 32, "halo": 4, "listeners": 1, "flow_map": False, "strength": False
    }  # fmt: skip
    assert facts["database"]["count"] == len(pipe.database)
