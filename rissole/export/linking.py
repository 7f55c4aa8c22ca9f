"""Graphs whose weights are those of the bundle's own files.

ONNX lets a weight lie in another file, at an offset. A bundle's safetensors hold all of them in
half precision, so a graph only has to say where. The graphs become small, and the page reads the
very files that Python reads: it hands their numbers to the runtime as float32, one after another
(`networks.js`), and offsets count in those. Graphs that cast by themselves would hold every weight
three times while they are made.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from rissole.storage.files import write_atomic

if TYPE_CHECKING:
    import onnx

SMALL = 32  # numbers; so few are not worth a link, and may be alike by chance


class Weight(NamedTuple):
    """Where a tensor lies.

    Attributes:
        file: name of the file beside the graph.
        name: of the tensor in it.
        shape: as stored.
        offset, length: in bytes, of the file's numbers as float32.
        turned: whether the graph wants it transposed.
    """

    file: str
    name: str
    shape: tuple[int, ...]
    offset: int
    length: int
    turned: bool = False


class Weights:
    """The half-precision tensors of some safetensors files, found by what they hold."""

    def __init__(self, files: Mapping[str, Path]):
        """Reads files, by the names that graphs will know them by."""
        # a bias and a copy of it with one more axis have the same bytes: the shape is in the key
        self._found: dict[tuple[tuple[int, ...], bytes], Weight] = {}
        for file, path in files.items():
            for weight, values in half_tensors(path, file):
                self._found.setdefault(_key(values), weight)
                if values.ndim == 2:
                    self._found.setdefault(_key(values.T), weight._replace(turned=True))

    def find(self, values: np.ndarray) -> Weight | None:
        """Where the file has exactly these float32 numbers."""
        if values.dtype != np.float32 or values.size <= SMALL:
            return None
        return self._found.get(_key(values))


def half_tensors(path: Path, file: str) -> Iterable[tuple[Weight, np.ndarray]]:
    """The float16 tensors of a safetensors file, as float32, and where they lie."""
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    for name, entry in json.loads(raw[8:start]).items():
        if entry.get("dtype") != "F16":
            continue
        begin, end = entry["data_offsets"]
        shape = tuple(entry["shape"])
        numbers = np.frombuffer(raw[start + begin : start + end], np.float16)
        place = Weight(file, name, shape, 2 * begin, 2 * (end - begin))
        yield place, numbers.reshape(shape).astype(np.float32)


def link(path: Path, weights: Weights) -> int:
    """Rewrites a graph so that it takes its weights from files; returns the bytes that remain."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(path))
    graph, remaining = model.graph, 0
    kept: list[onnx.TensorProto] = []
    nodes: list[onnx.NodeProto] = []
    placed: dict[tuple[str, str], str] = {}
    for tensor in graph.initializer:
        values = numpy_helper.to_array(tensor)
        weight = weights.find(values)
        if weight is None:
            kept.append(tensor)
            remaining += values.nbytes
            continue
        key = weight.file, weight.name
        if key not in placed:
            placed[key] = ":".join(key) if weight.turned else tensor.name
            kept.append(_outside(weight, placed[key]))
        if weight.turned:
            nodes.append(_node("Transpose", placed[key], tensor.name, perm=[1, 0]))
        elif placed[key] != tensor.name:
            nodes.append(_node("Identity", placed[key], tensor.name))
    _replace(graph.initializer, kept)
    _replace(graph.node, [*nodes, *graph.node])
    _forget(model)
    write_atomic(path, model.SerializeToString())
    return remaining


def _key(values: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    return values.shape, np.ascontiguousarray(values).tobytes()


def _outside(weight: Weight, name: str) -> onnx.TensorProto:
    """A tensor that says where its numbers are."""
    import onnx

    tensor = onnx.TensorProto()
    tensor.name, tensor.data_type = name, onnx.TensorProto.FLOAT
    tensor.dims.extend(weight.shape)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    place = {"location": weight.file, "offset": weight.offset, "length": weight.length}
    for key, value in place.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, str(value)
    return tensor


def _node(kind: str, source: str, target: str, **attributes: Any) -> onnx.NodeProto:
    from onnx import helper

    return helper.make_node(kind, [source], [target], **attributes)


def _replace(field: Any, entries: Iterable[Any]) -> None:
    """New entries of a repeated field, which has no assignment."""
    entries = list(entries)
    del field[:]
    field.extend(entries)


def _forget(model: onnx.ModelProto) -> None:
    """Drops what only says where a node came from, paths of this machine among it."""
    del model.graph.value_info[:]
    del model.metadata_props[:]
    for node in model.graph.node:
        node.doc_string = node.name = ""
        del node.metadata_props[:]
